/*
 * Spans of publishing, from the hand-over to the publisher to the broker's acknowledgement. Within
 * a partition records are acknowledged in the order in which they were sent, each once: so the n-th
 * delivery of a partition is the n-th record sent to it. At most PUBLISH_TRACES_MAX are open; what
 * is published beyond has no span.
 */
#ifndef DAYBOOK_COMMAND_API_RELAY_PUBLISH_TRACE_H
#define DAYBOOK_COMMAND_API_RELAY_PUBLISH_TRACE_H

#include "common/ports/recorded_event.h"
#include "common/runtime/tracing.h"

enum { PUBLISH_TRACES_MAX = 4096 };
/* An event that was recorded longer ago is history that is caught up with: no span. */
#define PUBLISH_TRACE_AGE_MAX_US INT64_C(3600000000)

struct publish_trace;

/* `topic`: borrowed. NULL when `tracer` is. */
struct publish_trace *publish_trace_new(struct tracer *tracer, const char *topic);
void publish_trace_free(struct publish_trace *trace);

/* True: the record is to carry `traceparent`, the publishing's own. Kept until `sent`, or until the
 * next begin, when it was not sent. */
MUST_CHECK bool publish_trace_begin(struct publish_trace *trace, const struct recorded_event *event,
                                    char traceparent[TRACEPARENT_BYTES]);
/* Of each record that the publisher has taken, after its begin. */
void publish_trace_sent(struct publish_trace *trace, int32_t partition);
/* Of each delivery. `offset` negative: not told. */
void publish_trace_delivered(struct publish_trace *trace, int32_t partition, int64_t offset);
/* The publisher was opened anew: nothing is on its way. `trace` may be NULL. */
void publish_trace_reset(struct publish_trace *trace);

#endif
