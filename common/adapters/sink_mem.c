#include "common/adapters/sink_mem.h"

#include "common/base/mem.h"

enum { ROWS_MAX = 10000, PARTITIONS_MAX = 64 };

struct kept_head {
    char type[32];
    char id[STREAM_ID_BYTES_MAX + 1];
    int64_t version;
};

struct sink_mem {
    struct projection_sink base;
    struct row rows[ROWS_MAX]; /* texts are owned */
    size_t row_count;
    struct kept_head heads[ROWS_MAX];
    size_t head_count;
    int64_t checkpoints[PARTITIONS_MAX]; /* + 1; 0: none */
    enum err_code fail_code;
    bool fail_after;
};

static struct sink_mem *self_of(struct projection_sink *sink) {
    return (struct sink_mem *)(void *)sink;
}

static bool cells_equal(const struct cell *a, const struct cell *b) {
    return a->number == b->number && str_eq(a->text, b->text) &&
           memcmp(&a->uuid, &b->uuid, sizeof(a->uuid)) == 0;
}

static struct row *find_row(const struct sink_mem *self, const struct row *key) {
    for (size_t i = 0; i < self->row_count; i++) {
        const struct row *row = &self->rows[i];
        bool same = row->table == key->table;
        for (size_t c = 0; same && c < key->table->key_count; c++) {
            same = cells_equal(&row->cells[c], &key->cells[c]);
        }
        if (same) {
            return (struct row *)(uintptr_t)row;
        }
    }
    return NULL;
}

static struct kept_head *find_head(struct sink_mem *self, const struct stream_key *stream) {
    for (size_t i = 0; i < self->head_count; i++) {
        if (str_eq(stream->stream_id, str_from(self->heads[i].id)) &&
            str_eq(stream->aggregate_type, str_from(self->heads[i].type))) {
            return &self->heads[i];
        }
    }
    return NULL;
}

static void keep_cell(struct cell *into, const struct cell *from, enum column_merge merge) {
    if (!from->set) {
        return;
    }
    if (merge == MERGE_ADD && into->set) {
        into->number += from->number;
        return;
    }
    union {
        const char *in;
        void *out;
    } old = {.in = into->text.ptr};
    mem_free(old.out);
    *into = *from;
    into->text = str_of(mem_strndup(from->text), from->text.len);
}

static void keep_row(struct sink_mem *self, const struct row *row) {
    struct row *known = find_row(self, row);
    const int version = row->table->version_column;

    if (known == NULL) {
        known = &self->rows[self->row_count++];
        *known = (struct row){.table = row->table};
    } else if (version >= 0 && known->cells[version].number >= row->cells[version].number) {
        return;
    }
    for (size_t i = 0; i < row->table->column_count; i++) {
        const bool key = i < row->table->key_count;
        if (!key || !known->cells[i].set) {
            keep_cell(&known->cells[i], &row->cells[i], row->table->columns[i].merge);
        }
    }
}

static enum err_code sink_read_checkpoint(struct projection_sink *sink, int32_t partition,
                                          int64_t *next, struct err *err) {
    (void)err;
    *next = self_of(sink)->checkpoints[partition] - 1;
    return ERR_OK;
}

static enum err_code sink_read_heads(struct projection_sink *sink, int32_t partition,
                                     struct stream_head *heads, size_t count, struct err *err) {
    (void)partition;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        const struct kept_head *head = find_head(self_of(sink), &heads[i].stream);
        heads[i].version = head != NULL ? head->version : 0;
    }
    return ERR_OK;
}

static void keep_head(struct sink_mem *self, const struct stream_head *head) {
    struct kept_head *kept = find_head(self, &head->stream);

    if (kept == NULL) {
        kept = &self->heads[self->head_count++];
        if (!str_copy(kept->type, sizeof(kept->type), head->stream.aggregate_type) ||
            !str_copy(kept->id, sizeof(kept->id), head->stream.stream_id)) {
            self->head_count--;
            return;
        }
    }
    kept->version = head->version;
}

static enum err_code sink_apply(struct projection_sink *sink, const struct sink_batch *batch,
                                struct err *err) {
    struct sink_mem *self = self_of(sink);
    const enum err_code injected = self->fail_code;

    self->fail_code = ERR_OK;
    if (injected != ERR_OK && !self->fail_after) {
        return err_set(err, injected, "injected");
    }
    if (self->checkpoints[batch->partition] - 1 != batch->expected) {
        return err_set(err, ERR_FENCED, "memory: the checkpoint is not the expected one");
    }
    if (self->row_count + batch->row_count > ROWS_MAX ||
        self->head_count + batch->head_count > ROWS_MAX) {
        return err_set(err, ERR_LIMIT, "memory: more than %d rows", ROWS_MAX);
    }
    for (size_t i = 0; i < batch->row_count; i++) {
        keep_row(self, &batch->rows[i]);
    }
    for (size_t i = 0; i < batch->head_count; i++) {
        keep_head(self, &batch->heads[i]);
    }
    self->checkpoints[batch->partition] = batch->next + 1;
    return injected != ERR_OK ? err_set(err, injected, "injected") : ERR_OK;
}

void sink_mem_lose(struct projection_sink *sink) {
    struct sink_mem *self = self_of(sink);

    for (size_t i = 0; i < self->row_count; i++) {
        for (size_t c = 0; c < self->rows[i].table->column_count; c++) {
            union {
                const char *in;
                void *out;
            } text = {.in = self->rows[i].cells[c].text.ptr};
            mem_free(text.out);
        }
    }
    self->row_count = 0;
    self->head_count = 0;
    memset(self->checkpoints, 0, sizeof(self->checkpoints));
}

static void sink_free(struct projection_sink *sink) {
    sink_mem_lose(sink);
    mem_free(self_of(sink));
}

struct projection_sink *sink_mem_new(unsigned store) {
    static const struct projection_sink_ops ops = {
        .name = "memory",
        .read_checkpoint = sink_read_checkpoint,
        .read_heads = sink_read_heads,
        .apply = sink_apply,
        .free = sink_free,
    };
    struct sink_mem *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    self->base.store = store;
    return &self->base;
}

const struct row *sink_mem_find(const struct projection_sink *sink, const struct row *key) {
    return find_row((const struct sink_mem *)(const void *)sink, key);
}

void sink_mem_fail_next(struct projection_sink *sink, enum err_code code, bool after) {
    self_of(sink)->fail_code = code;
    self_of(sink)->fail_after = after;
}
