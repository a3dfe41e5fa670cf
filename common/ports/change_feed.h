/*
 * The change feed: what was committed to the log, in the order of commit.
 *
 * Contract
 *  1. Every committed event is delivered at least once after the confirmed position; events of one
 *     transaction together, in the order they were inserted; transactions in commit order. While
 *     catching up, all that may not have been published comes as one transaction, each stream's
 *     events in the order of their versions.
 *  2. (incarnation, commit_lsn, seq) is unique per delivery of the log and ascends.
 *  3. Only what was confirmed is forgotten: after a crash the feed begins behind the last position
 *     that confirm had made durable. When that place is lost, the feed catches up from the log's
 *     table: events may come again then, none is missing.
 *  4. One reader holds the feed. held_at_us is how it proves that it still does.
 * Belongs to one thread.
 */
#ifndef DAYBOOK_PORTS_CHANGE_FEED_H
#define DAYBOOK_PORTS_CHANGE_FEED_H

#include "common/base/err.h"
#include "common/ports/publish_mark.h"
#include "common/ports/recorded_event.h"

struct change {
    struct recorded_event event; /* slices live until the next call of next */
    uint64_t incarnation;        /* counts how often the log's place was lost */
    uint64_t commit_lsn;         /* of its transaction */
    uint32_t seq;                /* index in the transaction */
    int64_t committed_at_us;
    int64_t held_at_us;   /* set by who publishes it: held_at_us of the feed at that moment */
    bool without_payload; /* set by who publishes it: only a reference to the payload goes out */
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
    /* Connects and takes hold of the feed. ERR_FENCED: another holder is active; stand by.
     * ERR_UNAVAILABLE: not now. ERR_INVALID: something an operator must mend. */
    enum err_code (*open)(struct change_feed *feed, struct err *err);
    /* True when it is certain that no earlier holder can publish any more: it said so itself or its
     * process has ended. False: only time can tell. */
    bool (*predecessor_gone)(const struct change_feed *feed);
    /* Once after open, before next: no earlier holder can publish any more, this is where the topic
     * ends, and from now on this holder may publish. ERR_FENCED: somebody was faster. ERR_CONFLICT:
     * the place in the log does not fit the topic (one of them was restored or has lost something);
     * this was written down: close, open anew, and the feed catches up. */
    enum err_code (*begin)(struct change_feed *feed, const struct publish_mark *tails, size_t count,
                           struct err *err);
    /* Never blocks. Any error but ERR_OK: the feed is closed. */
    enum err_code (*next)(struct change_feed *feed, struct feed_item *item, struct err *err);
    /* A record of this run is safe in the topic at this offset (negative: not told). Call it before
     * confirming. An offset that comes again means that the topic was made anew: confirm says
     * ERR_CONFLICT then. */
    void (*published)(struct change_feed *feed, int32_t partition, int64_t offset);
    /* All up to position is safe elsewhere; a position that was confirmed before, and 0, say
     * nothing new. Cheap; call it often also without news, at least every few seconds: it is what
     * tells the server that the reader is alive while next is not called. Waits (bounded) only to
     * write down what was published, and where a catch-up ends. Any error but ERR_OK: the feed is
     * closed. ERR_FENCED: somebody else holds it. */
    enum err_code (*confirm)(struct change_feed *feed, uint64_t position, struct err *err);
    /* To poll(2) for readability when next said FEED_NOTHING; -1 when closed. */
    int (*descriptor)(const struct change_feed *feed);
    /* The server's wall clock at the last moment for which it is proven that nobody else held the
     * feed. */
    int64_t (*held_at_us)(const struct change_feed *feed);
    /* Where the log ended when the feed was opened: every change that existed then lies before. */
    uint64_t (*end_of_log)(const struct change_feed *feed);
    /* Bytes of log between what was confirmed and the newest the server has told of. */
    int64_t (*lag_bytes)(const struct change_feed *feed);
    /* Why it catches up from the table; NULL: it doesn't. */
    const char *(*catching_up)(const struct change_feed *feed);
    /* Nothing of this holder can be published any more: the next one need not wait for that. */
    void (*release)(struct change_feed *feed);
    void (*close)(struct change_feed *feed);
    void (*free)(struct change_feed *feed);
};

struct change_feed {
    const struct change_feed_ops *ops;
};

#endif
