/*
 * A builder: makes a projection's model anew in one store, beside the live one.
 *
 *   begin   an empty place, without what an attempt that was killed left there
 *   …       rows go in through sinks of stage SINK_BUILD and, what never changes, through load
 *   seal    keys and indexes of what was loaded
 *   swap    the new model takes the place of the live one, in one step; not before it is as far
 *   clean   removes what is neither live nor being built
 *
 * Until swap the live model is untouched. One rebuild of a projection at a time: see `sole`. One
 * that lived and was taken for dead finds the claim to be another's: its loads,
 * seal and swap are ERR_FENCED, as build sinks are, and clean leaves alone what it doesn't own.
 * Belongs to one thread at a time, but for load: each load belongs to a thread of its own.
 */
#ifndef DAYBOOK_PORTS_MODEL_BUILDER_H
#define DAYBOOK_PORTS_MODEL_BUILDER_H

#include "common/ports/projection_sink.h"

/* Makes the built model reach at least live[p].next in every partition. */
typedef enum err_code builder_reach_fn(void *arg, const struct sink_checkpoint *live,
                                       struct err *err);

/* Rows of one append-only table on their way into the store, in bulk. */
struct model_load;
struct model_load_ops {
    /* Of one partition, in the log's order; those of other tables are passed over. The rows are
     * borrowed for the call. */
    enum err_code (*rows)(struct model_load *load, int32_t partition, const struct row *rows,
                          size_t count, struct err *err);
    enum err_code (*end)(struct model_load *load, struct err *err); /* durable with the model */
    void (*free)(struct model_load *load);
};
struct model_load {
    const struct model_load_ops *ops;
};

struct model_builder;

struct model_builder_ops {
    const char *name;
    /* Keeps others from rebuilding this projection or changing its parked events, in whatever
     * store, as long as this builder and its connection live. ERR_CONFLICT: another does. NULL: the
     * store has no such lock. Before begin, and where another store is rebuilt without it. */
    enum err_code (*sole)(struct model_builder *builder, struct err *err);
    /* `at`: the claim, which every partition's checkpoint of stage SINK_BUILD now is. */
    enum err_code (*begin)(struct model_builder *builder, int32_t partitions,
                           struct sink_checkpoint *at, struct err *err);
    /* NULL in *out: this store has no such way, the sink will do. */
    enum err_code (*load)(struct model_builder *builder, const struct model_table *table,
                          struct model_load **out, struct err *err);
    enum err_code (*seal)(struct model_builder *builder, struct err *err);
    /* ERR_CONFLICT: the live model is ahead: let the built one catch up, then again. */
    enum err_code (*swap)(struct model_builder *builder, builder_reach_fn *reach, void *arg,
                          struct err *err);
    enum err_code (*clean)(struct model_builder *builder, struct err *err);
    void (*free)(struct model_builder *builder);
};

struct model_builder {
    const struct model_builder_ops *ops;
    unsigned store;
};

#endif
