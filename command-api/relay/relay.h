/*
 * The relay: from the change feed to the publisher, in the order of commit.
 *
 * Invariants
 *  1. A position is confirmed to the feed only when every change up to it has been acknowledged by
 *     the publisher or was seen in the topic.
 *  2. Changes are published in the order of the feed, each to the partition of its stream id.
 *  3. A change whose (incarnation, commit_lsn, seq) is not behind its partition's tail is in the
 *     topic: skipped.
 *  4. When the publisher or the feed fails, both are closed and opened anew, tails are read again:
 *     there is one way to begin, also after a failure. But for a record that the topic can't take
 *     while the feed catches up: nothing is confirmed before the table's end, so beginning anew
 *     would publish all of it again at each try. The feed is held, the publisher alone is opened
 *     anew, once nothing is on its way.
 *  5. Transactions in flight are bounded by RELAY_TRANSACTIONS_MAX, records by the publisher.
 *  6. Tails are read by the holder of the feed alone, behind the fence: when no record of an
 *     earlier holder can be appended any more. Only then does the holder's name replace that of the
 *     one before, so a take-over that is cut short leaves the wait to the next one.
 *  7. What was queued before a record that the topic can't take is delivered and confirmed before
 *     the ends are closed, if that takes no longer than BEFORE_TOO_LARGE_MS.
 *  8. What waits proves the feed meanwhile, but for opening the publisher and one reading of the
 *     tails: when brokers take longer for that than the server waits for a sign of life, it gives
 *     the slot away, and the feed says so when it is to begin. Beginning proves anew: a stamp is
 *     never older than the longest of confirm's own waits.
 *
 *   closed ──▶ feed open ──▶ fence passed ──▶ publisher open ──▶ tails settled ──▶ feed begun
 *     ▲            └─ held by another: stand by ──▶ closed                             │
 *     └───────────────────────────────── error ◀──────────────────────────── running ◀┘
 *
 * The fence
 *  Nobody can tell a process that was stopped (SIGSTOP, a suspended machine) from a dead one, and
 *  when it goes on it sends what it had in hand. So the broker decides. Each record is stamped with
 *  the time, by PostgreSQL's clock, for which its relay last had proof that it held the slot, and
 *  the topic refuses records whose stamp lies more than fence_ms back
 *  (message.timestamp.before.max.ms). PostgreSQL lets one session hold the slot, so every stamp of
 *  an earlier holder is older than its successor's hold. A new holder therefore waits fence_ms, and
 *  a second for clocks that differ, before it reads the tails: from then on nothing of an earlier
 *  one is accepted, whenever it arrives, and what the tails say stays true. A relay that is refused
 *  starts anew and finds the slot taken: it stands by.
 *
 *  The wait is skipped when the earlier holder said that it had nothing on its way (an orderly
 *  end), or its process has certainly ended: same machine, and no such process any more. What a
 *  dead process had handed to the kernel still arrives; so the tails are read until two readings,
 *  settle_ms apart, agree.
 *
 *  What remains
 *  a. A broker shows a partition up to what all in-sync followers have, and no client can ask how
 *     far its log goes. Where a follower of a replicated topic stands still, without having been
 * put out of the in-sync set yet (replica.lag.time.max.ms, 30 s), at the very time at which a
 * holder with records on their way is killed, these are appended and not seen: they would be
 * published again. Readings that agree for settle_ms (longer for replicated topics) make that a
 * stall of that length. It does not pass unnoticed: the first record of a run has to get the offset
 *     behind the end that was read; what lies between is logged and counted
 *     (daybook_relay_unseen_records_total), and verify names it. Consumers ignore the repetition.
 *  b. PostgreSQL's clock and the brokers' must agree within a second (CLOCK_SKEW_MS).
 *  c. Records that wait for a broker for longer than the fence are refused when it is back; the
 *     relay begins anew from the tails. A broker that is merely slow is given no more than it takes
 *     in time: while a partition is late by a quarter of the fence, nothing more is published to
 *     it (delay.h), nor what comes behind that in the log.
 */
#ifndef DAYBOOK_COMMAND_API_RELAY_RELAY_H
#define DAYBOOK_COMMAND_API_RELAY_RELAY_H

#include "common/base/log.h"
#include "common/ports/change_feed.h"
#include "common/ports/publisher.h"
#include "common/runtime/health.h"
#include "common/runtime/metrics.h"
#include "common/runtime/stop.h"
#include "common/runtime/tracing.h"

enum { RELAY_TRANSACTIONS_MAX = 65536 };

struct relay_options {
    struct change_feed *feed;    /* borrowed, used by relay_run's thread alone */
    struct publisher *publisher; /* the same */
    int32_t partitions;
    int64_t standby_retry_ms;
    int64_t retry_first_ms; /* after a failure; doubling, with jitter, to retry_cap_ms */
    int64_t retry_cap_ms;
    int64_t drain_ms;
    int64_t fence_ms;     /* how old a stamp the topic accepts */
    int64_t settle_ms;    /* between two readings of the tails that must agree */
    bool refer_too_large; /* what is larger than a record may be goes out without its payload;
                             false: the relay waits, and says so, until it may be larger */
    struct stop *stop;
    struct log *log;
    struct metrics *metrics;
    struct tracer *tracer; /* NULL: no traces */
    const char *topic;     /* its name, for traces */
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
