/*
 * What a store's share of a read model should be: the log folded from its beginning up to a cut,
 * partition by partition, by the same code that posts it. A cut can only move forward.
 */
#ifndef DAYBOOK_PROJECTOR_EXPECTED_H
#define DAYBOOK_PROJECTOR_EXPECTED_H

#include "projector/fold.h"
#include "projector/rowset.h"

enum { EXPECTED_BATCH = 2048 };

struct expected {
    const struct projection *projection;
    unsigned store;
    int32_t partitions;
    struct event_reader *reader; /* borrowed, open */
    struct rowset rows;
    struct fold *folds;      /* partitions */
    struct streams *refused; /* partitions: offset from which a stream is parked because the store
                                refused it, which no fold can know */
    int64_t *positions;      /* partitions */
    struct held *held;       /* partitions: records read beyond the cut, for the next one */
    size_t held_count;       /* of all partitions */
    int64_t events;          /* folded so far */
    void (*progress)(void *arg, int64_t events);
    void *progress_arg;

    struct emitter *emitter;
    struct arena scratch;
    struct consumed_record *records; /* EXPECTED_BATCH */
};

void expected_init(struct expected *expected, const struct projection *projection, unsigned store,
                   int32_t partitions, struct event_reader *reader);
void expected_release(struct expected *expected);

/* Folds all partitions on up to cuts[p], reading them at the same time; those below their position
 * stay there. */
MUST_CHECK enum err_code expected_move_all(struct expected *expected, const int64_t *cuts,
                                           struct err *err);
/* Folds one on up to `next`; ERR_CONFLICT: the cut would move back. */
MUST_CHECK enum err_code expected_move(struct expected *expected, int32_t partition, int64_t next,
                                       struct err *err);
/* Reads one record again and hands its rows to fn. */
MUST_CHECK enum err_code expected_rows_of(struct expected *expected, int32_t partition,
                                          int64_t offset,
                                          void (*fn)(void *arg, const struct row *row), void *arg,
                                          struct err *err);

#endif
