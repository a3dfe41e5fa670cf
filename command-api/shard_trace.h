/* The spans of a command inside its shard: how it was decided, and the append that it shared. */
#ifndef DAYBOOK_COMMAND_API_SHARD_TRACE_H
#define DAYBOOK_COMMAND_API_SHARD_TRACE_H

#include "command-api/command_job.h"
#include "common/runtime/tracing.h"

/* The batch's last try to append; from_us 0: there was none. */
struct shard_append {
    int64_t from_us, to_us; /* wall clock */
    int64_t commands;       /* in the batch */
    int64_t events;
    bool failed;
};

/*
 * For a job with a trace that has its answer. Both spans are children of the request's. One append
 * serves many commands: each gets a span of its own with the append's times and the batch's size,
 * so that every trace is whole by itself.
 */
void shard_trace_job(struct tracer *tracer, const struct command_job *job,
                     const struct shard_append *append);

#endif
