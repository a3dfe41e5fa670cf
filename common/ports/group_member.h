/*
 * A member of a group whose members share the topic's partitions: it learns which are its own, and
 * reads nothing (event_reader does). Membership only spreads the work: two members that both hold a
 * partition for a moment harm nothing, because stores compare their checkpoints.
 *
 * So a rebalance interrupts nobody: `assigned` tells the whole new share, and what was held before
 * and still is goes on untouched. Only a member that the group has thrown out is told at once that
 * it has nothing.
 * Belongs to one thread, but for commit_hint; callbacks come from within poll and close.
 */
#ifndef DAYBOOK_PORTS_GROUP_MEMBER_H
#define DAYBOOK_PORTS_GROUP_MEMBER_H

#include "common/ports/event_reader.h"

/* mine[p] for p < TOPIC_PARTITIONS_MAX: the whole share. */
typedef void member_assigned_fn(void *arg, const bool *mine);

struct group_member;

struct group_member_ops {
    enum err_code (*open)(struct group_member *member, member_assigned_fn *assigned, void *arg,
                          struct err *err);
    /* Serves the group for wait_ms. ERR_UNAVAILABLE: what the client can't mend by itself: close
     * and open again. */
    enum err_code (*poll)(struct group_member *member, int64_t wait_ms, struct err *err);
    /* Has the group given this member its share (which may be nothing)? */
    bool (*joined)(const struct group_member *member);
    /* Tells the broker where we are, for its tools; nobody waits for it or relies on it. */
    void (*commit_hint)(struct group_member *member, int32_t partition, int64_t next);
    void (*close)(struct group_member *member); /* leaves the group */
    void (*free)(struct group_member *member);
};

struct group_member {
    const struct group_member_ops *ops;
};

#endif
