/*
 * A worker: one projection's thread. It polls the consumer, gathers what has arrived per partition,
 * and has the engine apply it. A lone record is applied at once; under load batches grow by
 * themselves up to batch_max.
 */
#ifndef DAYBOOK_PROJECTOR_WORKER_H
#define DAYBOOK_PROJECTOR_WORKER_H

#include "projector/engine.h"

struct worker_options {
    struct engine *engine;           /* borrowed, used by the worker's thread alone */
    struct event_consumer *consumer; /* the same */
    const struct projection *projection;
    size_t batch_max;
    struct stop *stop;
    struct log *log;
    struct metrics *metrics;
    struct health_component *health; /* of the consumer */
};

struct worker;

MUST_CHECK enum err_code worker_start(const struct worker_options *options, struct worker **out,
                                      struct err *err);
/* Waits for the thread: it ends when the stop is requested, after the batch in hand. */
void worker_join(struct worker *worker);

#endif
