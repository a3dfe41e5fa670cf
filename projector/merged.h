/*
 * The rows that a partition's log leaves behind, each merged from all that its events wrote; tables
 * whose rows never change stay out. Those of the table of heads are found by the stream's number,
 * the others by their keys.
 */
#ifndef DAYBOOK_PROJECTOR_MERGED_H
#define DAYBOOK_PROJECTOR_MERGED_H

#include "projector/rowset.h"

struct merged {
    const struct model_table *heads; /* NULL: its rows never change */
    struct row **of_streams;         /* by stream; NULL: none yet. Owned */
    size_t streams_cap;
    size_t streams; /* 1 + the highest number that was added */
    size_t stream_rows;
    struct rowset others;
};

void merged_init(struct merged *merged, const struct projection *projection);
void merged_release(struct merged *merged);
void merged_clear(struct merged *merged);

/* Of an event of the stream with this number (fold.h, struct judgement). */
void merged_add(struct merged *merged, const struct row *row, size_t stream);
size_t merged_count(const struct merged *merged);
/* Goes through all: *at begins with 0. NULL: that was the last. Borrowed until the next add. */
const struct row *merged_next(const struct merged *merged, size_t *at);

#endif
