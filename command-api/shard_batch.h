/*
 * Commands that are decided and appended together, in one transaction. It works on the states in
 * memory; the store is the shard's business. Belongs to the shard's thread.
 *
 * A stream belongs to one batch at a time: what comes for it meanwhile is held back by
 * shard_batch_begin, so that batches on their way at once have no stream in common.
 */
#ifndef DAYBOOK_COMMAND_API_SHARD_BATCH_H
#define DAYBOOK_COMMAND_API_SHARD_BATCH_H

#include "command-api/command_job.h"
#include "command-api/shard_metrics.h"
#include "command-api/shard_trace.h"
#include "command-api/stream_cache.h"
#include "common/base/log.h"
#include "common/ports/event_store.h"

enum {
    SHARD_BATCH_MAX = 1024,
    SHARD_EVENTS_MAX = SHARD_BATCH_MAX * DECISION_EVENTS_MAX,
};

/* What deciding needs beside the batch; the shard has one. */
struct shard_decider {
    struct log *log;
    struct uuid_source uuids;
    struct decision decision;
};

struct shard_batch {
    struct command_job *jobs[SHARD_BATCH_MAX]; /* by stream, then in order of arrival */
    size_t job_count;
    struct recorded_event events[SHARD_EVENTS_MAX];
    size_t event_count;
    struct command_outcome outcomes[SHARD_BATCH_MAX];
    size_t outcome_count;
    int64_t append_from_us;     /* monotonic, of the last try; */
    int64_t append_to_us;       /* its end */
    int64_t served_from_us;     /* the store has nothing else to do since then */
    int64_t look_at_us;         /* when to look for another batch, */
    int64_t step_us;            /* and how long after that once more */
    struct shard_append append; /* the last try, where there are traces */
};

/* Takes the jobs, but those whose stream another batch works on: these go to `held` in their order
 * (it may be `jobs` itself). Returns how many. */
size_t shard_batch_begin(struct shard_batch *batch, struct stream_cache *cache,
                         const struct shard_metrics *metrics, struct command_job *const *jobs,
                         size_t count, struct command_job **held);

enum load_scope {
    LOAD_MISSING,  /* not in memory */
    LOAD_DOUBTFUL, /* a command was refused on a state that was not read for this batch */
    LOAD_ALL,
};

/* The streams that must be brought up to the log, each once; returns how many, at most one for each
 * job. */
size_t shard_batch_streams(const struct shard_batch *batch, enum load_scope scope,
                           struct stream_entry **entries);

/* Decides all jobs that have no answer, from the committed states, and records events and outcomes.
 * May be done again after loading. */
void shard_batch_decide(struct shard_batch *batch, struct shard_decider *decider);
/* What there is to append; good as long as the batch is not decided again. */
struct append_batch shard_batch_append(const struct shard_batch *batch);
/* The keys of jobs without an answer, each with its job; returns how many. */
size_t shard_batch_keys(const struct shard_batch *batch, struct outcome_key *keys,
                        struct command_job **jobs);

/* It is in the log: the working states are the committed ones. */
void shard_batch_committed(struct shard_batch *batch);
/* What the log says is not known: the next use of its streams loads them. */
void shard_batch_forget(struct shard_batch *batch);
/* Answers all jobs without an answer: it could not be appended. */
void shard_batch_fail(struct shard_batch *batch, enum err_code code);
/* Repetitions get the answers of what they repeat. */
void shard_batch_answer_repeats(struct shard_batch *batch);
/* The tries are used up. Streams that others wrote to until the end have lost; what only shared the
 * batch with them is taken out of it, to `jobs`, for a batch of its own. Returns how many: fewer
 * than there were, and none when no stream was seen to move. */
size_t shard_batch_split(struct shard_batch *batch, struct command_job **jobs);
/* Its streams are free for other batches. The jobs stay listed. */
void shard_batch_release(struct shard_batch *batch);

#endif
