/* The event store on PostgreSQL: daybook.events and daybook.command_outcomes
 * (infra/postgres/write/001_event_log.sql). */
#ifndef DAYBOOK_ADAPTERS_EVENT_STORE_PG_H
#define DAYBOOK_ADAPTERS_EVENT_STORE_PG_H

#include "common/base/log.h"
#include "common/ports/event_store.h"
#include "common/runtime/health.h"

struct event_store_pg_options {
    const char *url; /* borrowed for the store's life */
    int64_t connect_timeout_ms;
    int64_t statement_timeout_ms;
    struct log *log;
    struct health_component *health;
};

/* Doesn't connect yet. */
struct event_store *event_store_pg_new(const struct event_store_pg_options *options);

#endif
