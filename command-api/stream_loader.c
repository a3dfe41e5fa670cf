#include "command-api/stream_loader.h"

#include <assert.h>
#include <inttypes.h>

#include "command-api/snapshot.h"
#include "common/base/mem.h"

enum { ARENA_BLOCK_BYTES = 4096, ARENA_BYTES_MAX = 1024 * 1024 };

enum ignored { IGNORED_LAYOUT, IGNORED_OTHER_LOG, IGNORED_DAMAGED, IGNORED_KINDS };

struct stream_loader {
    struct event_store *store;
    struct log *log;
    struct arena arena;
    struct metric_counter *used;
    struct metric_counter *ignored[IGNORED_KINDS];
    struct metric_counter *folded;

    /* The load in hand. */
    struct stream_entry *entries[STREAM_LOAD_MAX];
    struct stream_from streams[STREAM_LOAD_MAX];
    size_t count;
    bool damaged[STREAM_LOAD_MAX]; /* its snapshot: the events behind it are of no use */
    int32_t got[STREAM_LOAD_MAX];  /* events; as many as a page holds: there may be more */
};

static const char *const ignored_names[IGNORED_KINDS] = {"layout", "other_log", "damaged"};

struct stream_loader *stream_loader_new(struct event_store *store, struct log *log,
                                        struct metrics *metrics) {
    static const char *const labels[IGNORED_KINDS] = {"reason=\"layout\"", "reason=\"other_log\"",
                                                      "reason=\"damaged\""};
    struct stream_loader *loader = mem_zalloc(sizeof(*loader));

    loader->store = store;
    loader->log = log;
    arena_init(&loader->arena, ARENA_BLOCK_BYTES, ARENA_BYTES_MAX);
    loader->used = metrics_counter(metrics, "daybook_snapshots_used_total", "",
                                   "Streams loaded from a snapshot.");
    for (size_t i = 0; i < IGNORED_KINDS; i++) {
        loader->ignored[i] = metrics_counter(metrics, "daybook_snapshots_ignored_total", labels[i],
                                             "Snapshots found that could not be used.");
    }
    loader->folded = metrics_counter(metrics, "daybook_events_loaded_total", "",
                                     "Events read back from the log to know a stream's state.");
    return loader;
}

void stream_loader_free(struct stream_loader *loader) {
    if (loader != NULL) {
        arena_release(&loader->arena);
        mem_free(loader);
    }
}

static void ignore_snapshot(struct stream_loader *loader, size_t index,
                            const struct stream_snapshot *snapshot, enum ignored why,
                            const struct err *err) {
    loader->entries[index]->snapshot_due = true;
    metric_add(loader->ignored[why], 1);
    log_warn(loader->log, log_event("snapshot.ignored"),
             log_cstr("stream", loader->entries[index]->stream_id),
             log_i64("version", snapshot->version), log_cstr("reason", ignored_names[why]),
             log_err(err));
}

static void take_snapshot(void *arg, size_t index, const struct stream_snapshot *snapshot,
                          enum snapshot_fit fit) {
    struct stream_loader *loader = arg;
    struct stream_entry *entry = loader->entries[index];
    struct stream_state state;
    struct err err = {0};

    if (fit != SNAPSHOT_FITS) {
        ignore_snapshot(loader, index, snapshot,
                        fit == SNAPSHOT_OTHER_LAYOUT ? IGNORED_LAYOUT : IGNORED_OTHER_LOG, &err);
        return;
    }
    if (snapshot_read(entry->aggregate, snapshot, &loader->arena, &state, &err) != ERR_OK) {
        loader->damaged[index] = true;
        ignore_snapshot(loader, index, snapshot, IGNORED_DAMAGED, &err);
        return;
    }
    entry->committed = state;
    entry->snapshot_version = state.version;
    metric_add(loader->used, 1);
}

static enum err_code fold_event(void *arg, size_t index, const struct recorded_event *recorded,
                                struct err *err) {
    struct stream_loader *loader = arg;
    struct stream_entry *entry = loader->entries[index];
    struct stream_state *state = &entry->committed;
    struct event event;

    loader->got[index]++;
    if (loader->damaged[index]) {
        return ERR_OK;
    }
    if (recorded->version != state->version + 1) {
        return err_set(err, ERR_CORRUPT, "stream %s: version %" PRId64 " follows %" PRId64,
                       entry->stream_id, recorded->version, state->version);
    }
    arena_clear(&loader->arena);
    enum err_code code =
        event_decode(entry->aggregate, recorded->event_type, recorded->schema_version,
                     recorded->payload, &loader->arena, &event, err);
    if (code == ERR_OK) {
        event.recorded_at_us = recorded->recorded_at_us;
        code = entry->aggregate->evolve(state->data.bytes, &event, err);
    }
    if (code != ERR_OK) {
        return err_prefix(err, "stream %s version %" PRId64, entry->stream_id, recorded->version);
    }
    state->version = recorded->version;
    state->recorded_at_us = recorded->recorded_at_us;
    state->event_id = recorded->event_id;
    metric_add(loader->folded, 1);
    return ERR_OK;
}

static enum err_code load_round(struct stream_loader *loader, struct err *err) {
    struct event_store *store = loader->store;

    return store->ops->load(store, loader->streams, loader->count, take_snapshot, fold_event,
                            loader, err);
}

static void plan(struct stream_loader *loader, struct stream_entry *entry, bool from_snapshot) {
    const int64_t version = entry->committed.version;
    const bool wanted = from_snapshot && version == 0;

    loader->damaged[loader->count] = false;
    loader->got[loader->count] = 0;
    loader->entries[loader->count] = entry;
    loader->streams[loader->count++] = (struct stream_from){
        .stream = {str_from(entry->aggregate->name), str_from(entry->stream_id)},
        .after_version = version,
        .from_snapshot = wanted,
        .layout = wanted ? snapshot_layout(entry->aggregate) : 0,
    };
}

/* What is to be asked for again: whole where the snapshot is damaged, and the next page where one
 * was full. */
static void plan_rest(struct stream_loader *loader) {
    const size_t count = loader->count;

    loader->count = 0;
    for (size_t i = 0; i < count; i++) {
        if (loader->damaged[i] || loader->got[i] == EVENT_STORE_LOAD_MAX) {
            plan(loader, loader->entries[i], false);
        }
    }
}

enum err_code stream_loader_load(struct stream_loader *loader, struct stream_entry *const *entries,
                                 size_t count, struct err *err) {
    int64_t before[STREAM_LOAD_MAX];

    assert(count <= STREAM_LOAD_MAX);
    loader->count = 0;
    for (size_t i = 0; i < count; i++) {
        before[i] = entries[i]->committed.version;
        plan(loader, entries[i], true);
    }
    enum err_code code = ERR_OK;
    while (code == ERR_OK && loader->count > 0) {
        code = load_round(loader, err);
        plan_rest(loader);
    }
    for (size_t i = 0; i < count; i++) {
        struct stream_entry *entry = entries[i];
        if (code == ERR_CORRUPT) {
            stream_entry_forget(entry);
        }
        entry->loaded = code == ERR_OK;
        entry->fresh = code == ERR_OK;
        entry->moved = entry->committed.version != before[i];
    }
    return code;
}
