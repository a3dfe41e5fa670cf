#include "projector/rowset.h"

#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/ports/row.h"

enum { SLOTS_FIRST = 1024 };

static const uint64_t seeds[2] = {HASH_FNV1A_START, UINT64_C(0x84222325cbf29ce4)};

void rowset_init(struct rowset *set) {
    *set = (struct rowset){0};
}

static bool is_empty(const struct rowset_entry *entry) {
    return entry->key[0] == 0 && entry->key[1] == 0;
}

void rowset_clear(struct rowset *set) {
    for (size_t i = 0; i < set->slot_count; i++) {
        if (set->entries[i].row != NULL) {
            row_release(set->entries[i].row);
            mem_free(set->entries[i].row);
        }
    }
    mem_free(set->entries);
    *set = (struct rowset){0};
}

void rowset_release(struct rowset *set) {
    rowset_clear(set);
}

static struct rowset_entry *probe(const struct rowset *set, const uint64_t key[2]) {
    size_t at = key[0] & (set->slot_count - 1);

    for (;;) {
        struct rowset_entry *entry = &set->entries[at];
        if (is_empty(entry) || (entry->key[0] == key[0] && entry->key[1] == key[1])) {
            return entry;
        }
        at = (at + 1) & (set->slot_count - 1);
    }
}

static void grow(struct rowset *set) {
    struct rowset_entry *old = set->entries;
    const size_t old_count = set->slot_count;

    set->slot_count = old_count > 0 ? 2 * old_count : SLOTS_FIRST;
    set->entries = mem_array(set->slot_count, sizeof(set->entries[0]));
    for (size_t i = 0; i < old_count; i++) {
        if (!is_empty(&old[i])) {
            *probe(set, old[i].key) = old[i];
        }
    }
    mem_free(old);
}

/* As row_merge, but with texts of its own. */
void rowset_merge(struct row **into, const struct row *row) {
    if (*into == NULL) {
        *into = mem_zalloc(sizeof(**into));
        row_copy(*into, row);
        return;
    }
    for (size_t i = row->table->key_count; i < row->table->column_count; i++) {
        const struct model_column *column = &row->table->columns[i];
        struct cell *cell = &(*into)->cells[i];
        if (column->kind != COLUMN_TEXT) {
            cell_merge(column, cell, &row->cells[i]);
        } else if (row->cells[i].set && !cell_equal(column, cell, &row->cells[i])) {
            if (cell->set) {
                mem_free_const(cell->text.ptr);
            }
            *cell = row->cells[i];
            cell->text.ptr = mem_strndup(row->cells[i].text);
        }
    }
}

static struct rowset_entry *find_or_add(struct rowset *set, const struct row *row) {
    const uint64_t key[2] = {row_key_hash(seeds[0], row), row_key_hash(seeds[1], row)};

    if (4 * (set->count + 1) > 3 * set->slot_count) {
        grow(set);
    }
    struct rowset_entry *entry = probe(set, key);
    if (is_empty(entry)) {
        entry->key[0] = key[0];
        entry->key[1] = key[1];
        set->count++;
    }
    return entry;
}

void rowset_add(struct rowset *set, const struct row *row, int32_t partition, int64_t offset) {
    struct rowset_entry *entry = set->last;

    /* Sums get row after row of the same key, which is known without a hash. */
    if (entry == NULL || entry->row == NULL || !row_same_key(entry->row, row)) {
        entry = find_or_add(set, row);
    }
    set->last = entry;
    entry->partition = partition;
    entry->offset = offset;
    if (row->table->append_only) {
        entry->digest = row_value_hash(row);
    } else {
        rowset_merge(&entry->row, row);
    }
}

struct rowset_entry *rowset_find(const struct rowset *set, const struct row *key) {
    const uint64_t hashes[2] = {row_key_hash(seeds[0], key), row_key_hash(seeds[1], key)};

    if (set->count == 0) {
        return NULL;
    }
    struct rowset_entry *entry = probe(set, hashes);
    return is_empty(entry) ? NULL : entry;
}
