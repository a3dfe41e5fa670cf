#include "command-api/shard_batch.h"

#include <assert.h>
#include <stdlib.h>

#include "command-api/answer.h"
#include "common/base/clock.h"

static_assert((int)SHARD_EVENTS_MAX <= (int)EVENT_STORE_BATCH_MAX, "a batch fits the store");

static struct stream_key key_of(const struct stream_entry *entry) {
    return (struct stream_key){str_from(entry->aggregate->name), str_from(entry->stream_id)};
}

/* --- taking in --- */

/* Streams in the order of their hashes, the same in every replica: two that append to the same
 * streams at once wait for each other instead of locking each other out. Within a stream in order
 * of arrival. */
static int compare_places(const void *a, const void *b) {
    const struct command_job *x = *(struct command_job *const *)a;
    const struct command_job *y = *(struct command_job *const *)b;

    if (x->entry->hash != y->entry->hash) {
        return x->entry->hash < y->entry->hash ? -1 : 1;
    }
    return x->arrival < y->arrival ? -1 : 1;
}

static void admit(struct shard_batch *batch, struct command_job *job, struct stream_entry *entry) {
    if (entry->batch == NULL) {
        entry->batch = batch;
        entry->fresh = false;
        entry->doubtful = false;
        entry->first_in_batch = NULL;
    }
    job->entry = entry;
    job->arrival = batch->job_count;
    job->next_in_stream = entry->first_in_batch;
    job->repeats = NULL;
    job->done = false;
    entry->first_in_batch = job;
    batch->jobs[batch->job_count++] = job;
}

size_t shard_batch_begin(struct shard_batch *batch, struct stream_cache *cache,
                         const struct shard_metrics *metrics, struct command_job *const *jobs,
                         size_t count, struct command_job **held) {
    size_t held_count = 0;

    assert(count <= SHARD_BATCH_MAX);
    batch->job_count = 0;
    batch->event_count = 0;
    batch->outcome_count = 0;
    batch->append = (struct shard_append){0};
    for (size_t i = 0; i < count; i++) {
        struct command_job *job = jobs[i];
        bool hit = false;
        struct stream_entry *entry =
            stream_cache_get(cache, job->aggregate, job->command.stream_id, &hit);
        if (entry->batch != NULL && entry->batch != batch) {
            held[held_count++] = job;
            continue;
        }
        metric_add(hit ? metrics->cache_hits : metrics->cache_misses, 1);
        admit(batch, job, entry);
    }
    qsort(batch->jobs, batch->job_count, sizeof(batch->jobs[0]), compare_places);
    return held_count;
}

static bool needs_loading(const struct stream_entry *entry, enum load_scope scope) {
    switch (scope) {
    case LOAD_MISSING:
        return !entry->loaded;
    case LOAD_DOUBTFUL:
        return entry->doubtful && !entry->fresh;
    case LOAD_ALL:
        break;
    }
    return true;
}

size_t shard_batch_streams(const struct shard_batch *batch, enum load_scope scope,
                           struct stream_entry **entries) {
    size_t count = 0;

    for (size_t i = 0; i < batch->job_count; i++) {
        struct stream_entry *entry = batch->jobs[i]->entry;
        /* A stream is listed once: at its newest job. */
        if (needs_loading(entry, scope) && entry->first_in_batch == batch->jobs[i]) {
            entries[count++] = entry;
        }
    }
    return count;
}

/* --- deciding --- */

static bool precondition_holds(const struct command_job *job, int64_t version) {
    if (job->expected_version == EXPECT_ANY) {
        return true;
    }
    if (job->expected_version == EXPECT_EXISTS) {
        return version > 0;
    }
    return version == job->expected_version;
}

static void record_outcome(struct shard_batch *batch, const struct command_job *job) {
    if (job->idempotency_key.len == 0) {
        return;
    }
    batch->outcomes[batch->outcome_count++] = (struct command_outcome){
        .stream = key_of(job->entry),
        .key = job->idempotency_key,
        .request_hash = job->request_hash,
        .status = job->status,
        .version = job->version,
        .body = job->body,
        .recorded_at_us = job->command.time_us,
    };
}

/* The event as the log will hold it. False when the request's memory is used up. */
static bool record_event(struct shard_batch *batch, struct shard_decider *decider,
                         struct command_job *job, const struct event *event, int64_t version) {
    struct buf payload;

    buf_init(&payload, 4 * EVENT_DATA_BYTES_MAX);
    event_encode(event, &payload);
    const struct str text = arena_str(job->arena, buf_str(&payload));
    const bool failed = buf_failed(&payload) || text.ptr == NULL;
    buf_release(&payload);
    if (failed) {
        return false;
    }
    batch->events[batch->event_count++] = (struct recorded_event){
        .event_id = uuid_next(&decider->uuids, event->recorded_at_us),
        .aggregate_type = str_from(job->aggregate->name),
        .stream_id = str_from(job->entry->stream_id),
        .version = version,
        .event_type = str_from(event->type->name),
        .schema_version = event->type->schema_version,
        .payload = text,
        .correlation_id = job->correlation_id,
        .causation_id = job->causation_id,
        .actor = job->actor,
        .traceparent = job->traceparent,
        .command = str_from(job->command.type->name),
        .recorded_at_us = event->recorded_at_us,
    };
    return true;
}

static void accept_job(struct shard_batch *batch, struct shard_decider *decider,
                       struct command_job *job) {
    struct stream_state *state = &job->entry->working;
    const size_t events_before = batch->event_count;
    struct err err = {0};

    const struct stream_state before = *state;
    for (size_t i = 0; i < decider->decision.event_count; i++) {
        const struct event *event = &decider->decision.events[i];
        enum err_code code = job->aggregate->evolve(state->data.bytes, event, &err);
        if (code != ERR_OK || !record_event(batch, decider, job, event, state->version + 1)) {
            log_error(decider->log, log_event("command.defect"),
                      log_cstr("stream", job->entry->stream_id), log_err(&err),
                      log_str("correlation_id", job->correlation_id));
            *state = before;
            batch->event_count = events_before;
            answer_internal(job);
            return;
        }
        state->version++;
        state->recorded_at_us = event->recorded_at_us;
        state->event_id = batch->events[batch->event_count - 1].event_id;
    }
    answer_accepted(job, state);
    record_outcome(batch, job);
}

/* Another job of this batch with the same stream and key: the later one gets the first one's
 * answer. */
static struct command_job *find_repeated(const struct command_job *job) {
    struct command_job *first = NULL;

    for (struct command_job *other = job->next_in_stream; other != NULL;
         other = other->next_in_stream) {
        if (other->idempotency_key.len > 0 &&
            str_eq(other->idempotency_key, job->idempotency_key)) {
            first = other; /* the list is newest first: the last match is the earliest */
        }
    }
    return first;
}

static void decide_job(struct shard_batch *batch, struct shard_decider *decider,
                       struct command_job *job) {
    struct stream_state *state = &job->entry->working;
    const int64_t now_us = clock_wall_us();

    if (job->idempotency_key.len > 0) {
        job->repeats = find_repeated(job);
        if (job->repeats != NULL) {
            return;
        }
    }
    /* One clock, monotone per stream: it may stand still, it never steps back. */
    job->command.time_us = now_us > state->recorded_at_us ? now_us : state->recorded_at_us;
    if (!precondition_holds(job, state->version)) {
        job->entry->doubtful = true;
        answer_precondition_failed(job, state->version);
        record_outcome(batch, job);
        return;
    }
    decider->decision.rejection.kind = REJECTION_NONE;
    decider->decision.event_count = 0;
    job->command.type->decide(state->data.bytes, &job->command, &decider->decision);
    if (decider->decision.rejection.kind != REJECTION_NONE) {
        job->entry->doubtful = true;
        answer_rejected(job, &decider->decision.rejection, state->version);
        record_outcome(batch, job);
        return;
    }
    accept_job(batch, decider, job);
}

void shard_batch_decide(struct shard_batch *batch, struct shard_decider *decider) {
    batch->event_count = 0;
    batch->outcome_count = 0;
    for (size_t i = 0; i < batch->job_count; i++) {
        batch->jobs[i]->entry->working = batch->jobs[i]->entry->committed;
    }
    for (size_t i = 0; i < batch->job_count; i++) {
        struct command_job *job = batch->jobs[i];
        if (job->done) {
            continue;
        }
        job->decided_from_us = job->trace != NULL ? clock_wall_us() : 0;
        decide_job(batch, decider, job);
        job->decided_to_us = job->trace != NULL ? clock_wall_us() : 0;
    }
}

struct append_batch shard_batch_append(const struct shard_batch *batch) {
    return (struct append_batch){batch->events, batch->event_count, batch->outcomes,
                                 batch->outcome_count};
}

size_t shard_batch_keys(const struct shard_batch *batch, struct outcome_key *keys,
                        struct command_job **jobs) {
    size_t count = 0;

    for (size_t i = 0; i < batch->job_count; i++) {
        struct command_job *job = batch->jobs[i];
        if (!job->done && job->idempotency_key.len > 0) {
            jobs[count] = job;
            keys[count++] = (struct outcome_key){key_of(job->entry), job->idempotency_key};
        }
    }
    return count;
}

/* --- its end --- */

void shard_batch_committed(struct shard_batch *batch) {
    for (size_t i = 0; i < batch->job_count; i++) {
        batch->jobs[i]->entry->committed = batch->jobs[i]->entry->working;
    }
}

void shard_batch_forget(struct shard_batch *batch) {
    for (size_t i = 0; i < batch->job_count; i++) {
        stream_entry_forget(batch->jobs[i]->entry);
    }
}

void shard_batch_fail(struct shard_batch *batch, enum err_code code) {
    for (size_t i = 0; i < batch->job_count; i++) {
        struct command_job *job = batch->jobs[i];
        if (!job->done && job->repeats == NULL) {
            answer_failed(job, code, job->entry->committed.version);
        }
    }
}

void shard_batch_answer_repeats(struct shard_batch *batch) {
    for (size_t i = 0; i < batch->job_count; i++) {
        struct command_job *job = batch->jobs[i];
        if (job->repeats != NULL && !job->done) {
            answer_like(job, job->repeats);
        }
    }
}

static void release_job(struct command_job *job) {
    job->entry->batch = NULL;
    job->entry->first_in_batch = NULL;
}

size_t shard_batch_split(struct shard_batch *batch, struct command_job **jobs) {
    size_t aside = 0;
    size_t kept = 0;
    bool moved = false; /* a stream, or a key that another replica has used */

    for (size_t i = 0; i < batch->job_count; i++) {
        moved = moved || batch->jobs[i]->entry->moved || batch->jobs[i]->done;
    }
    for (size_t i = 0; moved && i < batch->job_count; i++) {
        struct command_job *job = batch->jobs[i];
        const bool answered = job->done || (job->repeats != NULL && job->repeats->done);
        if (answered || job->entry->moved) {
            batch->jobs[kept++] = job;
        } else {
            release_job(job);
            jobs[aside++] = job;
        }
    }
    if (moved) {
        batch->job_count = kept;
    }
    return aside;
}

void shard_batch_release(struct shard_batch *batch) {
    for (size_t i = 0; i < batch->job_count; i++) {
        release_job(batch->jobs[i]);
    }
}
