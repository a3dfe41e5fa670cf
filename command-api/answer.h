/* What a command is answered: status and body of each outcome. Bodies live in the job's arena. */
#ifndef DAYBOOK_COMMAND_API_ANSWER_H
#define DAYBOOK_COMMAND_API_ANSWER_H

#include "command-api/command_job.h"
#include "command-api/stream_cache.h"
#include "common/ports/event_store.h"

void answer_accepted(struct command_job *job, const struct stream_state *state);
void answer_rejected(struct command_job *job, const struct rejection *rejection, int64_t version);
void answer_precondition_failed(struct command_job *job, int64_t version);
/* The first answer again; or 422 when the key came with another request then. */
void answer_replayed(struct command_job *job, const struct command_outcome *outcome);
/* As `first`, a job of the same batch with the same key, was answered. */
void answer_like(struct command_job *job, const struct command_job *first);
/* The batch failed with `code`. */
void answer_failed(struct command_job *job, enum err_code code, int64_t version);
/* The shard's queue is full. */
void answer_overloaded(struct command_job *job);
void answer_internal(struct command_job *job);

#endif
