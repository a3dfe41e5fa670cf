/* Spans of applying: one per record of a recorded trace, for each store that took it. */
#ifndef DAYBOOK_PROJECTOR_APPLY_TRACE_H
#define DAYBOOK_PROJECTOR_APPLY_TRACE_H

#include "projector/engine.h"

/* An event that was recorded longer ago is history that is caught up with: no span. */
#define APPLY_TRACE_AGE_MAX_US INT64_C(3600000000)

/* The sink has taken the batch, which was begun at `started_us` (monotonic). Its records share the
 * batch's times. Only where there is a tracer. */
void apply_trace(const struct engine_options *options, const struct consumed_record *records,
                 size_t count, int64_t started_us);

#endif
