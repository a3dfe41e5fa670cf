/*
 * Fills a store that has lost its data from another store's model: the rows as they stand at that
 * one's checkpoints, then the checkpoints. Much quicker than all events since the beginning; what
 * came after the checkpoints follows from the log.
 *
 * Harmless when it is interrupted or when two do it at once: rows are guarded by their versions,
 * and the checkpoint, which comes last, is set where there is none.
 */
#ifndef DAYBOOK_PROJECTOR_REFILL_H
#define DAYBOOK_PROJECTOR_REFILL_H

#include "common/base/log.h"
#include "common/ports/model_scan.h"

/* Below so many events the log is as quick. */
enum { REFILL_EVENTS_MIN = 1000 };

struct refill_options {
    const struct projection *projection;
    struct model_scan *from;      /* borrowed */
    struct projection_sink *into; /* borrowed */
    int32_t partitions;
    struct log *log;
};

/* Fills those partitions p with wanted[p] that `from` can fill; *filled tells how many. The others
 * get at least what operators have declared void, which no log tells. A partition that somebody
 * else has begun meanwhile is left to him. */
MUST_CHECK enum err_code refill(const struct refill_options *options, const bool *wanted,
                                size_t *filled, struct err *err);

#endif
