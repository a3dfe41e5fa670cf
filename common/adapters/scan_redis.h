/* A scan of Redis: keys a few at a time, each time together with the checkpoint in one script. */
#ifndef DAYBOOK_ADAPTERS_SCAN_REDIS_H
#define DAYBOOK_ADAPTERS_SCAN_REDIS_H

#include "common/base/log.h"
#include "common/ports/model_scan.h"

struct scan_redis_options {
    const char *url; /* borrowed */
    const struct projection *projection;
    int32_t partitions;
    int64_t timeout_ms;
    struct log *log;
};

/* ERR_INVALID: the URL. */
MUST_CHECK enum err_code scan_redis_new(const struct scan_redis_options *options,
                                        struct model_scan **out, struct err *err);

#endif
