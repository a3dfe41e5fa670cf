/*
 * The bulk of a rebuild: every record up to the log's present end, partitions in parallel.
 *
 * Rows that never change go straight into the store; the others are merged in memory and written
 * once, at a partition's end or when there are too many.
 */
#ifndef DAYBOOK_PROJECTOR_REBUILD_BULK_H
#define DAYBOOK_PROJECTOR_REBUILD_BULK_H

#include "projector/rebuild.h"

struct rebuild_bulk {
    const int64_t *ends; /* per partition, the offset up to which */
    /* Called once, before anything is asked of the targets' builders: makes their places. By then
     * the topic is being read. */
    enum err_code (*begin)(void *arg, struct err *err);
    /* Called once for each target as soon as all of it is in its store, from any thread; not when
     * something has failed before. */
    void (*loaded)(void *arg, size_t target);
    void *arg;
};

MUST_CHECK enum err_code rebuild_bulk(const struct rebuild_options *options,
                                      const struct rebuild_bulk *bulk, struct err *err);

#endif
