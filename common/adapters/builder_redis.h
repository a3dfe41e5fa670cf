/* A builder in Redis: the new model's keys carry its number (redis_model.h); the switch writes that
 * number into the live checkpoint, partition by partition. */
#ifndef DAYBOOK_ADAPTERS_BUILDER_REDIS_H
#define DAYBOOK_ADAPTERS_BUILDER_REDIS_H

#include "common/base/log.h"
#include "common/ports/model_builder.h"

struct builder_redis_options {
    const char *url; /* borrowed */
    const struct projection *projection;
    int32_t partitions;
    int64_t timeout_ms;
    struct log *log;
};

/* ERR_INVALID: the URL. */
MUST_CHECK enum err_code builder_redis_new(const struct builder_redis_options *options,
                                           struct model_builder **out, struct err *err);

#endif
