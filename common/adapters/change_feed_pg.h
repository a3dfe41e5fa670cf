/*
 * The change feed on PostgreSQL's logical replication: slot and publication of their own, pgoutput.
 *
 * The place in the log is lost when the slot is missing (first start, dropped, not in a backup),
 * invalidated (max_slot_wal_keep_size), or beyond what was ever confirmed (advanced or made by
 * hand), when the topic ends before what it once held, or when it
 * has events that the table has not (the database was restored). In all these cases the feed says
 * why, catches up from the table (catch_up_pg.h) from a point before which all is known to be in
 * the topic (relay_state_pg.h), under a new incarnation, and goes on from a new slot. A crash in
 * between begins anew: events may then be delivered again, none is left out.
 *
 * Who holds the slot is the one reader. It proves every quarter of a second that it still does.
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
