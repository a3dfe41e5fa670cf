#include "projector/reader_hub.h"

#include <assert.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "projector/reader_hub_internal.h"

void hub_wait(struct reader_hub *hub, pthread_cond_t *cond, int64_t wait_ms) {
    const int64_t until_us = clock_monotonic_us() + wait_ms * 1000;
    const struct timespec until = {.tv_sec = until_us / 1000000,
                                   .tv_nsec = until_us % 1000000 * 1000};

    (void)pthread_cond_timedwait(cond, &hub->mutex, &until);
}

void hub_cond_init(pthread_cond_t *cond) {
    pthread_condattr_t attr;

    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(cond, &attr);
    (void)pthread_condattr_destroy(&attr);
}

/* --- chunks --- */

struct chunk *chunk_new(struct event_reader *reader, const struct consumed_record *records,
                        size_t count) {
    struct chunk *chunk = mem_resize(NULL, sizeof(*chunk) + count * sizeof(records[0]), 1);

    atomic_init(&chunk->holders, 1);
    chunk->reader = reader;
    chunk->count = count;
    memcpy(chunk->records, records, count * sizeof(records[0]));
    return chunk;
}

void chunk_release(struct chunk *chunk, size_t holders) {
    if (atomic_fetch_sub(&chunk->holders, holders) == holders) {
        chunk->reader->ops->release(chunk->reader, chunk->records, chunk->count);
        mem_free(chunk);
    }
}

/* --- sharing, with the mutex held --- */

bool hub_is_near(const struct place *place, int64_t next) {
    const int64_t distance = next > place->head ? next - place->head : place->head - next;

    return place->users == 0 || distance <= NEAR_RECORDS;
}

void hub_join(struct reader_hub *hub, struct tap *tap, int32_t partition) {
    struct place *place = &hub->places[partition];

    if (place->users++ == 0 || tap->next[partition] < place->head) {
        place->head = tap->next[partition];
        place->restart = true;
        (void)pthread_cond_signal(&hub->work);
    }
}

void hub_send_away(struct reader_hub *hub, struct tap *tap) {
    for (int32_t p = 0; p < hub->options.partitions; p++) {
        hub->places[p].users -= tap->started[p];
    }
    tap->shared = false;
    (void)pthread_cond_signal(&tap->wake);
}

static bool has_started(const struct tap *tap, int32_t partitions) {
    for (int32_t p = 0; p < partitions; p++) {
        if (tap->started[p]) {
            return true;
        }
    }
    return false;
}

static bool is_full(const struct tap *tap) {
    return tap->shared && (tap->count + TAKE_RECORDS > QUEUE_RECORDS || tap->bytes >= QUEUE_BYTES);
}

/* Is somebody's queue full, and has everybody else work? */
static bool must_wait(struct reader_hub *hub) {
    bool full = false;
    bool starving = false;

    for (size_t i = 0; i < hub->tap_count; i++) {
        const struct tap *tap = hub->taps[i];
        full = full || is_full(tap);
        starving = starving || (tap->shared && tap->waiting && tap->count == 0 &&
                                has_started(tap, hub->options.partitions));
    }
    for (size_t i = 0; full && starving && i < hub->tap_count; i++) {
        if (is_full(hub->taps[i])) {
            hub_send_away(hub, hub->taps[i]);
        }
    }
    return full && !starving;
}

static void push(struct tap *tap, struct chunk *chunk, size_t index) {
    const struct consumed_record *record = &chunk->records[index];

    assert(tap->count < QUEUE_RECORDS);
    tap->queue[(tap->first + tap->count++) % QUEUE_RECORDS] = (struct queued){chunk, index};
    tap->bytes += record->bytes;
    tap->next[record->partition] = record->offset + 1;
    atomic_fetch_add(&chunk->holders, 1);
}

static void give_out(struct reader_hub *hub, struct chunk *chunk) {
    for (size_t i = 0; i < chunk->count; i++) {
        const struct consumed_record *record = &chunk->records[i];
        struct place *place = &hub->places[record->partition];
        if (place->restart || place->users == 0) {
            continue;
        }
        for (size_t t = 0; t < hub->tap_count; t++) {
            struct tap *tap = hub->taps[t];
            if (tap->shared && tap->started[record->partition] &&
                record->offset >= tap->next[record->partition]) {
                push(tap, chunk, i);
            }
        }
        place->head = record->offset + 1;
    }
    for (size_t t = 0; t < hub->tap_count; t++) {
        if (hub->taps[t]->waiting && hub->taps[t]->count > 0) {
            (void)pthread_cond_signal(&hub->taps[t]->wake);
        }
    }
}

/* --- the hub's thread; the mutex is held but where its reader works --- */

static void open_reader(struct reader_hub *hub) {
    struct err err = {0};

    hub_unlock(hub);
    const enum err_code code = hub->reader->ops->open(hub->reader, &err);
    hub_lock(hub);
    hub->open = code == ERR_OK;
    hub->open_wanted = false;
    hub->open_tries++;
    hub->open_error = err;
    (void)pthread_cond_broadcast(&hub->opened);
}

/* Which of them is at fault shows when each reads for itself. */
static void give_up(struct reader_hub *hub, const struct err *err) {
    log_warn(hub->options.log, log_event("reader.failed"), log_err(err));
    for (size_t i = 0; i < hub->tap_count; i++) {
        if (hub->taps[i]->shared) {
            hub_send_away(hub, hub->taps[i]);
        }
    }
}

/* `let_go`: the mutex was, so that a signal may have come that nobody waited for. */
static enum err_code obey(struct reader_hub *hub, bool *running, bool *let_go, struct err *err) {
    enum err_code code = ERR_OK;

    *running = false;
    *let_go = false;
    for (int32_t p = 0; code == ERR_OK && p < hub->options.partitions; p++) {
        struct place *place = &hub->places[p];
        if (place->users == 0 && place->running) {
            place->running = false;
            *let_go = true;
            hub_unlock(hub);
            hub->reader->ops->stop(hub->reader, p);
            hub_lock(hub);
        } else if (place->users > 0 && place->restart) {
            const int64_t offset = place->head;
            place->restart = false;
            place->running = true;
            *let_go = true;
            hub_unlock(hub);
            code = hub->reader->ops->start(hub->reader, p, offset, err);
            hub_lock(hub);
        }
        *running = *running || place->running;
    }
    return code;
}

/* Records of one partition go out together: a queue then holds none of partitions that its lane
 * does not read. */
static size_t end_of_run(const struct consumed_record *records, size_t from, size_t count) {
    size_t next = from + 1;

    while (next < count && records[next].partition == records[from].partition) {
        next++;
    }
    return next;
}

static enum err_code pump(struct reader_hub *hub, struct err *err) {
    struct event_reader *reader = hub->reader;
    size_t count = 0;

    hub_unlock(hub);
    const enum err_code code =
        reader->ops->poll(reader, TAKE_WAIT_MS, hub->taken, TAKE_RECORDS, &count, err);
    hub_lock(hub);
    for (int32_t p = 0; p < hub->options.partitions; p++) {
        if (hub->places[p].running) {
            hub->places[p].end = reader->ops->end_offset(reader, p);
        }
    }
    for (size_t from = 0, next = 0; from < count; from = next) {
        next = end_of_run(hub->taken, from, count);
        struct chunk *chunk = chunk_new(reader, hub->taken + from, next - from);
        give_out(hub, chunk);
        chunk_release(chunk, 1);
    }
    return code;
}

static void *hub_main(void *arg) {
    struct reader_hub *hub = arg;

    hub_lock(hub);
    while (!hub->stop) {
        struct err err = {0};
        bool running = false;
        bool let_go = false;
        if (hub->open_wanted && !hub->open) {
            open_reader(hub);
            continue;
        }
        enum err_code code = hub->open ? obey(hub, &running, &let_go, &err) : ERR_OK;
        if (code == ERR_OK && !running) {
            if (!let_go) {
                (void)pthread_cond_wait(&hub->work, &hub->mutex);
            }
            continue;
        }
        hub->held_up = code == ERR_OK && must_wait(hub);
        if (hub->held_up) {
            hub_wait(hub, &hub->work, HELD_UP_WAIT_MS);
            continue;
        }
        code = code == ERR_OK ? pump(hub, &err) : code;
        if (code != ERR_OK) {
            give_up(hub, &err);
        }
    }
    hub_unlock(hub);
    return NULL;
}

size_t reader_hub_apart(struct reader_hub *hub) {
    size_t apart = 0;

    hub_lock(hub);
    for (size_t i = 0; i < hub->tap_count; i++) {
        apart += !hub->taps[i]->shared;
    }
    hub_unlock(hub);
    return apart;
}

/* --- life --- */

static void release(struct reader_hub *hub) {
    hub->reader->ops->free(hub->reader);
    (void)pthread_cond_destroy(&hub->work);
    (void)pthread_cond_destroy(&hub->opened);
    (void)pthread_mutex_destroy(&hub->mutex);
    mem_free(hub);
}

enum err_code reader_hub_start(const struct reader_hub_options *options, struct reader_hub **out,
                               struct err *err) {
    struct reader_hub *hub = mem_zalloc(sizeof(*hub));

    hub->options = *options;
    hub->reader = options->make(options->make_arg);
    (void)pthread_mutex_init(&hub->mutex, NULL);
    hub_cond_init(&hub->work);
    hub_cond_init(&hub->opened);
    for (int32_t p = 0; p < TOPIC_PARTITIONS_MAX; p++) {
        hub->places[p].end = -1;
    }
    const int failed = pthread_create(&hub->thread, NULL, hub_main, hub);
    if (failed != 0) {
        release(hub);
        return err_set(err, ERR_INTERNAL, "pthread_create: %s", strerror(failed));
    }
    *out = hub;
    return ERR_OK;
}

void reader_hub_free(struct reader_hub *hub) {
    if (hub == NULL) {
        return;
    }
    assert(hub->tap_count == 0);
    hub_lock(hub);
    hub->stop = true;
    (void)pthread_cond_signal(&hub->work);
    hub_unlock(hub);
    (void)pthread_join(hub->thread, NULL);
    release(hub);
}
