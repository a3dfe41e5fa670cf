/*
 * A sink: one store's share of one projection's read model.
 *
 * Contract (tests/contract/sink_contract.c runs against every adapter)
 *  1. apply changes rows, parked streams and checkpoint in one atomic step, or nothing.
 *  2. apply compares the whole stored checkpoint with `expected` first: another one is ERR_FENCED
 *     and nothing changes. So a replica that has lost its partition can't write, a store that has
 *     lost its data is noticed, and whoever changes a model from outside (a switch to a rebuilt
 *     one, a retry of parked events) raises `epoch` and thereby makes the replicas look again.
 *  3. A row with a version column is never overwritten by an older version.
 *  4. ERR_INVALID, ERR_LIMIT: the store refuses the data of this batch, whenever they come.
 *     ERR_UNAVAILABLE: nothing is known of this try; the checkpoint tells.
 *  5. apply_all does what apply does for several partitions at once. A store whose partitions share
 *     an atomic step (PostgreSQL) does all or none; in another each has its own (Redis Cluster
 *     keeps partitions apart).
 * Belongs to one thread.
 */
#ifndef DAYBOOK_PORTS_PROJECTION_SINK_H
#define DAYBOOK_PORTS_PROJECTION_SINK_H

#include "common/ports/event_reader.h"
#include "common/ports/projection.h"

#define SINK_NO_CHECKPOINT INT64_C(-1)

/* Each store of a projection holds a live model and, during a rebuild, one that is being built. */
enum sink_stage { SINK_LIVE, SINK_BUILD };

struct sink_checkpoint {
    int64_t next;    /* first offset not applied; SINK_NO_CHECKPOINT: none is stored */
    int64_t version; /* of the projection that wrote the model */
    int64_t model;   /* which set of keys, where a store tells models apart by their keys */
    int64_t epoch;   /* raised by changes that don't come from the log */
};

static inline bool checkpoint_exists(const struct sink_checkpoint *at) {
    return at->next != SINK_NO_CHECKPOINT;
}

static inline bool checkpoint_equal(const struct sink_checkpoint *a,
                                    const struct sink_checkpoint *b) {
    return a->next == b->next &&
           (!checkpoint_exists(a) ||
            (a->version == b->version && a->model == b->model && a->epoch == b->epoch));
}

/* The last version of a stream that the projection has applied. */
struct stream_head {
    struct str stream_id;
    int64_t version; /* 0: none */
};

enum { PARKED_REASON_BYTES = 200 };

/* An event that is kept aside: the one that could not be applied, or one behind it. Its whole
 * record is in the topic, at its offset. */
struct parked_event {
    struct str stream_id;
    int64_t offset;
    int64_t version;
    struct str event_type;
    struct uuid event_id;
    struct str payload;
    int64_t recorded_at_us;
    struct str reason; /* len 0: it waits behind an earlier one */
};

/* Versions of a stream that an operator has declared void: they count as applied. */
struct void_range {
    struct str stream_id;
    int64_t first, last;
};

struct sink_batch {
    int32_t partition;
    struct sink_checkpoint expected;
    struct sink_checkpoint next; /* none: rows only, the checkpoint stays as it is */
    const struct row *rows;      /* at most one per key; this sink's tables only */
    size_t row_count;
    const struct str *released; /* streams whose parked events go, before `parked` come */
    size_t released_count;
    const struct parked_event *parked;
    size_t parked_count;
    /* To be remembered. One that begins where a known one does takes its place; it is as long, or
     * longer. */
    const struct void_range *voids;
    size_t void_count;
};

/* What a partition holds beside its rows; called per item, slices live for the call. */
struct sink_exceptions {
    /* The stream's first parked event; offset, version, stream_id, reason are set. */
    void (*parked)(void *arg, const struct parked_event *first, int64_t count);
    void (*voided)(void *arg, const struct void_range *range);
    void *arg;
};
typedef void sink_parked_fn(void *arg, const struct parked_event *event);

struct projection_sink;

struct projection_sink_ops {
    const char *name; /* "postgresql", "redis", "memory" */
    /* One round trip for all. */
    enum err_code (*read_checkpoints)(struct projection_sink *sink, const int32_t *partitions,
                                      size_t count, struct sink_checkpoint *out, struct err *err);
    enum err_code (*read_exceptions)(struct projection_sink *sink, int32_t partition,
                                     const struct sink_checkpoint *at,
                                     const struct sink_exceptions *into, struct err *err);
    /* A stream's parked events, offsets ascending. */
    enum err_code (*read_parked)(struct projection_sink *sink, int32_t partition,
                                 const struct sink_checkpoint *at, struct str stream_id,
                                 sink_parked_fn *fn, void *arg, struct err *err);
    /* Fills the versions of `heads`. */
    enum err_code (*read_heads)(struct projection_sink *sink, int32_t partition,
                                const struct sink_checkpoint *at, struct stream_head *heads,
                                size_t count, struct err *err);
    enum err_code (*apply)(struct projection_sink *sink, const struct sink_batch *batch,
                           struct err *err);
    /* The batches of different partitions, ascending; each expects a checkpoint and brings one, and
     * no key stands in two of them.
     * codes[i]: of each. Returns ERR_OK where all are, else one of the others, of which err tells.
     */
    enum err_code (*apply_all)(struct projection_sink *sink, const struct sink_batch *batches,
                               size_t count, enum err_code *codes, struct err *err);
    void (*free)(struct projection_sink *sink);
};

struct projection_sink {
    const struct projection_sink_ops *ops;
    unsigned store; /* enum model_store: which tables it keeps */
};

static inline enum err_code sink_read_checkpoint(struct projection_sink *sink, int32_t partition,
                                                 struct sink_checkpoint *out, struct err *err) {
    return sink->ops->read_checkpoints(sink, &partition, 1, out, err);
}

#endif
