#include "command-api/snapshot_writer.h"

#include <pthread.h>
#include <string.h>

#include "command-api/snapshot.h"
#include "common/base/mem.h"
#include "common/runtime/queue.h"

enum { BATCH_MAX = 256, STATE_TEXT_BYTES_MAX = 16 * 1024 };

struct offer {
    const struct aggregate *aggregate;
    char stream_id[STREAM_ID_BYTES_MAX + 1];
    struct stream_state state;
};

struct snapshot_writer {
    struct snapshot_writer_options options;
    struct queue *queue;
    pthread_t thread;
    struct buf texts[BATCH_MAX];
    struct stream_snapshot snapshots[BATCH_MAX];
    struct metric_counter *written;
    struct metric_counter *dropped;
};

static bool same_stream(const struct offer *a, const struct offer *b) {
    return a->aggregate == b->aggregate && strcmp(a->stream_id, b->stream_id) == 0;
}

/* A later offer of the batch for the same stream makes this one needless. */
static bool is_outdone(void *const *items, size_t count, size_t index) {
    for (size_t i = index + 1; i < count; i++) {
        if (same_stream(items[index], items[i])) {
            return true;
        }
    }
    return false;
}

static bool write_batch(struct snapshot_writer *writer, void *const *items, size_t count) {
    struct event_store *store = writer->options.store;
    struct err err = {0};
    size_t kept = 0;

    for (size_t i = 0; i < count; i++) {
        const struct offer *offer = items[i];
        struct buf *text = &writer->texts[kept];
        if (is_outdone(items, count, i)) {
            continue;
        }
        snapshot_write(offer->aggregate, offer->stream_id, &offer->state, text,
                       &writer->snapshots[kept]);
        kept += buf_failed(text) ? 0 : 1;
    }
    const enum err_code code = store->ops->save_snapshots(store, writer->snapshots, kept, &err);
    if (code == ERR_OK) {
        metric_add(writer->written, kept);
    } else {
        metric_add(writer->dropped, kept);
        log_warn(writer->options.log, log_event("snapshots.not_written"),
                 log_i64("snapshots", (int64_t)kept), log_err(&err));
    }
    return code == ERR_OK;
}

static void *writer_main(void *arg) {
    struct snapshot_writer *writer = arg;
    void *items[BATCH_MAX];
    bool ok = true;

    for (;;) {
        const size_t count = queue_pop_many(writer->queue, items, BATCH_MAX, -1);
        if (count == 0) {
            return NULL;
        }
        /* A stop doesn't wait for a store that is away. */
        if (ok || !queue_closed(writer->queue)) {
            ok = write_batch(writer, items, count);
        }
        for (size_t i = 0; i < count; i++) {
            mem_free(items[i]);
        }
    }
}

static void free_writer(struct snapshot_writer *writer) {
    queue_free(writer->queue);
    for (size_t i = 0; i < BATCH_MAX; i++) {
        buf_release(&writer->texts[i]);
    }
    mem_free(writer);
}

enum err_code snapshot_writer_start(const struct snapshot_writer_options *options,
                                    struct snapshot_writer **out, struct err *err) {
    struct snapshot_writer *writer = mem_zalloc(sizeof(*writer));

    writer->options = *options;
    writer->queue = queue_new(SNAPSHOT_QUEUE_MAX);
    for (size_t i = 0; i < BATCH_MAX; i++) {
        buf_init(&writer->texts[i], STATE_TEXT_BYTES_MAX);
    }
    writer->written = metrics_counter(options->metrics, "daybook_snapshots_written_total", "",
                                      "Snapshots written beside the log.");
    writer->dropped = metrics_counter(options->metrics, "daybook_snapshots_dropped_total", "",
                                      "Snapshots that were due and could not be written.");
    const int failed = pthread_create(&writer->thread, NULL, writer_main, writer);
    if (failed != 0) {
        free_writer(writer);
        return err_set(err, ERR_INTERNAL, "pthread_create: %s", strerror(failed));
    }
    *out = writer;
    return ERR_OK;
}

void snapshot_writer_offer(struct snapshot_writer *writer, const struct aggregate *aggregate,
                           const char *stream_id, const struct stream_state *state) {
    struct offer *offer = mem_zalloc(sizeof(*offer));

    offer->aggregate = aggregate;
    memcpy(offer->stream_id, stream_id, strlen(stream_id) + 1);
    offer->state = *state;
    if (!queue_try_push(writer->queue, offer)) {
        mem_free(offer);
        metric_add(writer->dropped, 1);
    }
}

void snapshot_writer_stop(struct snapshot_writer *writer) {
    if (writer == NULL) {
        return;
    }
    queue_close(writer->queue);
    (void)pthread_join(writer->thread, NULL);
    free_writer(writer);
}
