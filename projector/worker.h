/*
 * A worker: one projection in this replica. Its thread is the projection's member of the consumer
 * group and nothing else, so that no slow store gets the member thrown out; what it is given goes
 * to the lanes, one per store.
 */
#ifndef DAYBOOK_PROJECTOR_WORKER_H
#define DAYBOOK_PROJECTOR_WORKER_H

#include "common/ports/group_member.h"
#include "projector/lane.h"

enum { WORKER_LANES_MAX = 2 };

struct worker_options {
    const struct projection *projection;
    struct group_member *member;                 /* borrowed, used by the worker's thread alone */
    struct lane_options lanes[WORKER_LANES_MAX]; /* started by the worker */
    size_t lane_count;
    int32_t partitions;
    /* Called first, on the worker's thread: makes the stores' models be of this program's version
     * (a rebuild, where they are older). Repeated until ERR_OK or the stop. */
    enum err_code (*prepare)(void *arg, struct err *err);
    void *prepare_arg;
    struct stop *stop;
    struct log *log;
    struct health_component *health; /* of the group */
};

struct worker;

MUST_CHECK enum err_code worker_start(const struct worker_options *options, struct worker **out,
                                      struct err *err);
/* Waits for the threads: they end when the stop is requested, after the batch in hand. */
void worker_join(struct worker *worker);

#endif
