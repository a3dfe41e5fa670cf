/*
 * A command on its way: made by the API from a request, decided and answered by the shard that owns
 * its stream. Lives in the request's arena; whoever holds the job may use that arena.
 */
#ifndef DAYBOOK_COMMAND_API_COMMAND_JOB_H
#define DAYBOOK_COMMAND_API_COMMAND_JOB_H

#include "common/base/arena.h"
#include "common/base/trace_context.h"
#include "common/domain/aggregate.h"

enum { EXPECT_ANY = -1, EXPECT_EXISTS = -2 }; /* expected_version; 0: must not exist */

struct stream_entry;

enum command_result { /* for metrics */
                      COMMAND_ACCEPTED,
                      COMMAND_REJECTED,
                      COMMAND_REPLAYED,
                      COMMAND_PRECONDITION_FAILED,
                      COMMAND_KEY_REUSED,
                      COMMAND_CONFLICT,
                      COMMAND_OVERLOADED,
                      COMMAND_UNAVAILABLE,
                      COMMAND_UNKNOWN,
                      COMMAND_DEFECT,
                      COMMAND_RESULTS,
};

struct command_job {
    /* What is asked. */
    const struct aggregate *aggregate;
    struct command command;
    int64_t expected_version;   /* EXPECT_ANY, EXPECT_EXISTS, or the version it must have */
    struct str idempotency_key; /* len 0: none */
    int64_t request_hash;
    struct str correlation_id;
    struct str causation_id;
    struct str actor;
    struct str traceparent;            /* of our own span, where there is one; else the client's */
    const struct trace_context *trace; /* the request's span; NULL: it is not recorded */
    int64_t accepted_at_us;            /* monotonic; when it came in */
    struct arena *arena;

    /* What is answered. */
    int status; /* HTTP */
    enum command_result result;
    const char *rejection_code; /* with COMMAND_REJECTED: a literal */
    bool is_problem;
    bool replayed;
    struct str body;
    int64_t version; /* of the stream; 0 when it doesn't exist or isn't known */

    /* The shard's. */
    struct stream_entry *entry;
    size_t arrival; /* its place in the batch as it came in */
    struct command_job *next_in_stream;
    struct command_job *repeats; /* the job of this batch with the same key */
    bool done;
    int64_t decided_from_us, decided_to_us; /* wall clock; where there is a trace */

    /* Hands the job back, from the shard's thread. */
    void (*finish)(struct command_job *job);
    void *context;
};

#endif
