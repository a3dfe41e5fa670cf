#include "command-api/relay/publish_trace.h"

#include <inttypes.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/ports/change_feed.h"

enum { NONE = -1 };

/* A record on its way whose publishing is recorded. */
struct open_span {
    struct span span;
    uint64_t number; /* of the record in its partition */
    int32_t next;    /* in its partition, or in the free list */
};

struct lane {
    uint64_t sent, delivered;
    int32_t first, last; /* open spans in the order of sending */
};

struct publish_trace {
    struct tracer *tracer;
    const char *topic;
    struct span begun; /* not sent yet */
    bool has_begun;
    struct lane lanes[PUBLISHER_PARTITIONS_MAX];
    struct open_span open[PUBLISH_TRACES_MAX];
    int32_t free;
};

void publish_trace_reset(struct publish_trace *trace) {
    if (trace == NULL) {
        return;
    }
    for (size_t i = 0; i < PUBLISHER_PARTITIONS_MAX; i++) {
        trace->lanes[i] = (struct lane){.first = NONE, .last = NONE};
    }
    for (int32_t i = 0; i < PUBLISH_TRACES_MAX; i++) {
        trace->open[i].next = i + 1 < PUBLISH_TRACES_MAX ? i + 1 : NONE;
    }
    trace->free = 0;
    trace->has_begun = false;
}

struct publish_trace *publish_trace_new(struct tracer *tracer, const char *topic) {
    if (tracer == NULL) {
        return NULL;
    }
    struct publish_trace *trace = mem_zalloc(sizeof(*trace));
    trace->tracer = tracer;
    trace->topic = topic;
    publish_trace_reset(trace);
    return trace;
}

void publish_trace_free(struct publish_trace *trace) {
    mem_free(trace);
}

bool publish_trace_begin(struct publish_trace *trace, const struct recorded_event *event,
                         char traceparent[TRACEPARENT_BYTES]) {
    const int64_t now_us = clock_wall_us();
    struct trace_context parent;
    struct trace_context own;

    trace->has_begun = false;
    if (trace->free == NONE || now_us - event->recorded_at_us > PUBLISH_TRACE_AGE_MAX_US ||
        !trace_context_parse(event->traceparent, &parent) ||
        !tracer_begin(trace->tracer, &parent, &own)) {
        return false;
    }
    struct span *span = &trace->begun;
    char id[UUID_TEXT_BYTES];
    uuid_format(id, &event->event_id);
    span_init(span, &own, &parent, SPAN_PRODUCER, now_us);
    span_name(span, "send %s", trace->topic);
    span_put_text(span, "messaging.system", STR("kafka"));
    span_put_text(span, "messaging.operation.type", STR("send"));
    span_put_text(span, "messaging.destination.name", str_from(trace->topic));
    span_put_text(span, "messaging.message.id", str_from(id));
    span_put_text(span, "messaging.kafka.message.key", event->stream_id);
    span_put_text(span, "daybook.event_type", event->event_type);
    span_put_number(span, "daybook.version", event->version);
    span_put_number(span, "daybook.since_recorded_us", now_us - event->recorded_at_us);
    trace_context_format(traceparent, &own);
    trace->has_begun = true;
    return true;
}

void publish_trace_sent(struct publish_trace *trace, int32_t partition) {
    struct lane *lane = &trace->lanes[partition];
    const uint64_t number = lane->sent++;

    if (!trace->has_begun) {
        return;
    }
    const int32_t at = trace->free; /* begin saw that there is one */
    struct open_span *open = &trace->open[at];
    trace->free = open->next;
    open->span = trace->begun;
    open->number = number;
    open->next = NONE;
    if (lane->last == NONE) {
        lane->first = at;
    } else {
        trace->open[lane->last].next = at;
    }
    lane->last = at;
    trace->has_begun = false;
}

void publish_trace_delivered(struct publish_trace *trace, int32_t partition, int64_t offset) {
    struct lane *lane = &trace->lanes[partition];
    const uint64_t number = lane->delivered++;
    const int32_t at = lane->first;

    if (at == NONE || trace->open[at].number != number) {
        return;
    }
    struct open_span *open = &trace->open[at];
    lane->first = open->next;
    lane->last = lane->first == NONE ? NONE : lane->last;
    open->next = trace->free;
    trace->free = at;
    span_put_number(&open->span, "messaging.destination.partition.id", partition);
    if (offset >= 0) {
        span_put_number(&open->span, "messaging.kafka.offset", offset);
    }
    open->span.end_us = clock_wall_us();
    tracer_end(trace->tracer, &open->span);
}
