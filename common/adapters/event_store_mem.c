#include "common/adapters/event_store_mem.h"

#include <assert.h>
#include <string.h>

#include "common/base/mem.h"

enum { ROWS_MAX = 100000 };

struct store_mem {
    struct event_store base;
    struct recorded_event *events; /* their slices are owned */
    size_t event_count;
    size_t event_cap;
    struct command_outcome *outcomes;
    size_t outcome_count;
    size_t outcome_cap;
    struct stream_snapshot *snapshots;
    size_t snapshot_count;
    enum err_code fail_code;
    bool fail_lose;
    struct append_end {
        enum err_code code;
        struct err err;
    } ends[EVENT_STORE_APPENDS_MAX]; /* of appends that were begun, oldest first */
    size_t end_count;
};

static struct store_mem *self_of(struct event_store *store) {
    return (struct store_mem *)(void *)store;
}

static struct str keep(struct str text) {
    return str_of(mem_strndup(text), text.len);
}

static bool same_stream(const struct stream_key *a, struct str type, struct str id) {
    return str_eq(a->aggregate_type, type) && str_eq(a->stream_id, id);
}

static bool has_event(const struct store_mem *self, const struct recorded_event *wanted) {
    for (size_t i = 0; i < self->event_count; i++) {
        const struct recorded_event *e = &self->events[i];
        if (memcmp(&e->event_id, &wanted->event_id, sizeof(e->event_id)) == 0 ||
            (e->version == wanted->version && str_eq(e->stream_id, wanted->stream_id) &&
             str_eq(e->aggregate_type, wanted->aggregate_type))) {
            return true;
        }
    }
    return false;
}

static const struct command_outcome *find_outcome(const struct store_mem *self,
                                                  const struct stream_key *stream, struct str key) {
    for (size_t i = 0; i < self->outcome_count; i++) {
        const struct command_outcome *o = &self->outcomes[i];
        if (str_eq(o->key, key) &&
            same_stream(&o->stream, stream->aggregate_type, stream->stream_id)) {
            return o;
        }
    }
    return NULL;
}

static void insert_event(struct store_mem *self, const struct recorded_event *event) {
    if (self->event_count == self->event_cap) {
        self->event_cap = self->event_cap > 0 ? 2 * self->event_cap : 64;
        self->events = mem_resize(self->events, self->event_cap, sizeof(self->events[0]));
    }
    struct recorded_event *copy = &self->events[self->event_count++];
    *copy = *event;
    copy->position = (int64_t)self->event_count;
    copy->aggregate_type = keep(event->aggregate_type);
    copy->stream_id = keep(event->stream_id);
    copy->event_type = keep(event->event_type);
    copy->payload = keep(event->payload);
    copy->correlation_id = keep(event->correlation_id);
    copy->causation_id = keep(event->causation_id);
    copy->actor = keep(event->actor);
    copy->traceparent = keep(event->traceparent);
    copy->command = keep(event->command);
}

static void insert_outcome(struct store_mem *self, const struct command_outcome *outcome) {
    if (self->outcome_count == self->outcome_cap) {
        self->outcome_cap = self->outcome_cap > 0 ? 2 * self->outcome_cap : 64;
        self->outcomes = mem_resize(self->outcomes, self->outcome_cap, sizeof(self->outcomes[0]));
    }
    struct command_outcome *copy = &self->outcomes[self->outcome_count++];
    *copy = *outcome;
    copy->stream.aggregate_type = keep(outcome->stream.aggregate_type);
    copy->stream.stream_id = keep(outcome->stream.stream_id);
    copy->key = keep(outcome->key);
    copy->body = keep(outcome->body);
}

static void remove_last(struct store_mem *self, size_t event_count, size_t outcome_count) {
    while (self->event_count > event_count) {
        const struct recorded_event *e = &self->events[--self->event_count];
        mem_free_const(e->aggregate_type.ptr);
        mem_free_const(e->stream_id.ptr);
        mem_free_const(e->event_type.ptr);
        mem_free_const(e->payload.ptr);
        mem_free_const(e->correlation_id.ptr);
        mem_free_const(e->causation_id.ptr);
        mem_free_const(e->actor.ptr);
        mem_free_const(e->traceparent.ptr);
        mem_free_const(e->command.ptr);
    }
    while (self->outcome_count > outcome_count) {
        const struct command_outcome *o = &self->outcomes[--self->outcome_count];
        mem_free_const(o->stream.aggregate_type.ptr);
        mem_free_const(o->stream.stream_id.ptr);
        mem_free_const(o->key.ptr);
        mem_free_const(o->body.ptr);
    }
}

static void drop_snapshot(const struct stream_snapshot *snapshot) {
    mem_free_const(snapshot->stream.aggregate_type.ptr);
    mem_free_const(snapshot->stream.stream_id.ptr);
    mem_free_const(snapshot->state.ptr);
}

static enum err_code append_now(struct store_mem *self, const struct append_batch *batch,
                                struct err *err) {
    const size_t events_before = self->event_count;
    const size_t outcomes_before = self->outcome_count;
    const enum err_code injected = self->fail_code;
    enum err_code code = ERR_OK;

    self->fail_code = ERR_OK;
    if (injected != ERR_OK && self->fail_lose) {
        return err_set(err, injected, "injected");
    }
    if (self->event_count + batch->event_count > ROWS_MAX) {
        return err_set(err, ERR_LIMIT, "the memory store holds %d events", ROWS_MAX);
    }
    for (size_t i = 0; i < batch->event_count && code == ERR_OK; i++) {
        if (has_event(self, &batch->events[i])) {
            code = err_set(err, ERR_CONFLICT, "the version or event exists");
        } else {
            insert_event(self, &batch->events[i]);
        }
    }
    for (size_t i = 0; i < batch->outcome_count && code == ERR_OK; i++) {
        if (find_outcome(self, &batch->outcomes[i].stream, batch->outcomes[i].key) != NULL) {
            code = err_set(err, ERR_CONFLICT, "the key exists");
        } else {
            insert_outcome(self, &batch->outcomes[i]);
        }
    }
    if (code != ERR_OK) {
        remove_last(self, events_before, outcomes_before);
    }
    return code == ERR_OK && injected != ERR_OK ? err_set(err, injected, "injected") : code;
}

static enum err_code store_append_begin(struct event_store *store, const struct append_batch *batch,
                                        struct err *err) {
    struct store_mem *self = self_of(store);

    (void)err;
    assert(self->end_count < EVENT_STORE_APPENDS_MAX);
    struct append_end *end = &self->ends[self->end_count++];
    end->code = append_now(self, batch, &end->err);
    return ERR_OK;
}

static enum err_code store_append_end(struct event_store *store, int64_t wait_until_us, bool *ended,
                                      struct err *err) {
    struct store_mem *self = self_of(store);

    (void)wait_until_us;
    assert(self->end_count > 0);
    const struct append_end end = self->ends[0];
    self->end_count--;
    memmove(self->ends, self->ends + 1, self->end_count * sizeof(self->ends[0]));
    *ended = true;
    return end.code == ERR_OK ? ERR_OK : err_set(err, end.code, "%s", end.err.message);
}

static enum err_code store_was_appended(struct event_store *store, const struct append_batch *batch,
                                        bool *appended, struct err *err) {
    struct store_mem *self = self_of(store);

    (void)err;
    *appended = batch->event_count == 0 && batch->outcome_count == 0;
    for (size_t i = 0; i < self->event_count && batch->event_count > 0; i++) {
        *appended = *appended || memcmp(&self->events[i].event_id, &batch->events[0].event_id,
                                        sizeof(self->events[i].event_id)) == 0;
    }
    if (batch->event_count == 0 && batch->outcome_count > 0) {
        const struct command_outcome *o =
            find_outcome(self, &batch->outcomes[0].stream, batch->outcomes[0].key);
        *appended = o != NULL && o->request_hash == batch->outcomes[0].request_hash &&
                    o->recorded_at_us == batch->outcomes[0].recorded_at_us;
    }
    return ERR_OK;
}

static struct stream_snapshot *find_snapshot(const struct store_mem *self,
                                             const struct stream_key *stream) {
    for (size_t i = 0; i < self->snapshot_count; i++) {
        struct stream_snapshot *n = &self->snapshots[i];
        if (same_stream(&n->stream, stream->aggregate_type, stream->stream_id)) {
            return n;
        }
    }
    return NULL;
}

static enum snapshot_fit fit_of(const struct store_mem *self, const struct stream_snapshot *n,
                                int64_t layout) {
    if (n->layout != layout) {
        return SNAPSHOT_OTHER_LAYOUT;
    }
    for (size_t i = 0; i < self->event_count; i++) {
        const struct recorded_event *e = &self->events[i];
        if (e->version == n->version && same_stream(&n->stream, e->aggregate_type, e->stream_id) &&
            memcmp(&e->event_id, &n->event_id, sizeof(e->event_id)) == 0) {
            return SNAPSHOT_FITS;
        }
    }
    return SNAPSHOT_OTHER_LOG;
}

/* The version behind which to load. */
static int64_t load_snapshot(const struct store_mem *self, const struct stream_from *from,
                             size_t index, event_store_snapshot_fn *fn, void *arg) {
    const struct stream_snapshot *found =
        from->from_snapshot && fn != NULL ? find_snapshot(self, &from->stream) : NULL;

    if (found == NULL) {
        return from->after_version;
    }
    const enum snapshot_fit fit = fit_of(self, found, from->layout);
    struct stream_snapshot shown = *found;
    if (fit != SNAPSHOT_FITS) {
        shown.state = (struct str){0};
    }
    fn(arg, index, &shown, fit);
    return fit == SNAPSHOT_FITS ? found->version : from->after_version;
}

static enum err_code store_load(struct event_store *store, const struct stream_from *streams,
                                size_t count, event_store_snapshot_fn *snapshot_fn,
                                event_store_event_fn *fn, void *arg, struct err *err) {
    struct store_mem *self = self_of(store);
    enum err_code code = ERR_OK;

    for (size_t s = 0; s < count; s++) {
        int32_t left = EVENT_STORE_LOAD_MAX;
        const int64_t after = load_snapshot(self, &streams[s], s, snapshot_fn, arg);
        for (size_t i = 0; i < self->event_count && code == ERR_OK; i++) {
            const struct recorded_event *e = &self->events[i];
            if (same_stream(&streams[s].stream, e->aggregate_type, e->stream_id) &&
                e->version > after && left-- > 0) {
                code = fn(arg, s, e, err);
            }
        }
    }
    return code;
}

static enum err_code store_save_snapshots(struct event_store *store,
                                          const struct stream_snapshot *snapshots, size_t count,
                                          struct err *err) {
    struct store_mem *self = self_of(store);

    (void)err;
    for (size_t i = 0; i < count; i++) {
        struct stream_snapshot *place = find_snapshot(self, &snapshots[i].stream);
        if (place == NULL) {
            self->snapshots =
                mem_resize(self->snapshots, self->snapshot_count + 1, sizeof(*self->snapshots));
            place = &self->snapshots[self->snapshot_count++];
        } else {
            drop_snapshot(place);
        }
        *place = snapshots[i];
        place->stream.aggregate_type = keep(snapshots[i].stream.aggregate_type);
        place->stream.stream_id = keep(snapshots[i].stream.stream_id);
        place->state = keep(snapshots[i].state);
    }
    return ERR_OK;
}

static enum err_code store_find_outcomes(struct event_store *store, const struct outcome_key *keys,
                                         size_t count, event_store_outcome_fn *fn, void *arg,
                                         struct err *err) {
    struct store_mem *self = self_of(store);

    (void)err;
    for (size_t i = 0; i < count; i++) {
        const struct command_outcome *o = find_outcome(self, &keys[i].stream, keys[i].key);
        if (o != NULL) {
            fn(arg, i, o);
        }
    }
    return ERR_OK;
}

static enum err_code store_check(struct event_store *store, struct err *err) {
    (void)store;
    (void)err;
    return ERR_OK;
}

static void store_free(struct event_store *store) {
    struct store_mem *self = self_of(store);

    remove_last(self, 0, 0);
    for (size_t i = 0; i < self->snapshot_count; i++) {
        drop_snapshot(&self->snapshots[i]);
    }
    mem_free(self->snapshots);
    mem_free(self->events);
    mem_free(self->outcomes);
    mem_free(self);
}

struct event_store *event_store_mem_new(void) {
    static const struct event_store_ops ops = {
        .load = store_load,
        .save_snapshots = store_save_snapshots,
        .append_begin = store_append_begin,
        .append_end = store_append_end,
        .was_appended = store_was_appended,
        .find_outcomes = store_find_outcomes,
        .check = store_check,
        .free = store_free,
    };
    struct store_mem *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    return &self->base;
}

void event_store_mem_fail_next(struct event_store *store, enum err_code code, bool lose) {
    self_of(store)->fail_code = code;
    self_of(store)->fail_lose = lose;
}

size_t event_store_mem_count(const struct event_store *store) {
    return ((const struct store_mem *)(const void *)store)->event_count;
}
