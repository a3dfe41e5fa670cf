/* A projection's sink in PostgreSQL: its tables in the schema daybook (live) or daybook_build
 * (being rebuilt), daybook.checkpoints and daybook.parked_events (infra/postgres/read), changed in
 * one transaction. */
#ifndef DAYBOOK_ADAPTERS_SINK_PG_H
#define DAYBOOK_ADAPTERS_SINK_PG_H

#include "common/base/log.h"
#include "common/ports/projection_sink.h"
#include "common/runtime/health.h"

struct sink_pg_options {
    const char *url; /* borrowed */
    const struct projection *projection;
    enum sink_stage stage;
    int64_t connect_timeout_ms;
    int64_t statement_timeout_ms;
    struct log *log;
    struct health_component *health;
};

struct projection_sink *sink_pg_new(const struct sink_pg_options *options);

#endif
