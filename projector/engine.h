/*
 * The engine: applies the records of partitions to one sink of one projection.
 *
 * Invariants
 *  1. Rows, parked streams and checkpoint change in one step, compared with the checkpoint that
 *     this replica expects. So each sink is exactly-once by itself.
 *  2. What becomes of a record is decided in fold.h. Versions known from the sink are kept in
 *     memory as long as the checkpoint proves that nobody else has written.
 *  3. After any failure nothing is believed any more: the partition is begun anew, from what the
 *     sink says. ERR_FENCED tells that another replica has written, or that the sink has lost its
 *     data, or that somebody changed the model from outside.
 *  4. Data that the sink refuses are poison, not an outage: the record at fault is found by halving
 *     the batch and parked.
 * Belongs to one thread.
 */
#ifndef DAYBOOK_PROJECTOR_ENGINE_H
#define DAYBOOK_PROJECTOR_ENGINE_H

#include "common/base/log.h"
#include "common/ports/projection_sink.h"
#include "common/runtime/metrics.h"
#include "common/runtime/tracing.h"

enum { ENGINE_BATCH_MAX = 8192, ENGINE_STREAMS_MAX = 100000 };

/* One partition's share of what is to be applied, as for engine_apply. */
struct engine_share {
    int32_t partition;
    const struct consumed_record *records;
    size_t count;
    enum err_code code; /* what became of it, of which err tells more */
    struct err err;
};

struct engine_options {
    const struct projection *projection;
    struct projection_sink *sink; /* borrowed */
    struct log *log;
    struct metrics *metrics;
    struct tracer *tracer; /* NULL: no traces */
    size_t batch_max;      /* records, at most ENGINE_BATCH_MAX */
};

struct engine;

struct engine *engine_new(const struct engine_options *options);
void engine_free(struct engine *engine);

/* Reads where the sink stands; *at may be none. ERR_CLOSED: the model is of another version of the
 * projection, *at tells which. */
MUST_CHECK enum err_code engine_begin(struct engine *engine, int32_t partition,
                                      struct sink_checkpoint *at, struct err *err);
void engine_end(struct engine *engine, int32_t partition);
/* As believed; next SINK_NO_CHECKPOINT: nothing applied yet. */
struct sink_checkpoint engine_position(const struct engine *engine, int32_t partition);
size_t engine_parked_streams(const struct engine *engine, int32_t partition);

/* Applies records of one partition, offsets ascending, at most batch_max. Those that the checkpoint
 * covers are left out. Anything but ERR_OK: begin the partition anew; part may have been applied.
 */
MUST_CHECK enum err_code engine_apply(struct engine *engine, int32_t partition,
                                      const struct consumed_record *records, size_t count,
                                      struct err *err);
/* The same for different partitions, ascending, at most batch_max records together, at once; where
 * that fails for a reason that may be one partition's alone, each by itself; after an outage, too,
 * when it is tried again, since it may be a lock on one of them. Once the sink can't be reached the
 * shares that are left get that code untried. */
void engine_apply_all(struct engine *engine, struct engine_share *shares, size_t count);
/* Has the sink still what we believe, in all these partitions? ERR_FENCED: not in *changed. */
MUST_CHECK enum err_code engine_check(struct engine *engine, const int32_t *partitions,
                                      size_t count, int32_t *changed, struct err *err);

#endif
