#include "command-api/shard_trace.h"

static void end_decision(struct tracer *tracer, const struct command_job *job) {
    const struct trace_context context = tracer_child(job->trace);
    struct span span;

    span_init(&span, &context, job->trace, SPAN_INTERNAL, job->decided_from_us);
    span_name(&span, "decide %s", job->command.type->name);
    span_put_text(&span, "daybook.command", str_from(job->command.type->name));
    span_put_text(&span, "daybook.stream_id", str_from(job->command.stream_id));
    span_put_number(&span, "daybook.status", job->status);
    span.failed = job->status >= 500;
    span.end_us = job->decided_to_us;
    tracer_end(tracer, &span);
}

static void end_append(struct tracer *tracer, const struct command_job *job,
                       const struct shard_append *append) {
    const struct trace_context context = tracer_child(job->trace);
    struct span span;

    span_init(&span, &context, job->trace, SPAN_CLIENT, append->from_us);
    span_name(&span, "append");
    span_put_text(&span, "db.system.name", STR("postgresql"));
    span_put_text(&span, "db.collection.name", STR("daybook.events"));
    span_put_number(&span, "daybook.batch.commands", append->commands);
    span_put_number(&span, "daybook.batch.events", append->events);
    span_put_number(&span, "daybook.version", job->version);
    span.failed = append->failed;
    span.end_us = append->to_us;
    tracer_end(tracer, &span);
}

void shard_trace_job(struct tracer *tracer, const struct command_job *job,
                     const struct shard_append *append) {
    const bool decided = job->decided_from_us != 0;
    /* A rejection without a key leaves nothing in the log. */
    const bool took_part =
        job->repeats == NULL && !job->replayed &&
        (job->status < 300 || job->status >= 500 || job->idempotency_key.len > 0);

    if (decided) {
        end_decision(tracer, job);
    }
    if (decided && took_part && append->from_us != 0) {
        end_append(tracer, job, append);
    }
}
