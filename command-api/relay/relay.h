/*
 * The relay: from the change feed to the publisher, in the order of commit.
 *
 * Invariants
 *  1. A position is confirmed to the feed only when every change up to it has been acknowledged by
 *     the publisher or was seen in the topic.
 *  2. Changes are published in the order of the feed, each to the partition of its stream id.
 *  3. A change whose (commit_lsn, seq) is not behind its partition's tail is in the topic: skipped.
 *  4. When the publisher or the feed fails, both are closed and opened anew, tails are read again:
 *     there is one way to begin, also after a failure.
 *  5. Transactions in flight are bounded by RELAY_TRANSACTIONS_MAX, records by the publisher.
 *
 *  6. Tails are read by the holder of the feed alone. A tail ahead of the log is refused: the log
 * was restored, and new changes would be taken for published ones.
 *
 *   closed ──▶ feed open ──▶ publisher open ──▶ tails read ──▶ running ──error──▶ closed
 *                  └─ held by another: stand by ──▶ closed
 *
 * What is not covered: records of a previous holder (or of this relay's previous publisher) that
 * are still on their way to the broker when the tails are read land behind them and are then in the
 * topic twice. The window is what the broker takes to append what it has received from a connection
 * that has ended, or how long a paused process keeps its unsent records.
 */
#ifndef DAYBOOK_COMMAND_API_RELAY_RELAY_H
#define DAYBOOK_COMMAND_API_RELAY_RELAY_H

#include "common/base/log.h"
#include "common/ports/change_feed.h"
#include "common/ports/publisher.h"
#include "common/runtime/health.h"
#include "common/runtime/metrics.h"
#include "common/runtime/stop.h"

enum { RELAY_TRANSACTIONS_MAX = 65536 };

struct relay_options {
    struct change_feed *feed;    /* borrowed, used by relay_run's thread alone */
    struct publisher *publisher; /* the same */
    int32_t partitions;
    int64_t standby_retry_ms;
    int64_t retry_first_ms; /* after a failure; doubling, with jitter, to retry_cap_ms */
    int64_t retry_cap_ms;
    int64_t drain_ms;
    struct stop *stop;
    struct log *log;
    struct metrics *metrics;
    struct health_component *feed_health;
    struct health_component *publisher_health;
};

struct relay;

struct relay *relay_new(const struct relay_options *options);
void relay_free(struct relay *relay);

/* Runs until the stop is requested, then drains: what was published is waited for (at most
 * drain_ms) and confirmed. */
void relay_run(struct relay *relay);

#endif
