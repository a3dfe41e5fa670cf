#include "common/adapters/sink_mem.h"

#include "common/base/mem.h"
#include "common/ports/row.h"

enum { ROWS_MAX = 10000, PARTITIONS_MAX = 64, PARKED_MAX = 256, TEXT_BYTES = 160 };

struct kept_parked {
    int32_t partition;
    char stream[TEXT_BYTES];
    char type[TEXT_BYTES];
    char reason[PARKED_REASON_BYTES + 1];
    struct parked_event event; /* slices point to the texts above; no payload */
};

struct kept_void {
    int32_t partition;
    char stream[TEXT_BYTES];
    int64_t first, last;
};

struct sink_mem {
    struct projection_sink base;
    const struct projection *projection;
    struct row rows[ROWS_MAX]; /* texts are owned */
    size_t row_count;
    struct kept_parked parked[PARKED_MAX];
    size_t parked_count;
    struct kept_void voids[PARKED_MAX];
    size_t void_count;
    struct sink_checkpoint checkpoints[PARTITIONS_MAX];
    bool stored[PARTITIONS_MAX];
    enum err_code fail_code;
    bool fail_after;
    bool apart;
    int32_t fail_partition; /* where fail_code strikes; SINK_MEM_ANY: wherever comes first */
    uint64_t steps;
    char refused[TEXT_BYTES];
};

static struct sink_mem *self_of(struct projection_sink *sink) {
    return (struct sink_mem *)(void *)sink;
}

static struct row *find_row(const struct sink_mem *self, const struct row *key) {
    for (size_t i = 0; i < self->row_count; i++) {
        if (row_same_key(&self->rows[i], key)) {
            return (struct row *)(uintptr_t)&self->rows[i];
        }
    }
    return NULL;
}

static void keep_row(struct sink_mem *self, const struct row *row) {
    struct row *known = find_row(self, row);
    const int version = row->table->version_column;

    if (known == NULL) {
        row_copy(&self->rows[self->row_count++], row);
        return;
    }
    if (version >= 0 && known->cells[version].number >= row->cells[version].number) {
        return;
    }
    struct row merged = *known;
    struct row copy;
    row_merge(&merged, row);
    row_copy(&copy, &merged);
    row_release(known);
    *known = copy;
}

static struct sink_checkpoint stored(const struct sink_mem *self, int32_t partition) {
    return self->stored[partition] ? self->checkpoints[partition]
                                   : (struct sink_checkpoint){.next = SINK_NO_CHECKPOINT};
}

static enum err_code sink_read_checkpoints(struct projection_sink *sink, const int32_t *partitions,
                                           size_t count, struct sink_checkpoint *out,
                                           struct err *err) {
    (void)err;
    for (size_t i = 0; i < count; i++) {
        out[i] = stored(self_of(sink), partitions[i]);
    }
    return ERR_OK;
}

static bool is_first(const struct sink_mem *self, size_t index, int64_t *count) {
    const struct kept_parked *parked = &self->parked[index];
    bool first = true;

    *count = 0;
    for (size_t i = 0; i < self->parked_count; i++) {
        if (strcmp(self->parked[i].stream, parked->stream) == 0) {
            first = first && i >= index;
            ++*count;
        }
    }
    return first;
}

static enum err_code sink_read_exceptions(struct projection_sink *sink, int32_t partition,
                                          const struct sink_checkpoint *at,
                                          const struct sink_exceptions *into, struct err *err) {
    const struct sink_mem *self = self_of(sink);
    int64_t count = 0;

    (void)at;
    (void)err;
    for (size_t i = 0; i < self->parked_count; i++) {
        if (self->parked[i].partition == partition && is_first(self, i, &count)) {
            into->parked(into->arg, &self->parked[i].event, count);
        }
    }
    for (size_t i = 0; i < self->void_count; i++) {
        if (self->voids[i].partition == partition) {
            const struct void_range range = {str_from(self->voids[i].stream), self->voids[i].first,
                                             self->voids[i].last};
            into->voided(into->arg, &range);
        }
    }
    return ERR_OK;
}

static enum err_code sink_read_parked(struct projection_sink *sink, int32_t partition,
                                      const struct sink_checkpoint *at, struct str stream_id,
                                      sink_parked_fn *fn, void *arg, struct err *err) {
    const struct sink_mem *self = self_of(sink);

    (void)at;
    (void)err;
    for (size_t i = 0; i < self->parked_count; i++) {
        if (self->parked[i].partition == partition &&
            str_eq(stream_id, str_from(self->parked[i].stream))) {
            fn(arg, &self->parked[i].event);
        }
    }
    return ERR_OK;
}

static enum err_code sink_read_heads(struct projection_sink *sink, int32_t partition,
                                     const struct sink_checkpoint *at, struct stream_head *heads,
                                     size_t count, struct err *err) {
    const struct sink_mem *self = self_of(sink);
    const struct model_table *table = self->projection->heads;

    (void)partition;
    (void)at;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        heads[i].version = 0;
        for (size_t r = 0; r < self->row_count; r++) {
            const struct row *row = &self->rows[r];
            const int64_t version = row->cells[table->version_column].number;
            if (row->table == table && str_eq(row->cells[0].text, heads[i].stream_id) &&
                version > heads[i].version) {
                heads[i].version = version;
            }
        }
    }
    return ERR_OK;
}

static void keep_parked(struct sink_mem *self, int32_t partition,
                        const struct parked_event *event) {
    struct kept_parked *kept = &self->parked[self->parked_count++];

    *kept = (struct kept_parked){.partition = partition, .event = *event};
    (void)!str_copy(kept->stream, sizeof(kept->stream), event->stream_id);
    (void)!str_copy(kept->type, sizeof(kept->type), event->event_type);
    (void)!str_copy(kept->reason, sizeof(kept->reason), event->reason);
    kept->event.stream_id = str_from(kept->stream);
    kept->event.event_type = str_from(kept->type);
    kept->event.reason = str_from(kept->reason);
    kept->event.payload = (struct str){0};
}

static void forget_parked(struct sink_mem *self, struct str stream_id) {
    size_t left = 0;

    for (size_t i = 0; i < self->parked_count; i++) {
        if (str_eq(stream_id, str_from(self->parked[i].stream))) {
            continue;
        }
        struct kept_parked *kept = &self->parked[left++];
        *kept = self->parked[i];
        kept->event.stream_id = str_from(kept->stream);
        kept->event.event_type = str_from(kept->type);
        kept->event.reason = str_from(kept->reason);
    }
    self->parked_count = left;
}

static void keep_void(struct sink_mem *self, int32_t partition, const struct void_range *range) {
    size_t i = 0;

    while (i < self->void_count &&
           (self->voids[i].partition != partition || self->voids[i].first != range->first ||
            !str_eq(str_from(self->voids[i].stream), range->stream_id))) {
        i++;
    }
    self->void_count += i == self->void_count;
    self->voids[i] = (struct kept_void){partition, "", range->first, range->last};
    (void)!str_copy(self->voids[i].stream, sizeof(self->voids[i].stream), range->stream_id);
}

static bool refuses(const struct sink_mem *self, const struct sink_batch *batch) {
    for (size_t i = 0; i < batch->row_count; i++) {
        if (self->refused[0] != '\0' &&
            str_eq(batch->rows[i].cells[0].text, str_from(self->refused))) {
            return true;
        }
    }
    return false;
}

static bool have_room(const struct sink_mem *self, const struct sink_batch *batches, size_t count) {
    size_t rows = self->row_count;
    size_t parked = self->parked_count;
    size_t voids = self->void_count;

    for (size_t i = 0; i < count; i++) {
        rows += batches[i].row_count;
        parked += batches[i].parked_count;
        voids += batches[i].void_count;
    }
    return rows <= ROWS_MAX && parked <= PARKED_MAX && voids <= PARKED_MAX;
}

/* ERR_OK: it can be kept. */
static enum err_code judge(const struct sink_mem *self, const struct sink_batch *batch,
                           struct err *err) {
    const struct sink_checkpoint now = stored(self, batch->partition);

    if (!checkpoint_equal(&now, &batch->expected)) {
        return err_set(err, ERR_FENCED, "memory: the checkpoint is not the expected one");
    }
    return refuses(self, batch) ? err_set(err, ERR_INVALID, "memory: refused") : ERR_OK;
}

static void keep(struct sink_mem *self, const struct sink_batch *batch) {
    for (size_t i = 0; i < batch->row_count; i++) {
        keep_row(self, &batch->rows[i]);
    }
    for (size_t i = 0; i < batch->released_count; i++) {
        forget_parked(self, batch->released[i]);
    }
    for (size_t i = 0; i < batch->parked_count; i++) {
        keep_parked(self, batch->partition, &batch->parked[i]);
    }
    for (size_t i = 0; i < batch->void_count; i++) {
        keep_void(self, batch->partition, &batch->voids[i]);
    }
    if (checkpoint_exists(&batch->next)) {
        self->checkpoints[batch->partition] = batch->next;
        self->stored[batch->partition] = true;
    }
}

static enum err_code take_injected(struct sink_mem *self, const struct sink_batch *batch) {
    const enum err_code code = self->fail_code;

    if (self->fail_partition != SINK_MEM_ANY && self->fail_partition != batch->partition) {
        return ERR_OK;
    }
    self->fail_code = ERR_OK;
    return code;
}

static enum err_code apply_batches(struct sink_mem *self, const struct sink_batch *batches,
                                   size_t count, struct err *err) {
    const enum err_code injected = take_injected(self, batches);
    enum err_code code =
        have_room(self, batches, count) ? ERR_OK : err_set(err, ERR_UNAVAILABLE, "memory: full");

    if (injected != ERR_OK && !self->fail_after) {
        return err_set(err, injected, "injected");
    }
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        code = judge(self, &batches[i], err);
    }
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        keep(self, &batches[i]);
    }
    self->steps++;
    return code == ERR_OK && injected != ERR_OK ? err_set(err, injected, "injected") : code;
}

static enum err_code sink_apply(struct projection_sink *sink, const struct sink_batch *batch,
                                struct err *err) {
    return apply_batches(self_of(sink), batch, 1, err);
}

static enum err_code sink_apply_all(struct projection_sink *sink, const struct sink_batch *batches,
                                    size_t count, enum err_code *codes, struct err *err) {
    struct sink_mem *self = self_of(sink);
    enum err_code told = self->apart ? ERR_OK : apply_batches(self, batches, count, err);

    for (size_t i = 0; i < count; i++) {
        codes[i] = told;
        if (self->apart && told != ERR_UNAVAILABLE) {
            codes[i] = apply_batches(self, &batches[i], 1, told == ERR_OK ? err : NULL);
            told = codes[i] != ERR_OK ? codes[i] : told;
        }
    }
    return told;
}

void sink_mem_lose(struct projection_sink *sink) {
    struct sink_mem *self = self_of(sink);

    for (size_t i = 0; i < self->row_count; i++) {
        row_release(&self->rows[i]);
    }
    self->row_count = 0;
    self->parked_count = 0;
    self->void_count = 0;
    memset(self->stored, 0, sizeof(self->stored));
}

static void sink_free(struct projection_sink *sink) {
    sink_mem_lose(sink);
    mem_free(self_of(sink));
}

struct projection_sink *sink_mem_new(const struct projection *projection, unsigned store) {
    static const struct projection_sink_ops ops = {
        .name = "memory",
        .read_checkpoints = sink_read_checkpoints,
        .read_exceptions = sink_read_exceptions,
        .read_parked = sink_read_parked,
        .read_heads = sink_read_heads,
        .apply = sink_apply,
        .apply_all = sink_apply_all,
        .free = sink_free,
    };
    struct sink_mem *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    self->base.store = store;
    self->projection = projection;
    self->fail_partition = SINK_MEM_ANY;
    return &self->base;
}

const struct row *sink_mem_find(const struct projection_sink *sink, const struct row *key) {
    return find_row((const struct sink_mem *)(const void *)sink, key);
}

uint64_t sink_mem_steps(const struct projection_sink *sink) {
    return ((const struct sink_mem *)(const void *)sink)->steps;
}

void sink_mem_fail_next(struct projection_sink *sink, enum err_code code, bool after) {
    self_of(sink)->fail_code = code;
    self_of(sink)->fail_after = after;
    self_of(sink)->fail_partition = SINK_MEM_ANY;
}

void sink_mem_fail_in(struct projection_sink *sink, int32_t partition, enum err_code code) {
    sink_mem_fail_next(sink, code, false);
    self_of(sink)->fail_partition = partition;
}

void sink_mem_apart(struct projection_sink *sink) {
    self_of(sink)->apart = true;
}

void sink_mem_refuse(struct projection_sink *sink, const char *key) {
    (void)!str_copy(self_of(sink)->refused, TEXT_BYTES, str_from(key));
}
