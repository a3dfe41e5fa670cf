/*
 * A shard: one thread that owns a share of the streams. It takes all commands that wait, loads the
 * streams it lacks in one round trip, decides in order of arrival against the states in memory,
 * appends all events and outcomes in one transaction, and answers. While a commit is on its way the
 * next commands collect, so batches grow under load by themselves and a lone command waits for
 * nothing. They are decided and sent before that commit has landed (group commit, pipelined), so
 * that the database has its next batch when it is done with one; but where a stream must be read
 * from the log, that waits for what is in flight.
 *
 * Invariants
 *  1. A job is answered 2xx only after append returned ERR_OK for its events, or the log was seen
 *     to hold them.
 *  2. `committed` of a cached stream is a fold of the log up to its version; it changes only when a
 *     batch has committed or by loading.
 *  3. Every job taken is finished exactly once.
 *  4. A rejection rests on a state read from the log for its batch, never on memory alone: another
 *     replica may have written.
 *  5. A job that makes the whole batch fail by its data is found by trying each job alone.
 *  6. Batches on their way at once have no stream in common: what comes for a stream in flight is
 *     held until that has landed. So the fate of one says nothing about the other.
 *  7. Only jobs whose own stream others wrote to until the tries were used up get 409 for it; their
 *     neighbours go on as a batch of their own.
 */
#ifndef DAYBOOK_COMMAND_API_SHARD_H
#define DAYBOOK_COMMAND_API_SHARD_H

#include "command-api/command_job.h"
#include "command-api/snapshot_writer.h"
#include "common/base/log.h"
#include "common/ports/event_store.h"
#include "common/runtime/metrics.h"
#include "common/runtime/tracing.h"

enum { SHARD_SUBMIT_MAX = 32, SHARD_CONFLICT_TRIES_MAX = 5 };

struct shard_options {
    struct event_store *store; /* borrowed; used by the shard's thread alone */
    size_t queue_max;
    size_t batch_max;   /* at most SHARD_BATCH_MAX (shard_batch.h) */
    size_t streams_max; /* more than EVENT_STORE_APPENDS_MAX batches may have */
    int64_t outcome_wait_ms;
    struct snapshot_writer *snapshots; /* borrowed; NULL: none are written */
    int64_t snapshot_every;            /* events of a stream, at least 1 */
    struct log *log;
    struct metrics *metrics;
    struct tracer *tracer; /* borrowed; NULL: no traces */
};

struct shard;

MUST_CHECK enum err_code shard_start(const struct shard_options *options, struct shard **out,
                                     struct err *err);
/* Takes the first jobs (of at most SHARD_SUBMIT_MAX), as many as its queue has room for (none when
 * it is stopping); returns how many. The others stay the caller's. */
MUST_CHECK size_t shard_submit(struct shard *shard, struct command_job *const *jobs, size_t count);
/* Finishes what was submitted, then ends the thread. */
void shard_stop(struct shard *shard);
void shard_free(struct shard *shard);

#endif
