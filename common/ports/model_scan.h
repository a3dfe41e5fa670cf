/*
 * A scan: everything that one store holds of one projection's live model, read beside its writers.
 *
 * Every row comes with the checkpoint of its partition at the very moment the row was read: at that
 * cut of the log the row is, or is not, what the events say. A store with snapshots shows one cut
 * for the whole scan; one without moves along with the live system.
 * Belongs to one thread.
 */
#ifndef DAYBOOK_PORTS_MODEL_SCAN_H
#define DAYBOOK_PORTS_MODEL_SCAN_H

#include "common/ports/projection_sink.h"

/* `row` is borrowed for the call. Any code but ERR_OK ends the scan with it. */
typedef enum err_code scan_row_fn(void *arg, int32_t partition, const struct sink_checkpoint *at,
                                  const struct row *row, struct err *err);

struct model_scan;

struct model_scan_ops {
    const char *name; /* the store's */
    /* Begins; fills the checkpoints of partitions 0 … count - 1. */
    enum err_code (*open)(struct model_scan *scan, struct sink_checkpoint *at, size_t count,
                          struct err *err);
    /* All rows of a table, in no order that matters but this: with newest > 0 only so many of each
     * stream, versions ascending. */
    enum err_code (*rows)(struct model_scan *scan, const struct model_table *table, int newest,
                          scan_row_fn *fn, void *arg, struct err *err);
    /* One row as it is now, or, with column 0 alone told apart, NULL in `fn` when there is none. Of
     * a list all elements of its stream. */
    enum err_code (*find)(struct model_scan *scan, int32_t partition, const struct row *key,
                          scan_row_fn *fn, void *arg, struct err *err);
    /* Offsets ascending within a stream; where only a verification asks, the first of each stream.
     */
    enum err_code (*parked)(struct model_scan *scan, int32_t partition, sink_parked_fn *fn,
                            void *arg, struct err *err);
    enum err_code (*voids)(struct model_scan *scan, int32_t partition,
                           void (*fn)(void *arg, const struct void_range *range), void *arg,
                           struct err *err);
    void (*close)(struct model_scan *scan);
    void (*free)(struct model_scan *scan);
};

struct model_scan {
    const struct model_scan_ops *ops;
    unsigned store;
};

#endif
