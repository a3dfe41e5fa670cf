#include "command-api/shard.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "command-api/answer.h"
#include "command-api/shard_metrics.h"
#include "command-api/shard_trace.h"
#include "command-api/stream_cache.h"
#include "command-api/stream_loader.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/uuid.h"
#include "common/runtime/backoff.h"
#include "common/runtime/queue.h"

enum { IDLE_CHECK_MS = 1000, EVENTS_MAX = SHARD_BATCH_MAX * DECISION_EVENTS_MAX };
static_assert((int)EVENTS_MAX <= (int)EVENT_STORE_BATCH_MAX, "a batch fits the store");

struct shard {
    struct shard_options options;
    struct queue *queue;
    pthread_t thread;
    struct stream_cache *cache;
    struct stream_loader *loader;
    struct uuid_source uuids;

    /* The batch in hand. */
    struct command_job *jobs[SHARD_BATCH_MAX];
    size_t job_count;
    struct recorded_event events[EVENTS_MAX];
    size_t event_count;
    struct command_outcome outcomes[SHARD_BATCH_MAX];
    size_t outcome_count;
    struct decision decision;
    struct shard_append last_append;

    struct shard_metrics metrics;
};

/* --- loading --- */

static struct stream_key key_of(const struct stream_entry *entry) {
    return (struct stream_key){str_from(entry->aggregate->name), str_from(entry->stream_id)};
}

enum load_scope { LOAD_MISSING, LOAD_DOUBTFUL, LOAD_ALL };

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

/* Brings streams of the batch up to the log; `loaded`: how many there were to look at. */
static enum err_code load_streams(struct shard *shard, enum load_scope scope, size_t *loaded,
                                  struct err *err) {
    struct stream_entry *entries[SHARD_BATCH_MAX];
    size_t count = 0;

    for (size_t i = 0; i < shard->job_count; i++) {
        struct stream_entry *entry = shard->jobs[i]->entry;
        /* A stream is listed once: at its newest job. */
        if (needs_loading(entry, scope) && entry->first_in_batch == shard->jobs[i]) {
            entries[count++] = entry;
        }
    }
    *loaded = count;
    return count > 0 ? stream_loader_load(shard->loader, entries, count, err) : ERR_OK;
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

static void record_outcome(struct shard *shard, const struct command_job *job) {
    if (job->idempotency_key.len == 0) {
        return;
    }
    shard->outcomes[shard->outcome_count++] = (struct command_outcome){
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
static bool record_event(struct shard *shard, struct command_job *job, const struct event *event,
                         int64_t version) {
    struct buf payload;

    buf_init(&payload, 4 * EVENT_DATA_BYTES_MAX);
    event_encode(event, &payload);
    const struct str text = arena_str(job->arena, buf_str(&payload));
    const bool failed = buf_failed(&payload) || text.ptr == NULL;
    buf_release(&payload);
    if (failed) {
        return false;
    }
    shard->events[shard->event_count++] = (struct recorded_event){
        .event_id = uuid_next(&shard->uuids, event->recorded_at_us),
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

static void accept_job(struct shard *shard, struct command_job *job) {
    struct stream_state *state = &job->entry->working;
    const size_t events_before = shard->event_count;
    struct err err = {0};

    const struct stream_state before = *state;
    for (size_t i = 0; i < shard->decision.event_count; i++) {
        const struct event *event = &shard->decision.events[i];
        enum err_code code = job->aggregate->evolve(state->data.bytes, event, &err);
        if (code != ERR_OK || !record_event(shard, job, event, state->version + 1)) {
            log_error(shard->options.log, log_event("command.defect"),
                      log_cstr("stream", job->entry->stream_id), log_err(&err),
                      log_str("correlation_id", job->correlation_id));
            *state = before;
            shard->event_count = events_before;
            answer_internal(job);
            return;
        }
        state->version++;
        state->recorded_at_us = event->recorded_at_us;
        state->event_id = shard->events[shard->event_count - 1].event_id;
    }
    answer_accepted(job, state);
    record_outcome(shard, job);
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

static void decide_job(struct shard *shard, struct command_job *job) {
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
        record_outcome(shard, job);
        return;
    }
    shard->decision.rejection.kind = REJECTION_NONE;
    shard->decision.event_count = 0;
    job->command.type->decide(state->data.bytes, &job->command, &shard->decision);
    if (shard->decision.rejection.kind != REJECTION_NONE) {
        job->entry->doubtful = true;
        answer_rejected(job, &shard->decision.rejection, state->version);
        record_outcome(shard, job);
        return;
    }
    accept_job(shard, job);
}

static void decide_each(struct shard *shard) {
    shard->event_count = 0;
    shard->outcome_count = 0;
    for (size_t i = 0; i < shard->job_count; i++) {
        shard->jobs[i]->entry->working = shard->jobs[i]->entry->committed;
    }
    for (size_t i = 0; i < shard->job_count; i++) {
        struct command_job *job = shard->jobs[i];
        if (job->done) {
            continue;
        }
        job->decided_from_us = job->trace != NULL ? clock_wall_us() : 0;
        decide_job(shard, job);
        job->decided_to_us = job->trace != NULL ? clock_wall_us() : 0;
    }
}

/* An accepted command on a stale state is refused by the append. A rejection has no such judge:
 * where one rests on a state from memory, the stream is looked up first, and all is decided again
 * when another replica has written to it. */
static enum err_code decide_all(struct shard *shard, struct err *err) {
    size_t looked_up = 0;

    decide_each(shard);
    const enum err_code code = load_streams(shard, LOAD_DOUBTFUL, &looked_up, err);
    if (code == ERR_OK && looked_up > 0) {
        decide_each(shard);
    }
    return code;
}

/* --- appending --- */

static enum err_code append_once(struct shard *shard, struct err *err) {
    const struct append_batch batch = {shard->events, shard->event_count, shard->outcomes,
                                       shard->outcome_count};

    if (batch.event_count == 0 && batch.outcome_count == 0) {
        return ERR_OK;
    }
    const int64_t started_us = clock_monotonic_us();
    const enum err_code code = shard->options.store->ops->append(shard->options.store, &batch, err);
    const int64_t took_us = clock_monotonic_us() - started_us;
    metric_observe(shard->metrics.append_seconds, took_us);
    if (shard->options.tracer != NULL) {
        const int64_t now_us = clock_wall_us();
        shard->last_append = (struct shard_append){.from_us = now_us - took_us,
                                                   .to_us = now_us,
                                                   .commands = (int64_t)shard->job_count,
                                                   .events = (int64_t)shard->event_count,
                                                   .failed = code != ERR_OK};
    }
    return code;
}

/*
 * The connection died at commit. The batch either took effect whole or not at all, and appending
 * the same batch again can't take effect twice: its event ids and versions are unique. So: look,
 * and if it isn't there append again, until one of the two gives an answer or the time is up.
 */
static enum err_code find_out(struct shard *shard, struct err *err) {
    const struct append_batch batch = {shard->events, shard->event_count, shard->outcomes,
                                       shard->outcome_count};
    const int64_t deadline_us = clock_monotonic_us() + shard->options.outcome_wait_ms * 1000;
    struct event_store *store = shard->options.store;
    struct backoff backoff;

    backoff_init(&backoff, 20, 500);
    for (;;) {
        bool appended = false;
        enum err_code code = store->ops->was_appended(store, &batch, &appended, err);
        if (code == ERR_OK && appended) {
            return ERR_OK;
        }
        if (code == ERR_OK) {
            code = append_once(shard, err);
            if (code == ERR_OK) {
                return ERR_OK;
            }
            if (code == ERR_CONFLICT &&
                store->ops->was_appended(store, &batch, &appended, err) == ERR_OK) {
                return appended ? ERR_OK : ERR_CONFLICT;
            }
        }
        if (clock_monotonic_us() >= deadline_us) {
            return ERR_OUTCOME_UNKNOWN;
        }
        const int64_t wait_ms = backoff_next_ms(&backoff);
        const struct timespec pause = {wait_ms / 1000, (wait_ms % 1000) * 1000000};
        (void)nanosleep(&pause, NULL);
    }
}

static void found_outcome(void *arg, size_t key_index, const struct command_outcome *outcome) {
    struct command_job **keyed = arg;

    answer_replayed(keyed[key_index], outcome);
    keyed[key_index]->done = true;
}

/* After a conflict: which commands were done before, and what the streams are now. */
static enum err_code refresh(struct shard *shard, struct err *err) {
    struct outcome_key keys[SHARD_BATCH_MAX];
    struct command_job *keyed[SHARD_BATCH_MAX];
    size_t count = 0;
    enum err_code code = ERR_OK;

    for (size_t i = 0; i < shard->job_count; i++) {
        struct command_job *job = shard->jobs[i];
        if (!job->done && job->idempotency_key.len > 0) {
            keyed[count] = job;
            keys[count++] = (struct outcome_key){key_of(job->entry), job->idempotency_key};
        }
    }
    if (count > 0) {
        code = shard->options.store->ops->find_outcomes(shard->options.store, keys, count,
                                                        found_outcome, keyed, err);
    }
    size_t loaded = 0;
    return code == ERR_OK ? load_streams(shard, LOAD_ALL, &loaded, err) : code;
}

static void commit_states(struct shard *shard) {
    for (size_t i = 0; i < shard->job_count; i++) {
        shard->jobs[i]->entry->committed = shard->jobs[i]->entry->working;
    }
    metric_add(shard->metrics.events_appended, shard->event_count);
}

static void forget_states(struct shard *shard) {
    for (size_t i = 0; i < shard->job_count; i++) {
        stream_entry_forget(shard->jobs[i]->entry);
    }
}

/* What all jobs without an answer get when the batch could not be appended. */
static void fail_open_jobs(struct shard *shard, enum err_code code, const struct err *err) {
    log_warn(shard->options.log, log_event("batch.failed"), log_cstr("class", err_name(code)),
             log_i64("commands", (int64_t)shard->job_count), log_err(err));
    for (size_t i = 0; i < shard->job_count; i++) {
        struct command_job *job = shard->jobs[i];
        if (!job->done && job->repeats == NULL) {
            answer_failed(job, code, job->entry->committed.version);
        }
    }
}

/* Decides and appends until it holds, is known to be impossible, or the tries are used up. */
static enum err_code settle(struct shard *shard, struct err *err) {
    size_t loaded = 0;
    enum err_code code = load_streams(shard, LOAD_MISSING, &loaded, err);

    for (int tries = 0; code == ERR_OK; tries++) {
        code = decide_all(shard, err);
        if (code != ERR_OK) {
            break;
        }
        code = append_once(shard, err);
        if (code == ERR_OUTCOME_UNKNOWN) {
            code = find_out(shard, err);
        }
        if (code == ERR_OK) {
            commit_states(shard);
            return ERR_OK;
        }
        if (code != ERR_CONFLICT) {
            break;
        }
        metric_add(shard->metrics.conflicts, 1);
        const enum err_code refreshed = refresh(shard, err);
        if (refreshed != ERR_OK || tries + 1 < SHARD_CONFLICT_TRIES_MAX) {
            code = refreshed;
        }
    }
    if (code == ERR_OUTCOME_UNKNOWN || code == ERR_CORRUPT) {
        forget_states(shard);
    }
    return code;
}

static void answer_repeats(struct shard *shard) {
    for (size_t i = 0; i < shard->job_count; i++) {
        struct command_job *job = shard->jobs[i];
        if (job->repeats != NULL && !job->done) {
            answer_like(job, job->repeats);
        }
    }
}

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

static void begin_batch(struct shard *shard, struct command_job **jobs, size_t count) {
    shard->job_count = count;
    shard->last_append = (struct shard_append){0};
    memcpy(shard->jobs, jobs, count * sizeof(jobs[0]));
    for (size_t i = 0; i < count; i++) {
        struct command_job *job = shard->jobs[i];
        bool hit = false;
        job->entry = stream_cache_get(shard->cache, job->aggregate, job->command.stream_id, &hit);
        metric_add(hit ? shard->metrics.cache_hits : shard->metrics.cache_misses, 1);
        job->entry->in_batch = true;
        job->entry->fresh = false;
        job->entry->doubtful = false;
        job->arrival = i;
        job->next_in_stream = job->entry->first_in_batch;
        job->entry->first_in_batch = job;
        job->repeats = NULL;
        job->done = false;
    }
    qsort(shard->jobs, count, sizeof(shard->jobs[0]), compare_places);
}

/* Every snapshot_every events of a stream, and where the one that is there was of no use. */
static void offer_snapshot(struct shard *shard, struct stream_entry *entry) {
    const int64_t version = entry->committed.version;
    const bool due =
        entry->snapshot_due || version - entry->snapshot_version >= shard->options.snapshot_every;

    if (shard->options.snapshots == NULL || !entry->loaded || version == 0 || !due) {
        return;
    }
    snapshot_writer_offer(shard->options.snapshots, entry->aggregate, entry->stream_id,
                          &entry->committed);
    entry->snapshot_version = version;
    entry->snapshot_due = false;
}

static void end_batch(struct shard *shard) {
    for (size_t i = 0; i < shard->job_count; i++) {
        struct stream_entry *entry = shard->jobs[i]->entry;
        if (entry->in_batch) { /* each once */
            offer_snapshot(shard, entry);
        }
        entry->in_batch = false;
        entry->first_in_batch = NULL;
    }
    for (size_t i = 0; i < shard->job_count; i++) {
        if (shard->jobs[i]->trace != NULL) {
            shard_trace_job(shard->options.tracer, shard->jobs[i], &shard->last_append);
        }
        shard->jobs[i]->finish(shard->jobs[i]);
    }
}

/* The tries are used up. Streams that others wrote to until the end have lost; what only shared the
 * batch with them is taken out of it, to `jobs`, for a batch of its own. Returns how many: fewer
 * than there were, and none when no stream was seen to move. */
static size_t set_aside_uncontended(struct shard *shard, struct command_job **jobs) {
    size_t aside = 0;
    size_t kept = 0;
    bool moved = false; /* a stream, or a key that another replica has used */

    for (size_t i = 0; i < shard->job_count; i++) {
        moved = moved || shard->jobs[i]->entry->moved || shard->jobs[i]->done;
    }
    for (size_t i = 0; moved && i < shard->job_count; i++) {
        struct command_job *job = shard->jobs[i];
        const bool answered = job->done || (job->repeats != NULL && job->repeats->done);
        if (answered || job->entry->moved) {
            shard->jobs[kept++] = job;
        } else {
            job->entry->in_batch = false;
            job->entry->first_in_batch = NULL;
            jobs[aside++] = job;
        }
    }
    if (moved) {
        shard->job_count = kept;
    }
    return aside;
}

static void run_each(struct shard *shard, struct command_job **jobs, size_t count);

static void run_batch(struct shard *shard, struct command_job **jobs, size_t count) {
    while (count > 0) {
        struct err err = {0};
        begin_batch(shard, jobs, count);
        const enum err_code code = settle(shard, &err);
        const bool poisoned = code != ERR_OK && !err_retriable(code) && code != ERR_CONFLICT &&
                              code != ERR_OUTCOME_UNKNOWN;
        if (poisoned && count > 1) {
            run_each(shard, jobs, count);
            return;
        }
        count = code == ERR_CONFLICT ? set_aside_uncontended(shard, jobs) : 0;
        if (code != ERR_OK) {
            fail_open_jobs(shard, code, &err);
        }
        answer_repeats(shard);
        end_batch(shard);
    }
}

/* Something in these data is refused: each job alone, so that only the culprit fails. */
static void run_each(struct shard *shard, struct command_job **jobs, size_t count) {
    for (size_t i = 0; i < count; i++) {
        shard->jobs[i]->entry->in_batch = false;
        shard->jobs[i]->entry->first_in_batch = NULL;
    }
    for (size_t i = 0; i < count; i++) {
        run_batch(shard, &jobs[i], 1);
    }
}

static void *shard_main(void *arg) {
    struct shard *shard = arg;
    void *items[SHARD_BATCH_MAX];
    struct command_job *jobs[SHARD_BATCH_MAX];
    struct err err = {0};

    (void)shard->options.store->ops->check(shard->options.store, &err);
    for (;;) {
        const size_t count =
            queue_pop_many(shard->queue, items, shard->options.batch_max, IDLE_CHECK_MS);
        metric_set(shard->metrics.queue_length, (int64_t)queue_length(shard->queue));
        if (count > 0) {
            for (size_t i = 0; i < count; i++) {
                jobs[i] = items[i];
            }
            metric_observe(shard->metrics.batch_size, (int64_t)count);
            run_batch(shard, jobs, count);
        } else if (queue_closed(shard->queue)) {
            return NULL;
        } else {
            /* Idle: keep /ready truthful and the connection at hand. */
            (void)shard->options.store->ops->check(shard->options.store, &err);
        }
    }
}

enum err_code shard_start(const struct shard_options *options, struct shard **out,
                          struct err *err) {
    struct shard *shard = mem_zalloc(sizeof(*shard));

    assert(options->batch_max > 0 && options->batch_max <= SHARD_BATCH_MAX);
    assert(options->streams_max > options->batch_max);
    assert(options->snapshots == NULL || options->snapshot_every > 0);
    shard->options = *options;
    shard->queue = queue_new(options->queue_max);
    shard->cache = stream_cache_new(options->streams_max);
    shard->loader = stream_loader_new(options->store, options->log, options->metrics);
    uuid_source_init(&shard->uuids);
    shard_metrics_register(&shard->metrics, options->metrics);
    const int failed = pthread_create(&shard->thread, NULL, shard_main, shard);
    if (failed != 0) {
        stream_loader_free(shard->loader);
        stream_cache_free(shard->cache);
        queue_free(shard->queue);
        mem_free(shard);
        return err_set(err, ERR_INTERNAL, "pthread_create: %s", strerror(failed));
    }
    *out = shard;
    return ERR_OK;
}

size_t shard_submit(struct shard *shard, struct command_job *const *jobs, size_t count) {
    void *items[SHARD_SUBMIT_MAX];

    assert(count <= SHARD_SUBMIT_MAX);
    for (size_t i = 0; i < count; i++) {
        items[i] = jobs[i];
    }
    return queue_try_push_many(shard->queue, items, count);
}

void shard_stop(struct shard *shard) {
    queue_close(shard->queue);
    (void)pthread_join(shard->thread, NULL);
}

void shard_free(struct shard *shard) {
    if (shard == NULL) {
        return;
    }
    stream_loader_free(shard->loader);
    stream_cache_free(shard->cache);
    queue_free(shard->queue);
    mem_free(shard);
}
