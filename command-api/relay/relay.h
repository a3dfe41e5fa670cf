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
 *   closed ──▶ publisher open ──▶ tails read ──▶ feed open (or stand by) ──▶ running ──error──▶
 * closed
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
