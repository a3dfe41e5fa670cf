/*
 * A sink: one store's share of one projection's read model.
 *
 * Contract (tests/contract/sink_contract.c runs against every adapter)
 *  1. apply changes rows, heads and checkpoint in one atomic step, or nothing.
 *  2. apply compares the stored checkpoint with `expected` first: another value is ERR_FENCED and
 *     nothing changes. So a replica that has lost its partition can't write, and a store that has
 *     lost its data is noticed.
 *  3. A row with a version column is never overwritten by an older version.
 * Belongs to one thread.
 */
#ifndef DAYBOOK_PORTS_PROJECTION_SINK_H
#define DAYBOOK_PORTS_PROJECTION_SINK_H

#include "common/ports/event_store.h"
#include "common/ports/projection.h"

#define SINK_NO_CHECKPOINT INT64_C(-1)

/* The last version of a stream that the projection has applied. */
struct stream_head {
    struct stream_key stream;
    int64_t version; /* 0: none */
};

struct sink_batch {
    int32_t partition;
    int64_t expected;       /* stored checkpoint, or SINK_NO_CHECKPOINT */
    int64_t next;           /* first offset after the batch */
    const struct row *rows; /* at most one per key; this sink's tables only */
    size_t row_count;
    const struct stream_head *heads; /* those that have moved */
    size_t head_count;
};

struct projection_sink;

struct projection_sink_ops {
    const char *name; /* "postgresql", "redis", "memory" */
    enum err_code (*read_checkpoint)(struct projection_sink *sink, int32_t partition, int64_t *next,
                                     struct err *err);
    /* Fills the versions of `heads`. */
    enum err_code (*read_heads)(struct projection_sink *sink, int32_t partition,
                                struct stream_head *heads, size_t count, struct err *err);
    enum err_code (*apply)(struct projection_sink *sink, const struct sink_batch *batch,
                           struct err *err);
    void (*free)(struct projection_sink *sink);
};

struct projection_sink {
    const struct projection_sink_ops *ops;
    unsigned store; /* enum model_store: which tables it keeps */
};

#endif
