/*
 * The engine: applies the records of a topic's partitions to one projection's sinks.
 *
 * Invariants
 *  1. Each sink is exactly-once by itself: its rows and its checkpoint change in one step, compared
 *     with the checkpoint that this replica expects. Sinks don't wait for each other's success:
 * after a crash between two, each goes on from its own checkpoint.
 *  2. Per stream and sink, version v is applied only on v - 1. An older one is a repetition:
 * counted and ignored. A newer one is a gap; an event that can't be decoded or lacks its metadata
 * is poison: both stop that stream for this projection, loudly, since its head no longer moves. All
 *     other streams go on.
 *  3. ERR_FENCED from a sink means that what we know of the partition is no longer true: another
 *     replica has it, or the sink has lost its data. Nothing was written; positions are read anew.
 * Belongs to one thread.
 */
#ifndef DAYBOOK_PROJECTOR_ENGINE_H
#define DAYBOOK_PROJECTOR_ENGINE_H

#include "common/base/log.h"
#include "common/ports/event_consumer.h"
#include "common/ports/projection_sink.h"
#include "common/runtime/health.h"
#include "common/runtime/metrics.h"
#include "common/runtime/stop.h"

enum { ENGINE_SINKS_MAX = 2, ENGINE_BATCH_MAX = 8192 };

struct engine_options {
    const struct projection *projection;
    struct projection_sink *sinks[ENGINE_SINKS_MAX]; /* borrowed */
    size_t sink_count;
    struct stop *stop;
    struct log *log;
    struct metrics *metrics;
    struct health_component *health; /* degraded while a stream is stopped */
    size_t batch_max;                /* records, at most ENGINE_BATCH_MAX */
};

struct engine;

struct engine *engine_new(const struct engine_options *options);
void engine_free(struct engine *engine);

/* Reads the partition's checkpoints from the sinks; *offset is where to begin. Retries outages
 * until the stop is requested (ERR_CLOSED then). */
MUST_CHECK enum err_code engine_begin_partition(struct engine *engine, int32_t partition,
                                                int64_t *offset, struct err *err);

/* Applies records of one partition, offsets ascending, at most batch_max. Outages are retried with
 * back-off until the stop is requested (ERR_CLOSED). ERR_FENCED: begin the partition anew. */
MUST_CHECK enum err_code engine_apply(struct engine *engine, int32_t partition,
                                      const struct consumed_record *records, size_t count,
                                      struct err *err);

#endif
