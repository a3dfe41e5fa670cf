/*
 * The change feed: what was committed to the log, in the order of commit.
 *
 * Contract
 *  1. Every committed event is delivered at least once after the confirmed position; events of one
 *     transaction together, in the order they were inserted; transactions in commit order.
 *  2. (commit_lsn, seq) is unique per delivery of the log and ascends.
 *  3. Only what was confirmed is forgotten: after a crash the feed begins behind the last position
 *     that confirm had made durable.
 * Belongs to one thread.
 */
#ifndef DAYBOOK_PORTS_CHANGE_FEED_H
#define DAYBOOK_PORTS_CHANGE_FEED_H

#include "common/base/err.h"
#include "common/ports/recorded_event.h"

struct change {
    struct recorded_event event; /* slices live until the next call of next */
    uint64_t commit_lsn;         /* of its transaction */
    uint32_t seq;                /* index in the transaction */
    int64_t committed_at_us;
};

enum feed_item_kind {
    FEED_NOTHING, /* nothing has arrived: wait on the descriptor */
    FEED_CHANGE,
    FEED_COMMIT,   /* the transaction of the changes before is complete */
    FEED_PROGRESS, /* nothing for us up to position: it may be confirmed when nothing is in flight
                    */
};

struct feed_item {
    enum feed_item_kind kind;
    struct change change;    /* FEED_CHANGE */
    uint64_t position;       /* FEED_COMMIT, FEED_PROGRESS: what to confirm */
    int64_t committed_at_us; /* FEED_COMMIT */
};

struct change_feed;

struct change_feed_ops {
    /* Connects and begins behind the confirmed position. ERR_FENCED: another holder is active;
     * stand by. ERR_UNAVAILABLE: not now. ERR_INVALID: something an operator must mend. */
    enum err_code (*open)(struct change_feed *feed, struct err *err);
    /* Never blocks, but for a bounded wait per batch while catching up. Any error but ERR_OK: the
     * feed is closed. */
    enum err_code (*next)(struct change_feed *feed, struct feed_item *item, struct err *err);
    /* All up to position is safe elsewhere; a position that was confirmed before, and 0, say
     * nothing new. Cheap; call it often also without news, at least every few seconds: it is what
     * tells the server that the reader is alive while next is not called. Waits (bounded) only
     * where a catch-up ends. Any error but ERR_OK: the feed is closed. */
    enum err_code (*confirm)(struct change_feed *feed, uint64_t position, struct err *err);
    /* To poll(2) for readability when next said FEED_NOTHING; -1 when closed. */
    int (*descriptor)(const struct change_feed *feed);
    /* Where the log ended when the feed was opened: every change that existed then lies before. */
    uint64_t (*end_of_log)(const struct change_feed *feed);
    /* Bytes of log between what was confirmed and the newest the server has told of. */
    int64_t (*lag_bytes)(const struct change_feed *feed);
    void (*close)(struct change_feed *feed);
    void (*free)(struct change_feed *feed);
};

struct change_feed {
    const struct change_feed_ops *ops;
};

#endif
