/*
 * A lane: one sink of one projection, with a thread and a pace of its own, and a tap of
 * the process's reader (reader_hub.h). A store that
 * is slow or gone holds up nobody else. The lane is told which partitions are this replica's; it
 * asks its store where each stands, reads on from there and applies what has arrived, a lone record
 * at once, under load in batches that grow by themselves. Where a batch costs the store much more
 * than a record, the lane has a pace: while records keep coming it lets them gather so long.
 *
 *     wanted ──begin──▶ begun ──record──▶ applied ──▶ …
 *       ▲                 │ fenced, outage, checkpoint changed (looked at every second)
 *       └── after a wait ─┘
 *
 * A store that has lost its data shows no checkpoint: it is filled again (refill.h), then from the
 * log.
 */
#ifndef DAYBOOK_PROJECTOR_LANE_H
#define DAYBOOK_PROJECTOR_LANE_H

#include "common/ports/model_scan.h"
#include "common/runtime/health.h"
#include "common/runtime/stop.h"
#include "projector/engine.h"

struct lane_options {
    const struct projection *projection;
    struct projection_sink *sink;   /* borrowed, used by the lane's thread alone */
    struct event_reader *reader;    /* the same */
    struct model_scan *refill_from; /* the same; NULL: from the log only */
    int32_t partitions;
    size_t batch_max;
    int64_t pace_ms;  /* between two batches, when they follow each other; 0: none */
    int64_t stall_ms; /* no progress for so long while there is a lag: not ready */
    struct stop *stop;
    struct log *log;
    struct metrics *metrics;
    struct health *health;
    struct tracer *tracer; /* NULL: no traces */
};

struct lane;

MUST_CHECK enum err_code lane_start(const struct lane_options *options, struct lane **out,
                                    struct err *err);
/* From any thread: the whole share from now on, TOPIC_PARTITIONS_MAX of them. */
void lane_assign(struct lane *lane, const bool *mine);
/* From any thread: the first offset not applied; -1: not known. */
int64_t lane_position(const struct lane *lane, int32_t partition);
/* For another thread, which is alive when this lane's hangs in one call: makes /ready fail when a
 * single turn has taken longer than a stall may. */
void lane_watch(struct lane *lane);
/* Waits for the thread: it ends when the stop is requested, after the batch in hand. */
void lane_join(struct lane *lane);

#endif
