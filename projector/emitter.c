#include "projector/emitter.h"

#include <assert.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/mem.h"

struct emitter {
    struct row *rows; /* rows_max: folded ones first, then those of the event in hand */
    size_t rows_max;
    size_t folded;
    size_t emitted;
    uint32_t *slots; /* open addressing: index into rows + 1; 0: empty */
    size_t slot_count;
};

struct emitter *emitter_new(size_t events_max) {
    struct emitter *emitter = mem_zalloc(sizeof(*emitter));

    emitter->rows_max = events_max * EMITTER_ROWS_PER_EVENT_MAX;
    emitter->rows = mem_array(emitter->rows_max, sizeof(emitter->rows[0]));
    emitter->slot_count = 1024;
    while (emitter->slot_count < 2 * emitter->rows_max) {
        emitter->slot_count *= 2;
    }
    emitter->slots = mem_array(emitter->slot_count, sizeof(emitter->slots[0]));
    return emitter;
}

void emitter_free(struct emitter *emitter) {
    if (emitter == NULL) {
        return;
    }
    mem_free(emitter->rows);
    mem_free(emitter->slots);
    mem_free(emitter);
}

void emitter_clear(struct emitter *emitter) {
    emitter->folded = 0;
    emitter->emitted = 0;
    memset(emitter->slots, 0, emitter->slot_count * sizeof(emitter->slots[0]));
}

struct row *emit_row(struct emitter *emitter, const struct model_table *table) {
    assert(emitter->emitted < emitter->rows_max);
    struct row *row = &emitter->rows[emitter->emitted++];

    memset(row, 0, sizeof(*row));
    row->table = table;
    return row;
}

static uint64_t hash_cell(uint64_t hash, const struct model_column *column,
                          const struct cell *cell) {
    switch (column->kind) {
    case COLUMN_TEXT:
        return hash_fnv1a(hash, cell->text);
    case COLUMN_UUID:
        return hash_fnv1a(hash, str_of((const char *)cell->uuid.bytes, sizeof(cell->uuid.bytes)));
    case COLUMN_I64:
    case COLUMN_TIME:
    case COLUMN_DATE:
        break;
    }
    return hash_fnv1a(hash, str_of((const char *)&cell->number, sizeof(cell->number)));
}

static bool cells_equal(const struct model_column *column, const struct cell *a,
                        const struct cell *b) {
    switch (column->kind) {
    case COLUMN_TEXT:
        return str_eq(a->text, b->text);
    case COLUMN_UUID:
        return memcmp(a->uuid.bytes, b->uuid.bytes, sizeof(a->uuid.bytes)) == 0;
    case COLUMN_I64:
    case COLUMN_TIME:
    case COLUMN_DATE:
        break;
    }
    return a->number == b->number;
}

static bool same_key(const struct row *a, const struct row *b) {
    if (a->table != b->table) {
        return false;
    }
    for (size_t i = 0; i < a->table->key_count; i++) {
        if (!cells_equal(&a->table->columns[i], &a->cells[i], &b->cells[i])) {
            return false;
        }
    }
    return true;
}

/* The row of the same key among the folded, or NULL with the slot for a new one. */
static struct row *find(struct emitter *emitter, const struct row *row, size_t *slot) {
    uint64_t hash = hash_fnv1a(HASH_FNV1A_START, str_from(row->table->name));

    for (size_t i = 0; i < row->table->key_count; i++) {
        assert(row->cells[i].set);
        hash = hash_cell(hash, &row->table->columns[i], &row->cells[i]);
    }
    *slot = hash & (emitter->slot_count - 1);
    while (emitter->slots[*slot] != 0) {
        struct row *other = &emitter->rows[emitter->slots[*slot] - 1];
        if (same_key(other, row)) {
            return other;
        }
        *slot = (*slot + 1) & (emitter->slot_count - 1);
    }
    return NULL;
}

static void merge(struct row *into, const struct row *from) {
    for (size_t i = from->table->key_count; i < from->table->column_count; i++) {
        if (!from->cells[i].set) {
            continue;
        }
        if (from->table->columns[i].merge == MERGE_ADD && into->cells[i].set) {
            const bool overflow = __builtin_add_overflow(
                into->cells[i].number, from->cells[i].number, &into->cells[i].number);
            assert(!overflow);
        } else {
            into->cells[i] = from->cells[i];
        }
    }
}

void emitter_fold(struct emitter *emitter) {
    const size_t end = emitter->emitted;

    for (size_t i = emitter->folded; i < end; i++) {
        size_t slot = 0;
        struct row *known = find(emitter, &emitter->rows[i], &slot);
        if (known != NULL) {
            merge(known, &emitter->rows[i]);
            continue;
        }
        if (emitter->folded != i) {
            emitter->rows[emitter->folded] = emitter->rows[i];
        }
        emitter->folded++;
        emitter->slots[slot] = (uint32_t)emitter->folded;
    }
    emitter->emitted = emitter->folded;
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

size_t emitter_count(const struct emitter *emitter) {
    return emitter->folded;
}
