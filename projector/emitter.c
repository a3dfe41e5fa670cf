#include "projector/emitter.h"

#include <assert.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/ports/row.h"

struct emitter {
    struct row *rows; /* rows_max: folded ones first, then those of the event in hand */
    size_t rows_max;
    size_t folded;
    size_t emitted;
    uint32_t *slots; /* open addressing: index into rows + 1; 0: empty */
    size_t slot_count;
    uint32_t *used; /* which of them aren't empty: a clear touches no other */
    size_t used_count;
};

struct emitter *emitter_new(size_t events_max) {
    struct emitter *emitter = mem_zalloc(sizeof(*emitter));

    emitter->rows_max = events_max * EMITTER_ROWS_PER_EVENT_MAX;
    emitter->rows = mem_array(emitter->rows_max, sizeof(emitter->rows[0]));
    emitter->slot_count = 16;
    while (emitter->slot_count < 2 * emitter->rows_max) {
        emitter->slot_count *= 2;
    }
    emitter->slots = mem_array(emitter->slot_count, sizeof(emitter->slots[0]));
    emitter->used = mem_array(emitter->rows_max, sizeof(emitter->used[0]));
    return emitter;
}

void emitter_free(struct emitter *emitter) {
    if (emitter == NULL) {
        return;
    }
    mem_free(emitter->rows);
    mem_free(emitter->slots);
    mem_free(emitter->used);
    mem_free(emitter);
}

void emitter_clear(struct emitter *emitter) {
    for (size_t i = 0; i < emitter->used_count; i++) {
        emitter->slots[emitter->used[i]] = 0;
    }
    emitter->used_count = 0;
    emitter->folded = 0;
    emitter->emitted = 0;
}

struct row *emit_row(struct emitter *emitter, const struct model_table *table) {
    assert(emitter->emitted < emitter->rows_max);
    struct row *row = &emitter->rows[emitter->emitted++];

    memset(row->cells, 0, table->column_count * sizeof(row->cells[0]));
    row->table = table;
    return row;
}

/* The row of the same key among the folded, or NULL with the slot for a new one. */
static struct row *find(struct emitter *emitter, const struct row *row, size_t *slot) {
    *slot = row_key_hash(HASH_FNV1A_START, row) & (emitter->slot_count - 1);
    while (emitter->slots[*slot] != 0) {
        struct row *other = &emitter->rows[emitter->slots[*slot] - 1];
        if (row_same_key(other, row)) {
            return other;
        }
        *slot = (*slot + 1) & (emitter->slot_count - 1);
    }
    return NULL;
}

void emitter_fold(struct emitter *emitter) {
    const size_t end = emitter->emitted;

    for (size_t i = emitter->folded; i < end; i++) {
        const bool mergeable = !emitter->rows[i].table->append_only;
        size_t slot = 0;
        struct row *known = mergeable ? find(emitter, &emitter->rows[i], &slot) : NULL;
        if (known != NULL) {
            row_merge(known, &emitter->rows[i]);
            continue;
        }
        if (emitter->folded != i) {
            emitter->rows[emitter->folded] = emitter->rows[i];
        }
        emitter->folded++;
        if (mergeable) {
            emitter->slots[slot] = (uint32_t)emitter->folded;
            emitter->used[emitter->used_count++] = (uint32_t)slot;
        }
    }
    emitter->emitted = emitter->folded;
}

const struct row *emitter_take(struct emitter *emitter, size_t *count) {
    assert(emitter->folded == 0);
    *count = emitter->emitted;
    emitter->emitted = 0;
    return emitter->rows;
}

size_t emitter_rows(const struct emitter *emitter, unsigned store, struct row *out) {
    size_t count = 0;

    for (size_t i = 0; i < emitter->folded; i++) {
        if (emitter->rows[i].table->stores & store) {
            out[count++] = emitter->rows[i];
        }
    }
    return count;
}

const struct row *emitter_all(const struct emitter *emitter, size_t *count) {
    *count = emitter->folded;
    return emitter->rows;
}
