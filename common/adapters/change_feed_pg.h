/*
 * The change feed on PostgreSQL's logical replication: slot and publication of their own, pgoutput.
 *
 * When the slot is missing, the events that are already in the table are delivered first, from the
 * snapshot of a temporary slot; the permanent slot is made as a copy of it only when they have been
 * confirmed. A crash in between begins anew: events may then be delivered twice, none is left out.
 */
#ifndef DAYBOOK_ADAPTERS_CHANGE_FEED_PG_H
#define DAYBOOK_ADAPTERS_CHANGE_FEED_PG_H

#include "common/base/log.h"
#include "common/ports/change_feed.h"
#include "common/runtime/metrics.h"

struct change_feed_pg_options {
    const char *url; /* borrowed; role with REPLICATION and SELECT on events */
    const char *slot;
    const char *publication;
    int64_t connect_timeout_ms;
    struct log *log;
    struct metrics *metrics;
};

struct change_feed *change_feed_pg_new(const struct change_feed_pg_options *options);

#endif
