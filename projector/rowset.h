/*
 * A set of rows by their keys, each merged from all that was added under its key: what a fold makes
 * of the log. Of tables whose rows never change only a digest is kept, with the place of the event
 * in the log; the others are kept whole.
 */
#ifndef DAYBOOK_PROJECTOR_ROWSET_H
#define DAYBOOK_PROJECTOR_ROWSET_H

#include <stdint.h>

#include "common/ports/projection.h"

struct rowset_entry {
    uint64_t key[2]; /* two hashes of table and key; both 0: empty */
    uint64_t digest; /* of the values of an append-only row */
    struct row *row; /* the others; owned */
    int64_t offset;  /* of the last event that touched it */
    int32_t partition;
    bool seen; /* the user's */
};

struct rowset {
    struct rowset_entry *entries;
    size_t slot_count;
    size_t count;
    struct rowset_entry *last; /* that was added to; NULL: none */
};

void rowset_init(struct rowset *set);
void rowset_release(struct rowset *set);
void rowset_clear(struct rowset *set);
void rowset_add(struct rowset *set, const struct row *row, int32_t partition, int64_t offset);
/* What becomes of a row of its own, *into, which may be NULL: the newer one merged into it. To be
 * released with row_release and freed. */
void rowset_merge(struct row **into, const struct row *row);
/* NULL: there is none. Borrowed until the next add. */
struct rowset_entry *rowset_find(const struct rowset *set, const struct row *key);

#endif
