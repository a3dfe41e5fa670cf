/*
 * Before a projection is served: are the stores' models of this program's version? Where one is
 * older it is rebuilt, beside the replicas of the older version, which go on until the switch and
 * are refused from then on. Where one is newer this replica waits: it is the older one.
 */
#ifndef DAYBOOK_PROJECTOR_PREPARE_H
#define DAYBOOK_PROJECTOR_PREPARE_H

#include "common/runtime/metrics.h"
#include "projector/world.h"

struct prepare_options {
    const struct world *world;
    const struct projection *projection;
    struct metrics *metrics;
    struct health_component *health;
};

/* ERR_OK: serve. ERR_CONFLICT: another process is at it; ERR_CLOSED: the model is newer. */
MUST_CHECK enum err_code prepare_projection(const struct prepare_options *options, struct err *err);

#endif
