/*
 * A projection's sink in Redis: a hash per row, all keys of a partition in one hash slot ({pN}),
 * and the checkpoint beside them; one script call changes all.
 *
 *   {pN}:<prefix>:<key>            the row; its `version` is the stream's head
 *   {pN}:checkpoint:<projection>   next offset, decimal
 *   daybook:partitions             the partition count that keys are made with
 */
#ifndef DAYBOOK_ADAPTERS_SINK_REDIS_H
#define DAYBOOK_ADAPTERS_SINK_REDIS_H

#include "common/base/log.h"
#include "common/ports/projection_sink.h"
#include "common/runtime/health.h"

struct sink_redis_options {
    const char *url; /* borrowed */
    const struct projection *projection;
    int32_t partitions;
    int64_t timeout_ms;
    struct log *log;
    struct health_component *health;
};

/* ERR_INVALID: the URL. */
MUST_CHECK enum err_code sink_redis_new(const struct sink_redis_options *options,
                                        struct projection_sink **out, struct err *err);

#endif
