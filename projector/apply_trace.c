#include "projector/apply_trace.h"

#include "common/base/clock.h"

void apply_trace(const struct engine_options *options, const struct consumed_record *records,
                 size_t count, int64_t started_us) {
    const char *const projection = options->projection->name;
    const char *const sink = options->sink->ops->name;
    const int64_t now_us = clock_wall_us();
    const int64_t from_us = now_us - (clock_monotonic_us() - started_us);

    for (size_t i = 0; i < count; i++) {
        const struct recorded_event *event = &records[i].event;
        struct trace_context parent;
        struct trace_context own;
        struct span span;

        if (event->traceparent.len == 0 ||
            now_us - event->recorded_at_us > APPLY_TRACE_AGE_MAX_US ||
            !trace_context_parse(event->traceparent, &parent) ||
            !tracer_begin(options->tracer, &parent, &own)) {
            continue;
        }
        span_init(&span, &own, &parent, SPAN_CONSUMER, from_us);
        span_name(&span, "apply %s (%s)", projection, sink);
        span_put_text(&span, "messaging.system", STR("kafka"));
        span_put_text(&span, "messaging.operation.type", STR("process"));
        span_put_text(&span, "messaging.kafka.message.key", event->stream_id);
        span_put_number(&span, "messaging.destination.partition.id", records[i].partition);
        span_put_number(&span, "messaging.kafka.offset", records[i].offset);
        span_put_number(&span, "messaging.batch.message_count", (int64_t)count);
        span_put_text(&span, "daybook.projection", str_from(projection));
        span_put_text(&span, "daybook.sink", str_from(sink));
        span_put_number(&span, "daybook.version", event->version);
        span_put_number(&span, "daybook.since_recorded_us", now_us - event->recorded_at_us);
        span.end_us = now_us;
        tracer_end(options->tracer, &span);
    }
}
