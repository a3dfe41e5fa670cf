/* The world as the projector's parts ask for it: main builds the adapters, the others only know the
 * ports. What is made is the caller's to free, through its ops. */
#ifndef DAYBOOK_PROJECTOR_WORLD_H
#define DAYBOOK_PROJECTOR_WORLD_H

#include "common/ports/group_member.h"
#include "common/ports/model_builder.h"
#include "common/ports/model_scan.h"
#include "common/runtime/health.h"
#include "common/runtime/tracing.h"
#include "projector/config.h"

/* How partitions are read: on and on, or to an end that is known: one after the other, or all. */
enum reading { READ_ON, READ_IN_TURN, READ_TOGETHER };

struct world {
    const struct projector_config *config;
    struct log *log;
    /* `health` may be NULL. */
    enum err_code (*sink)(const struct world *world, const struct projection *projection,
                          unsigned store, enum sink_stage stage, struct health_component *health,
                          struct projection_sink **out, struct err *err);
    enum err_code (*scan)(const struct world *world, const struct projection *projection,
                          unsigned store, struct model_scan **out, struct err *err);
    enum err_code (*builder)(const struct world *world, const struct projection *projection,
                             unsigned store, struct model_builder **out, struct err *err);
    struct event_reader *(*reader)(const struct world *world, enum reading how);
    struct group_member *(*member)(const struct world *world, const char *group);
    /* *out stays NULL where no traces are wanted. */
    enum err_code (*tracer)(const struct world *world, struct metrics *metrics, struct tracer **out,
                            struct err *err);
};

#endif
