/* A projection's sink in Redis: one script call per batch changes rows, parked streams and the
 * checkpoint. The keys: redis_model.h. */
#ifndef DAYBOOK_ADAPTERS_SINK_REDIS_H
#define DAYBOOK_ADAPTERS_SINK_REDIS_H

#include "common/base/log.h"
#include "common/ports/projection_sink.h"
#include "common/runtime/health.h"

struct sink_redis_options {
    const char *url; /* borrowed */
    const struct projection *projection;
    enum sink_stage stage;
    int32_t partitions;
    int64_t timeout_ms;
    struct log *log;
    struct health_component *health;
};

/* ERR_INVALID: the URL. */
MUST_CHECK enum err_code sink_redis_new(const struct sink_redis_options *options,
                                        struct projection_sink **out, struct err *err);

#endif
