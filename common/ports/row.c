#include "common/ports/row.h"

#include <assert.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/mem.h"

bool cell_equal(const struct model_column *column, const struct cell *a, const struct cell *b) {
    if (a->set != b->set || !a->set) {
        return a->set == b->set;
    }
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

bool row_same_key(const struct row *a, const struct row *b) {
    if (a->table != b->table) {
        return false;
    }
    for (size_t i = 0; i < a->table->key_count; i++) {
        if (!cell_equal(&a->table->columns[i], &a->cells[i], &b->cells[i])) {
            return false;
        }
    }
    return true;
}

static uint64_t hash_cell(uint64_t hash, const struct model_column *column,
                          const struct cell *cell) {
    uint64_t halves[2];

    if (!cell->set) {
        return hash_mix(hash, 1);
    }
    switch (column->kind) {
    case COLUMN_TEXT:
        return hash_words(hash, cell->text);
    case COLUMN_UUID:
        memcpy(halves, cell->uuid.bytes, sizeof(halves));
        return hash_mix(hash_mix(hash, halves[0]), halves[1]);
    case COLUMN_I64:
    case COLUMN_TIME:
    case COLUMN_DATE:
        break;
    }
    return hash_mix(hash, (uint64_t)cell->number);
}

uint64_t row_key_hash(uint64_t seed, const struct row *row) {
    uint64_t hash = hash_mix(seed, (uintptr_t)row->table);

    for (size_t i = 0; i < row->table->key_count; i++) {
        assert(row->cells[i].set);
        hash = hash_cell(hash, &row->table->columns[i], &row->cells[i]);
    }
    return hash;
}

uint64_t row_value_hash(const struct row *row) {
    uint64_t hash = HASH_FNV1A_START;

    for (size_t i = row->table->key_count; i < row->table->column_count; i++) {
        hash = hash_cell(hash, &row->table->columns[i], &row->cells[i]);
    }
    return hash;
}

void row_merge(struct row *into, const struct row *from) {
    for (size_t i = from->table->key_count; i < from->table->column_count; i++) {
        cell_merge(&from->table->columns[i], &into->cells[i], &from->cells[i]);
    }
}

void row_copy(struct row *into, const struct row *from) {
    *into = *from;
    for (size_t i = 0; i < from->table->column_count; i++) {
        if (from->cells[i].set && from->table->columns[i].kind == COLUMN_TEXT) {
            into->cells[i].text.ptr = mem_strndup(from->cells[i].text);
        }
    }
}

void row_release(struct row *row) {
    for (size_t i = 0; row->table != NULL && i < row->table->column_count; i++) {
        if (row->cells[i].set && row->table->columns[i].kind == COLUMN_TEXT) {
            mem_free_const(row->cells[i].text.ptr);
        }
    }
    row->table = NULL;
}

void cell_print(const struct model_column *column, const struct cell *cell, struct buf *out) {
    char text[64];

    if (!cell->set) {
        buf_put_text(out, "(none)");
        return;
    }
    switch (column->kind) {
    case COLUMN_TEXT:
        buf_put_str(out, cell->text);
        break;
    case COLUMN_UUID:
        uuid_format(text, &cell->uuid);
        buf_put_text(out, text);
        break;
    case COLUMN_TIME:
        (void)clock_format_rfc3339(text, cell->number);
        buf_put_text(out, text);
        break;
    case COLUMN_DATE:
        (void)clock_format_rfc3339(text, cell->number * INT64_C(86400000000));
        buf_put(out, text, 10);
        break;
    case COLUMN_I64:
        buf_put_i64(out, cell->number);
        break;
    }
}

void row_print(const struct row *row, struct buf *out) {
    for (size_t i = 0; i < row->table->column_count; i++) {
        buf_printf(out, "%s%s=", i > 0 ? " " : "", row->table->columns[i].name);
        cell_print(&row->table->columns[i], &row->cells[i], out);
    }
}
