/* Rows of read models: comparing, copying, hashing. */
#ifndef DAYBOOK_PORTS_ROW_H
#define DAYBOOK_PORTS_ROW_H

#include <assert.h>

#include "common/base/buf.h"
#include "common/ports/projection.h"

bool cell_equal(const struct model_column *column, const struct cell *a, const struct cell *b);
/* The same table and the same key cells. */
bool row_same_key(const struct row *a, const struct row *b);
/* Of the table's name and the key cells, which must be set. `seed` HASH_FNV1A_START or another. */
uint64_t row_key_hash(uint64_t seed, const struct row *row);
/* Of all cells behind the key. */
uint64_t row_value_hash(const struct row *row);
/* Newer over older: SET columns take the value where there is one, ADD columns the sum. */
static inline void cell_merge(const struct model_column *column, struct cell *into,
                              const struct cell *from) {
    if (!from->set) {
        return;
    }
    if (column->merge == MERGE_ADD && into->set) {
        const bool overflow = __builtin_add_overflow(into->number, from->number, &into->number);
        assert(!overflow);
    } else {
        *into = *from;
    }
}
void row_merge(struct row *into, const struct row *from);
/* Copies with texts of its own, to be released. */
void row_copy(struct row *into, const struct row *from);
void row_release(struct row *row);
/* For people: column=value, … */
void row_print(const struct row *row, struct buf *out);
void cell_print(const struct model_column *column, const struct cell *cell, struct buf *out);

#endif
