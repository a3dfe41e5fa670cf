#include <assert.h>
#include <inttypes.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "projector/reader_hub_internal.h"

static struct tap *tap_of(struct event_reader *reader) {
    return (struct tap *)(void *)reader;
}

static enum err_code tap_open(struct event_reader *reader, struct err *err) {
    struct reader_hub *hub = tap_of(reader)->hub;

    hub_lock(hub);
    const uint64_t tries = hub->open_tries;
    while (!hub->open && hub->open_tries == tries) {
        hub->open_wanted = true;
        (void)pthread_cond_signal(&hub->work);
        (void)pthread_cond_wait(&hub->opened, &hub->mutex);
    }
    const enum err_code code =
        hub->open ? ERR_OK : err_set(err, hub->open_error.code, "%s", hub->open_error.message);
    hub_unlock(hub);
    return code;
}

/* Takes the partition's records out of the queue. */
static void purge(struct tap *tap, int32_t partition) {
    const size_t count = tap->count;

    tap->count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct queued item = tap->queue[(tap->first + i) % QUEUE_RECORDS];
        const struct consumed_record *record = &item.chunk->records[item.index];
        if (record->partition == partition) {
            tap->bytes -= record->bytes;
            chunk_release(item.chunk, 1);
        } else {
            tap->queue[(tap->first + tap->count++) % QUEUE_RECORDS] = item;
        }
    }
}

static void tap_stop(struct event_reader *reader, int32_t partition) {
    struct tap *tap = tap_of(reader);
    struct reader_hub *hub = tap->hub;

    hub_lock(hub);
    if (tap->started[partition]) {
        tap->started[partition] = false;
        hub->places[partition].users -= tap->shared;
        purge(tap, partition);
    }
    hub_unlock(hub);
    if (tap->own != NULL) {
        tap->own->ops->stop(tap->own, partition);
    }
}

static enum err_code tap_start(struct event_reader *reader, int32_t partition, int64_t offset,
                               struct err *err) {
    struct tap *tap = tap_of(reader);
    struct reader_hub *hub = tap->hub;

    tap_stop(reader, partition);
    hub_lock(hub);
    if (tap->shared && !hub_is_near(&hub->places[partition], offset)) {
        hub_send_away(hub, tap);
    }
    tap->started[partition] = true;
    tap->next[partition] = offset;
    tap->beyond_at_us = 0;
    if (tap->shared) {
        hub_join(hub, tap, partition);
    }
    hub_unlock(hub);
    return tap->own != NULL ? tap->own->ops->start(tap->own, partition, offset, err) : ERR_OK;
}

static void drop_own(struct tap *tap) {
    if (tap->own != NULL) {
        tap->own->ops->free(tap->own);
        tap->own = NULL;
    }
}

/* Begins to read by itself, where the queue ended. */
static enum err_code go_apart(struct tap *tap, struct err *err) {
    struct reader_hub *hub = tap->hub;

    if (tap->own != NULL) {
        return ERR_OK;
    }
    tap->own = hub->options.make(hub->options.make_arg);
    enum err_code code = tap->own->ops->open(tap->own, err);
    for (int32_t p = 0; code == ERR_OK && p < hub->options.partitions; p++) {
        if (tap->started[p]) {
            code = tap->own->ops->start(tap->own, p, tap->next[p], err);
        }
    }
    if (code != ERR_OK) {
        drop_own(tap);
        return code;
    }
    tap->apart_at_us = clock_monotonic_us();
    tap->looked_at_us = tap->apart_at_us;
    log_debug(hub->options.log, log_event("reader.apart"));
    return ERR_OK;
}

/* True: it is with the others again. */
static bool come_back(struct tap *tap) {
    struct reader_hub *hub = tap->hub;
    const int64_t now_us = clock_monotonic_us();
    bool near = true;

    if (tap->own_held > 0 || now_us - tap->apart_at_us < APART_US_MIN ||
        now_us - tap->looked_at_us < LOOK_EVERY_US) {
        return false;
    }
    tap->looked_at_us = now_us;
    hub_lock(hub);
    for (int32_t p = 0; near && p < hub->options.partitions; p++) {
        if (tap->started[p]) {
            const int64_t end = tap->own->ops->end_offset(tap->own, p);
            near = tap->next[p] <= end && end - tap->next[p] <= NEAR_RECORDS &&
                   hub_is_near(&hub->places[p], tap->next[p]);
        }
    }
    tap->shared = near;
    tap->beyond_at_us = 0;
    for (int32_t p = 0; near && p < hub->options.partitions; p++) {
        if (tap->started[p]) {
            hub_join(hub, tap, p);
        }
    }
    hub_unlock(hub);
    if (near) {
        drop_own(tap);
        log_debug(hub->options.log, log_event("reader.shared"));
    }
    return near;
}

static enum err_code poll_own(struct tap *tap, int64_t wait_ms, struct consumed_record *out,
                              size_t max, size_t *count, struct err *err) {
    enum err_code code = go_apart(tap, err);

    if (code != ERR_OK || come_back(tap)) {
        return code;
    }
    code = tap->own->ops->poll(tap->own, wait_ms, out, max, count, err);
    if (*count > 0) {
        struct chunk *chunk = chunk_new(tap->own, out, *count);
        atomic_store(&chunk->holders, *count);
        for (size_t i = 0; i < *count; i++) {
            tap->next[out[i].partition] = out[i].offset + 1;
            out[i].handle = chunk;
        }
        tap->own_held += *count;
    }
    return code;
}

static size_t take_queued(struct tap *tap, struct consumed_record *out, size_t max) {
    const size_t count = tap->count < max ? tap->count : max;

    for (size_t i = 0; i < count; i++) {
        const struct queued item = tap->queue[tap->first];
        out[i] = item.chunk->records[item.index];
        out[i].handle = item.chunk;
        tap->bytes -= out[i].bytes;
        tap->first = (tap->first + 1) % QUEUE_RECORDS;
    }
    tap->count -= count;
    return count;
}

/* A position that the log doesn't have: others may be sharing the partition, so the broker doesn't
 * say. The hub hears of an end with every answer, a moment later than a tap that was apart. */
static enum err_code check_position(struct tap *tap, struct err *err) {
    const int64_t now_us = clock_monotonic_us();
    int32_t beyond = -1;

    for (int32_t p = 0; tap->shared && p < tap->hub->options.partitions; p++) {
        const int64_t end = tap->hub->places[p].end;
        beyond = tap->started[p] && end >= 0 && tap->next[p] > end ? p : beyond;
    }
    if (beyond < 0 || tap->beyond_at_us == 0) {
        tap->beyond_at_us = beyond < 0 ? 0 : now_us;
        return ERR_OK;
    }
    return now_us - tap->beyond_at_us < BEYOND_US_MAX
               ? ERR_OK
               : err_set(err, ERR_UNAVAILABLE,
                         "partition %" PRId32 ": offset %" PRId64 " is beyond its end", beyond,
                         tap->next[beyond]);
}

static enum err_code tap_poll(struct event_reader *reader, int64_t wait_ms,
                              struct consumed_record *out, size_t max, size_t *count,
                              struct err *err) {
    struct tap *tap = tap_of(reader);
    struct reader_hub *hub = tap->hub;

    *count = 0;
    hub_lock(hub);
    if (tap->count == 0 && tap->shared && wait_ms > 0) {
        tap->waiting = true;
        if (hub->held_up) {
            (void)pthread_cond_signal(&hub->work);
        }
        hub_wait(hub, &tap->wake, wait_ms);
        tap->waiting = false;
    }
    /* Also while records of other partitions come. */
    const enum err_code code = check_position(tap, err);
    *count = code == ERR_OK ? take_queued(tap, out, max) : 0;
    if (*count > 0 && hub->held_up) {
        (void)pthread_cond_signal(&hub->work);
    }
    const bool shared = tap->shared;
    hub_unlock(hub);
    return *count > 0 || shared || code != ERR_OK ? code
                                                  : poll_own(tap, wait_ms, out, max, count, err);
}

static void tap_release(struct event_reader *reader, struct consumed_record *records,
                        size_t count) {
    struct tap *tap = tap_of(reader);

    for (size_t i = 0; i < count; i++) {
        struct chunk *chunk = records[i].handle;
        size_t same = 0;
        while (chunk != NULL && i + same < count && records[i + same].handle == chunk) {
            records[i + same++].handle = NULL;
        }
        if (chunk != NULL) {
            tap->own_held -= chunk->reader == tap->own ? same : 0;
            chunk_release(chunk, same);
            i += same - 1;
        }
    }
}

static int64_t tap_end_offset(struct event_reader *reader, int32_t partition) {
    struct tap *tap = tap_of(reader);

    hub_lock(tap->hub);
    const int64_t end = tap->hub->places[partition].end;
    const bool shared = tap->shared;
    hub_unlock(tap->hub);
    if (shared) {
        return end;
    }
    return tap->own != NULL ? tap->own->ops->end_offset(tap->own, partition) : -1;
}

static enum err_code tap_bounds(struct event_reader *reader, int32_t partition, int64_t *first,
                                int64_t *end, struct err *err) {
    struct tap *tap = tap_of(reader);
    const struct reader_hub_options *options = &tap->hub->options;

    if (tap->own != NULL) {
        return tap->own->ops->bounds(tap->own, partition, first, end, err);
    }
    struct event_reader *other = options->make(options->make_arg);
    enum err_code code = other->ops->open(other, err);
    if (code == ERR_OK) {
        code = other->ops->bounds(other, partition, first, end, err);
    }
    other->ops->free(other);
    return code;
}

static void tap_close(struct event_reader *reader) {
    struct tap *tap = tap_of(reader);

    for (int32_t p = 0; p < tap->hub->options.partitions; p++) {
        tap_stop(reader, p);
    }
    hub_lock(tap->hub);
    tap->shared = true;
    hub_unlock(tap->hub);
    drop_own(tap);
}

static void tap_free(struct event_reader *reader) {
    struct tap *tap = tap_of(reader);
    struct reader_hub *hub = tap->hub;

    tap_close(reader);
    hub_lock(hub);
    for (size_t i = 0; i < hub->tap_count; i++) {
        if (hub->taps[i] == tap) {
            hub->taps[i] = hub->taps[--hub->tap_count];
        }
    }
    hub_unlock(hub);
    (void)pthread_cond_destroy(&tap->wake);
    mem_free(tap->queue);
    mem_free(tap);
}

struct event_reader *reader_hub_tap(struct reader_hub *hub) {
    static const struct event_reader_ops ops = {
        .open = tap_open,
        .start = tap_start,
        .stop = tap_stop,
        .poll = tap_poll,
        .release = tap_release,
        .end_offset = tap_end_offset,
        .bounds = tap_bounds,
        .close = tap_close,
        .free = tap_free,
    };
    struct tap *tap = mem_zalloc(sizeof(*tap));

    tap->base.ops = &ops;
    tap->hub = hub;
    tap->shared = true;
    tap->queue = mem_array(QUEUE_RECORDS, sizeof(tap->queue[0]));
    hub_cond_init(&tap->wake);
    hub_lock(hub);
    assert(hub->tap_count < HUB_TAPS_MAX);
    hub->taps[hub->tap_count++] = tap;
    hub_unlock(hub);
    return &tap->base;
}
