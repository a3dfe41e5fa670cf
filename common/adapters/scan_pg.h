/* A scan of PostgreSQL: one snapshot (REPEATABLE READ) from open to close. */
#ifndef DAYBOOK_ADAPTERS_SCAN_PG_H
#define DAYBOOK_ADAPTERS_SCAN_PG_H

#include "common/base/log.h"
#include "common/ports/model_scan.h"

struct scan_pg_options {
    const char *url; /* borrowed */
    const struct projection *projection;
    int32_t partitions;
    int64_t connect_timeout_ms;
    int64_t statement_timeout_ms;
    struct log *log;
};

struct model_scan *scan_pg_new(const struct scan_pg_options *options);

#endif
