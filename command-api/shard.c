#include "command-api/shard.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "command-api/answer.h"
#include "command-api/shard_batch.h"
#include "command-api/shard_metrics.h"
#include "command-api/stream_loader.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/runtime/backoff.h"
#include "common/runtime/queue.h"

enum {
    IDLE_CHECK_MS = 1000,
    FLIGHTS_MAX = EVENT_STORE_APPENDS_MAX,
    FIXED_COMMANDS = 8, /* a batch costs the store as much as so many further commands */
    STEP_MIN_US = 20,
};

struct shard {
    struct shard_options options;
    struct queue *queue;
    pthread_t thread;
    struct stream_cache *cache;
    struct stream_loader *loader;
    struct shard_decider decider;
    int64_t pace_ns; /* what the store takes for a command, FIXED_COMMANDS beside it */

    struct shard_batch batches[FLIGHTS_MAX];
    struct shard_batch *flights[FLIGHTS_MAX]; /* appends on their way, oldest first */
    size_t flight_count;
    /* Taken from the queue, but their streams are in flight; in order of arrival. */
    struct command_job *held[SHARD_BATCH_MAX];
    size_t held_count;
    bool needs_store; /* the held need what can only be asked when nothing is in flight */

    struct shard_metrics metrics;
};

/* --- loading and deciding --- */

/* Brings streams of the batch up to the log; `loaded`: how many there were to look at. */
static enum err_code load_streams(struct shard *shard, const struct shard_batch *batch,
                                  enum load_scope scope, size_t *loaded, struct err *err) {
    struct stream_entry *entries[SHARD_BATCH_MAX];

    *loaded = shard_batch_streams(batch, scope, entries);
    if (*loaded == 0) {
        return ERR_OK;
    }
    assert(shard->flight_count == 0);
    return stream_loader_load(shard->loader, entries, *loaded, err);
}

/* An accepted command on a stale state is refused by the append. A rejection has no such judge:
 * where one rests on a state from memory, the stream is looked up first, and all is decided again
 * when another replica has written to it. */
static enum err_code decide(struct shard *shard, struct shard_batch *batch, struct err *err) {
    size_t looked_up = 0;

    shard_batch_decide(batch, &shard->decider);
    const enum err_code code = load_streams(shard, batch, LOAD_DOUBTFUL, &looked_up, err);
    if (code == ERR_OK && looked_up > 0) {
        shard_batch_decide(batch, &shard->decider);
    }
    return code;
}

static enum err_code load_and_decide(struct shard *shard, struct shard_batch *batch,
                                     struct err *err) {
    size_t loaded = 0;
    const enum err_code code = load_streams(shard, batch, LOAD_MISSING, &loaded, err);

    return code == ERR_OK ? decide(shard, batch, err) : code;
}

/* --- appending --- */

static bool has_append(const struct shard_batch *batch) {
    return batch->event_count > 0 || batch->outcome_count > 0;
}

static void note_append(struct shard *shard, struct shard_batch *batch, enum err_code code) {
    batch->append_to_us = clock_monotonic_us();
    const int64_t took_us = batch->append_to_us - batch->append_from_us;

    metric_observe(shard->metrics.append_seconds, took_us);
    if (shard->options.tracer != NULL) {
        const int64_t now_us = clock_wall_us();
        batch->append = (struct shard_append){.from_us = now_us - took_us,
                                              .to_us = now_us,
                                              .commands = (int64_t)batch->job_count,
                                              .events = (int64_t)batch->event_count,
                                              .failed = code != ERR_OK};
    }
}

static enum err_code append_once(struct shard *shard, struct shard_batch *batch, struct err *err) {
    const struct append_batch append = shard_batch_append(batch);

    assert(shard->flight_count == 0);
    if (!has_append(batch)) {
        return ERR_OK;
    }
    batch->append_from_us = clock_monotonic_us();
    const enum err_code code = event_store_append(shard->options.store, &append, err);
    note_append(shard, batch, code);
    return code;
}

/*
 * The connection died at commit. The batch either took effect whole or not at all, and appending
 * the same batch again can't take effect twice: its event ids and versions are unique. So: look,
 * and if it isn't there append again, until one of the two gives an answer or the time is up.
 */
static enum err_code find_out(struct shard *shard, struct shard_batch *batch, struct err *err) {
    const struct append_batch append = shard_batch_append(batch);
    const int64_t deadline_us = batch->append_to_us + shard->options.outcome_wait_ms * 1000;
    struct event_store *store = shard->options.store;
    struct backoff backoff;

    backoff_init(&backoff, 20, 500);
    for (;;) {
        bool appended = false;
        enum err_code code = store->ops->was_appended(store, &append, &appended, err);
        if (code == ERR_OK && appended) {
            return ERR_OK;
        }
        if (code == ERR_OK && clock_monotonic_us() < deadline_us) {
            code = append_once(shard, batch, err);
            if (code == ERR_OK) {
                return ERR_OK;
            }
            if (code == ERR_CONFLICT &&
                store->ops->was_appended(store, &append, &appended, err) == ERR_OK) {
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
static enum err_code refresh(struct shard *shard, struct shard_batch *batch, struct err *err) {
    struct outcome_key keys[SHARD_BATCH_MAX];
    struct command_job *keyed[SHARD_BATCH_MAX];
    const size_t count = shard_batch_keys(batch, keys, keyed);
    enum err_code code = ERR_OK;

    if (count > 0) {
        code = shard->options.store->ops->find_outcomes(shard->options.store, keys, count,
                                                        found_outcome, keyed, err);
    }
    size_t loaded = 0;
    return code == ERR_OK ? load_streams(shard, batch, LOAD_ALL, &loaded, err) : code;
}

/* From the first answer of the store to the last: decides and appends again until it holds, is
 * known to be impossible, or the tries are used up. */
static enum err_code settle(struct shard *shard, struct shard_batch *batch, enum err_code code,
                            struct err *err) {
    for (int tries = 1;; tries++) {
        if (code == ERR_OUTCOME_UNKNOWN) {
            code = find_out(shard, batch, err);
        }
        if (code != ERR_CONFLICT) {
            break;
        }
        metric_add(shard->metrics.conflicts, 1);
        const enum err_code refreshed = refresh(shard, batch, err);
        if (refreshed != ERR_OK || tries == SHARD_CONFLICT_TRIES_MAX) {
            return refreshed != ERR_OK ? refreshed : ERR_CONFLICT;
        }
        code = decide(shard, batch, err);
        if (code != ERR_OK) {
            return code;
        }
        code = append_once(shard, batch, err);
    }
    if (code == ERR_OK) {
        shard_batch_committed(batch);
        metric_add(shard->metrics.events_appended, batch->event_count);
    }
    return code;
}

/* A batch from its beginning to its fate, with nothing else in flight. */
static enum err_code run_alone(struct shard *shard, struct shard_batch *batch,
                               struct command_job *const *jobs, size_t count, struct err *err) {
    struct command_job *held[1];

    assert(shard->flight_count == 0);
    const size_t held_count =
        shard_batch_begin(batch, shard->cache, &shard->metrics, jobs, count, held);
    assert(held_count == 0);
    (void)held_count;
    const enum err_code code = load_and_decide(shard, batch, err);
    return code == ERR_OK ? settle(shard, batch, append_once(shard, batch, err), err) : code;
}

/* --- answering --- */

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

/* All jobs have their answers. */
static void finish_jobs(struct shard *shard, struct shard_batch *batch) {
    for (size_t i = 0; i < batch->job_count; i++) {
        struct stream_entry *entry = batch->jobs[i]->entry;
        if (entry->first_in_batch == batch->jobs[i]) { /* each once */
            offer_snapshot(shard, entry);
        }
    }
    shard_batch_release(batch);
    for (size_t i = 0; i < batch->job_count; i++) {
        if (batch->jobs[i]->trace != NULL) {
            shard_trace_job(shard->options.tracer, batch->jobs[i], &batch->append);
        }
        batch->jobs[i]->finish(batch->jobs[i]);
    }
}

static void run_each(struct shard *shard, struct shard_batch *batch);

/* The fate of a batch is known: answers its jobs, those of them that go on as batches of their own
 * too. */
static void conclude(struct shard *shard, struct shard_batch *batch, enum err_code code,
                     struct err *err) {
    struct command_job *aside[SHARD_BATCH_MAX];

    for (;;) {
        size_t aside_count = 0;
        if (code == ERR_OUTCOME_UNKNOWN || code == ERR_CORRUPT) {
            shard_batch_forget(batch);
        }
        const bool poisoned = code != ERR_OK && !err_retriable(code) && code != ERR_CONFLICT &&
                              code != ERR_OUTCOME_UNKNOWN;
        if (poisoned && batch->job_count > 1) {
            run_each(shard, batch);
            return;
        }
        if (code == ERR_CONFLICT) {
            aside_count = shard_batch_split(batch, aside);
        }
        if (code != ERR_OK) {
            log_warn(shard->options.log, log_event("batch.failed"),
                     log_cstr("class", err_name(code)),
                     log_i64("commands", (int64_t)batch->job_count), log_err(err));
            shard_batch_fail(batch, code);
        }
        shard_batch_answer_repeats(batch);
        finish_jobs(shard, batch);
        if (aside_count == 0) {
            return;
        }
        code = run_alone(shard, batch, aside, aside_count, err);
    }
}

/* Something in these data is refused: each job alone, so that only the culprit fails. */
static void run_each(struct shard *shard, struct shard_batch *batch) {
    struct command_job *jobs[SHARD_BATCH_MAX];
    const size_t count = batch->job_count;

    memcpy(jobs, batch->jobs, count * sizeof(jobs[0]));
    shard_batch_release(batch);
    for (size_t i = 0; i < count; i++) {
        struct err err = {0};
        const enum err_code code = run_alone(shard, batch, &jobs[i], 1, &err);
        conclude(shard, batch, code, &err);
    }
}

/* --- flights --- */

static void land_all(struct shard *shard);

/* The store works on one batch after the other: when it begins with the oldest in flight, and how
 * long it is likely to take. */
static void begin_service(struct shard *shard) {
    if (shard->flight_count > 0) {
        struct shard_batch *batch = shard->flights[0];
        const int64_t commands = (int64_t)batch->job_count + FIXED_COMMANDS;
        batch->served_from_us = clock_monotonic_us();
        batch->step_us = STEP_MIN_US + commands * shard->pace_ns / 1000 / 4;
        batch->look_at_us = batch->served_from_us + batch->step_us;
    }
}

static void note_pace(struct shard *shard, const struct shard_batch *batch) {
    const int64_t took_us = batch->append_to_us - batch->served_from_us;
    const int64_t pace_ns = took_us * 1000 / ((int64_t)batch->job_count + FIXED_COMMANDS);

    shard->pace_ns += (pace_ns - shard->pace_ns) / 8;
    begin_service(shard);
}

/* Waits for the oldest append, at most until then; false: it has not landed. */
static bool land_oldest(struct shard *shard, int64_t wait_until_us) {
    struct shard_batch *batch = shard->flights[0];
    bool ended = false;
    struct err err = {0};
    enum err_code code =
        shard->options.store->ops->append_end(shard->options.store, wait_until_us, &ended, &err);

    if (!ended) {
        return false;
    }
    shard->flight_count--;
    memmove(shard->flights, shard->flights + 1, shard->flight_count * sizeof(shard->flights[0]));
    shard->needs_store = shard->needs_store && shard->flight_count > 0;
    note_append(shard, batch, code);
    note_pace(shard, batch);
    if (code != ERR_OK && code != ERR_UNAVAILABLE) {
        land_all(shard); /* what follows has the store for itself */
    }
    code = settle(shard, batch, code, &err);
    conclude(shard, batch, code, &err);
    return true;
}

static void land_all(struct shard *shard) {
    while (shard->flight_count > 0) {
        (void)land_oldest(shard, INT64_MAX);
    }
}

static struct shard_batch *idle_batch(struct shard *shard) {
    struct shard_batch *batch = &shard->batches[0];

    for (size_t i = 0; i < shard->flight_count; i++) {
        batch += shard->flights[i] == batch;
    }
    return batch;
}

/* Behind a flight nothing can be read. True: the batch needs that, so all its jobs are held until
 * the flight has landed; what arrives until then goes with them. */
static bool hold_what_needs_store(struct shard *shard, struct shard_batch *batch,
                                  struct command_job *const *jobs, size_t count) {
    struct stream_entry *entries[SHARD_BATCH_MAX];

    if (shard->flight_count == 0) {
        return false;
    }
    if (shard_batch_streams(batch, LOAD_MISSING, entries) == 0) {
        shard_batch_decide(batch, &shard->decider);
        if (shard_batch_streams(batch, LOAD_DOUBTFUL, entries) == 0) {
            return false;
        }
    }
    shard_batch_release(batch);
    memcpy(shard->held, jobs, count * sizeof(jobs[0]));
    shard->held_count = count;
    shard->needs_store = true;
    return true;
}

/* Begins a batch of the jobs whose streams are free; the others are held. */
static void launch(struct shard *shard, struct command_job *const *jobs, size_t count) {
    struct shard_batch *batch = idle_batch(shard);
    struct err err = {0};

    shard->held_count =
        shard_batch_begin(batch, shard->cache, &shard->metrics, jobs, count, shard->held);
    if (batch->job_count == 0 || hold_what_needs_store(shard, batch, jobs, count)) {
        return;
    }
    metric_observe(shard->metrics.batch_size, (int64_t)batch->job_count);
    enum err_code code = shard->flight_count == 0 ? load_and_decide(shard, batch, &err) : ERR_OK;
    if (code == ERR_OK && has_append(batch)) {
        const struct append_batch append = shard_batch_append(batch);
        batch->append_from_us = clock_monotonic_us();
        code = shard->options.store->ops->append_begin(shard->options.store, &append, &err);
        if (code == ERR_OK) {
            shard->flights[shard->flight_count++] = batch;
            if (shard->flight_count == 1) {
                begin_service(shard);
            }
            return;
        }
        note_append(shard, batch, code);
    }
    if (code != ERR_OK) {
        land_all(shard);
    } else {
        shard_batch_committed(batch);
    }
    conclude(shard, batch, code, &err);
}

/* What waits: the held, then the queue's, for which it waits up to wait_ms. */
static size_t take(struct shard *shard, struct command_job **jobs, int64_t wait_ms) {
    void *items[SHARD_BATCH_MAX];
    size_t count = shard->held_count;

    memcpy(jobs, shard->held, count * sizeof(jobs[0]));
    shard->held_count = 0;
    const size_t popped =
        queue_pop_many(shard->queue, items, shard->options.batch_max - count, wait_ms);
    for (size_t i = 0; i < popped; i++) {
        jobs[count++] = items[i];
    }
    metric_set(shard->metrics.queue_length,
               (int64_t)(queue_length(shard->queue) + shard->held_count));
    return count;
}

/*
 * With an append on its way: true when a quarter or more of its time has passed and other commands
 * wait, false when it has landed. The next batch is sent before the database is done with the
 * last, so that it never waits for us, and not at once, so that batches are large.
 */
static bool wait_behind_flight(struct shard *shard) {
    struct shard_batch *oldest = shard->flights[0];

    if (shard->flight_count == FLIGHTS_MAX || shard->needs_store ||
        shard->held_count == shard->options.batch_max) {
        (void)land_oldest(shard, INT64_MAX);
        return shard->flight_count > 0 && shard->held_count > 0;
    }
    if (land_oldest(shard, oldest->look_at_us)) {
        return false;
    }
    /* Later looks are ever rarer: a commit that takes long may take very long. */
    oldest->look_at_us = clock_monotonic_us() + oldest->step_us;
    oldest->step_us *= 2;
    return queue_length(shard->queue) > 0;
}

static void *shard_main(void *arg) {
    struct shard *shard = arg;
    struct command_job *jobs[SHARD_BATCH_MAX];
    struct err err = {0};

    (void)shard->options.store->ops->check(shard->options.store, &err);
    for (;;) {
        if (shard->flight_count > 0) {
            if (wait_behind_flight(shard)) {
                launch(shard, jobs, take(shard, jobs, 0));
            }
            continue;
        }
        const size_t count = take(shard, jobs, shard->held_count > 0 ? 0 : IDLE_CHECK_MS);
        if (count > 0) {
            launch(shard, jobs, count);
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
    assert(options->streams_max > FLIGHTS_MAX * options->batch_max);
    assert(options->snapshots == NULL || options->snapshot_every > 0);
    shard->options = *options;
    shard->queue = queue_new(options->queue_max);
    shard->cache = stream_cache_new(options->streams_max);
    shard->loader = stream_loader_new(options->store, options->log, options->metrics);
    shard->decider.log = options->log;
    uuid_source_init(&shard->decider.uuids);
    shard_metrics_register(&shard->metrics, options->metrics);
    const int failed = pthread_create(&shard->thread, NULL, shard_main, shard);
    if (failed != 0) {
        shard_free(shard);
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
