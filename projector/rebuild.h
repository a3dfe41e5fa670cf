/*
 * Rebuilding projections beside their live models.
 *
 *   1. a fresh place in each store (model_builder.h)
 *   2. bulk (rebuild_bulk.h): the log up to its present end, partitions in parallel, each record
 *      read and decoded once for all projections
 *   3. what has been written since is applied as replicas apply it; a store that has all of the
 *      bulk goes on by itself
 *   4. the switch, when the new model is as far as the live one: readers see the old one complete,
 *      then the new one complete
 *   5. what the old one leaves is removed
 *
 * Killed at any moment it leaves the live model as it was, and can be run again. Projections are
 * pure and sinks of stage SINK_BUILD write nowhere but into the new place, so a rebuild has no
 * effect besides the model.
 */
#ifndef DAYBOOK_PROJECTOR_REBUILD_H
#define DAYBOOK_PROJECTOR_REBUILD_H

#include <stdatomic.h>

#include "common/runtime/metrics.h"
#include "projector/world.h"

enum { REBUILD_PROJECTIONS_MAX = 16, REBUILD_TARGETS_MAX = 2 * REBUILD_PROJECTIONS_MAX };

/* One projection in one store. */
struct rebuild_target {
    const struct projection *projection;
    unsigned store;
    struct model_builder *builder;
    bool begun;                /* the place in the store may be its own */
    struct sink_checkpoint at; /* the claim: what its partitions' checkpoints begin with */
};

struct rebuild_options {
    const struct world *world;
    struct rebuild_target targets[REBUILD_TARGETS_MAX]; /* of one projection together; projection
                                                           and store are set */
    size_t target_count;
    /* Called about twice a second while records are read in bulk. */
    void (*progress)(void *arg, int64_t done, int64_t total, double seconds);
    void *progress_arg;
};

struct rebuild_result {
    int64_t events;
    double bulk_seconds; /* with the making of the targets' places */
    double seconds;
};

/* Adds the projection's stores that are in `stores`. */
void rebuild_add(struct rebuild_options *options, const struct projection *projection,
                 unsigned stores);
/* ERR_CONFLICT: another process rebuilds it. */
MUST_CHECK enum err_code rebuild(struct rebuild_options *options, struct rebuild_result *result,
                                 struct err *err);

#endif
