/*
 * A consumer: one member of a group that shares the topic's partitions.
 *
 * Where a partition is begun is the caller's to say (its sinks know); what the broker remembers is
 * only a hint for tools. Belongs to one thread; callbacks come from within poll.
 */
#ifndef DAYBOOK_PORTS_EVENT_CONSUMER_H
#define DAYBOOK_PORTS_EVENT_CONSUMER_H

#include <stdbool.h>

#include "common/base/err.h"
#include "common/ports/recorded_event.h"

enum { CONSUMER_PARTITIONS_MAX = 256 };

struct consumed_record {
    int32_t partition;
    int64_t offset;
    struct recorded_event event; /* slices live until release */
    const char *defect;          /* not NULL: the record is no event of ours, and why */
    int64_t bytes;
    void *handle;
};

/* The partition is ours from now on: returns the offset to begin with. */
typedef int64_t consumer_assigned_fn(void *arg, int32_t partition);
/* It is no longer. */
typedef void consumer_revoked_fn(void *arg, int32_t partition);

struct event_consumer;

struct event_consumer_ops {
    /* Connects, checks the topic's partition count, joins the group. */
    enum err_code (*open)(struct event_consumer *consumer, consumer_assigned_fn *assigned,
                          consumer_revoked_fn *revoked, void *arg, struct err *err);
    /* One record, or ERR_TIMEOUT after wait_ms. */
    enum err_code (*poll)(struct event_consumer *consumer, int64_t wait_ms,
                          struct consumed_record *out, struct err *err);
    void (*release)(struct event_consumer *consumer, struct consumed_record *record);
    /* Has the group given this member its share (which may be nothing)? */
    bool (*joined)(const struct event_consumer *consumer);
    /* Goes on at another offset; records polled before are void. */
    enum err_code (*reposition)(struct event_consumer *consumer, int32_t partition, int64_t offset,
                                struct err *err);
    /* Tells the broker where we are; nobody waits for it. */
    void (*commit_hint)(struct event_consumer *consumer, int32_t partition, int64_t next);
    /* The offset after the partition's last record, as last heard; -1: not known. */
    int64_t (*end_offset)(struct event_consumer *consumer, int32_t partition);
    void (*close)(struct event_consumer *consumer); /* leaves the group */
    void (*free)(struct event_consumer *consumer);
};

struct event_consumer {
    const struct event_consumer_ops *ops;
};

#endif
