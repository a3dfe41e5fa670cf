/*
 * The publisher: a topic of partitions to which changes are appended.
 *
 * Contract
 *  1. Within a partition records appear in the order of publish, without a hole: when one fails,
 * none behind it is reported as delivered.
 *  2. delivered is called for each published record once, from poll.
 *  3. At most a bounded number is in flight: publish says ERR_LIMIT then, and poll makes room.
 *  4. A record whose held_at_us lies further back than the fence's length when it arrives is
 *     refused by the topic itself, whoever sends it.
 * Belongs to one thread.
 */
#ifndef DAYBOOK_PORTS_PUBLISHER_H
#define DAYBOOK_PORTS_PUBLISHER_H

#include "common/ports/change_feed.h"

/* A record that is safe in the topic. */
struct delivery {
    uint64_t tag;
    int32_t partition;
    int64_t offset; /* negative: not told */
};

typedef void publisher_delivered_fn(void *arg, const struct delivery *delivery);

struct publisher;

struct publisher_ops {
    /* Connects, makes the topic if it is missing, checks its partition count and its fence.
     * ERR_INVALID: the topic is not as configured. */
    enum err_code (*open)(struct publisher *publisher, struct err *err);
    /* The tail of each of `count` partitions. */
    enum err_code (*read_tails)(struct publisher *publisher, struct publish_mark *tails,
                                size_t count, struct err *err);
    /* Takes a copy. `tag` comes back with the delivery. ERR_LIMIT: full. ERR_INVALID: this record
     * can never be taken (it is too large). ERR_UNAVAILABLE: broken, close and open anew. */
    enum err_code (*publish)(struct publisher *publisher, int32_t partition,
                             const struct change *change, uint64_t tag, struct err *err);
    /* Reports deliveries; waits up to wait_ms for the first. Any error: the publisher is of no more
     * use and must be closed and opened anew. */
    enum err_code (*poll)(struct publisher *publisher, int64_t wait_ms, publisher_delivered_fn *fn,
                          void *arg, struct err *err);
    /* False, and why, while nobody takes records; what is in flight waits. Cheap enough to ask
     * every few milliseconds. */
    bool (*reachable)(struct publisher *publisher, struct err *why);
    /* Readable when poll has something to report; -1 when closed. */
    int (*descriptor)(const struct publisher *publisher);
    /* Gives up what is in flight. */
    void (*close)(struct publisher *publisher);
    void (*free)(struct publisher *publisher);
};

struct publisher {
    const struct publisher_ops *ops;
};

#endif
