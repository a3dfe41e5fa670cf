/*
 * The event store: where decisions become facts.
 *
 * Contract (tests/contract/event_store_contract.c runs against every adapter)
 *  1. append is all or nothing: all events and outcomes of a batch are durable when it returns
 *     ERR_OK, none is there for any other code but ERR_OUTCOME_UNKNOWN.
 *  2. (stream, version) and (stream, idempotency key) are unique: a batch that repeats one is
 *     ERR_CONFLICT and leaves nothing behind.
 *  3. Events of one batch enter the log in the order given.
 *  4. Appends that are begun while others are on their way take effect in the order begun, each by
 *     itself: one that fails doesn't touch the next.
 *  5. A snapshot is a shortcut of load, never part of the truth: save_snapshots may lose any of
 * them.
 *  6. Each call is bounded in time. A store whose connection is lost finds a new one by itself.
 * A store belongs to one thread.
 */
#ifndef DAYBOOK_PORTS_EVENT_STORE_H
#define DAYBOOK_PORTS_EVENT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/ports/recorded_event.h"

enum {
    EVENT_STORE_BATCH_MAX = 4096,
    EVENT_STORE_LOAD_MAX = 100000, /* events of one stream in one load */
    EVENT_STORE_APPENDS_MAX = 2,   /* begun and not ended */
    IDEMPOTENCY_KEY_BYTES_MAX = 255,
};

struct stream_key {
    struct str aggregate_type;
    struct str stream_id;
};

/* What was answered to a command that carried an idempotency key. */
struct command_outcome {
    struct stream_key stream;
    struct str key;
    int64_t request_hash; /* tells a repetition from another request under the same key */
    int32_t status;       /* HTTP */
    int64_t version;      /* of the stream after the command */
    struct str body;
    int64_t recorded_at_us;
};

struct append_batch {
    const struct recorded_event *events; /* position is ignored */
    size_t event_count;
    const struct command_outcome *outcomes;
    size_t outcome_count;
};

struct stream_from {
    struct stream_key stream;
    int64_t after_version; /* load what comes behind it; 0: all */
    bool from_snapshot;    /* or behind its snapshot, when that fits */
    int64_t layout;        /* of the state that the snapshot must have */
};

/* A stream's state as of its event `version`. */
struct stream_snapshot {
    struct stream_key stream;
    int64_t version;
    struct uuid event_id;   /* of that event */
    int64_t recorded_at_us; /* of that event */
    int64_t layout;         /* fingerprint of the state's fields */
    int64_t checksum;       /* the caller's */
    struct str state;
};

enum snapshot_fit {
    SNAPSHOT_FITS,
    SNAPSHOT_OTHER_LAYOUT,
    SNAPSHOT_OTHER_LOG, /* the log has no such event: the snapshot is of its future or another's */
};

struct outcome_key {
    struct stream_key stream;
    struct str key;
};

/* Called per event, streams in the order asked for, versions ascending. Slices live for the call.
 * Any code but ERR_OK ends the load with that code. */
typedef enum err_code event_store_event_fn(void *arg, size_t stream_index,
                                           const struct recorded_event *event, struct err *err);
/* Called before the stream's events when it has a snapshot and one was wanted. When it fits only
 * events behind it follow, else all do and `state` is empty. The slice lives for the call. */
typedef void event_store_snapshot_fn(void *arg, size_t stream_index,
                                     const struct stream_snapshot *snapshot, enum snapshot_fit fit);
/* Called per outcome found. Slices live for the call. */
typedef void event_store_outcome_fn(void *arg, size_t key_index,
                                    const struct command_outcome *outcome);

struct event_store;

struct event_store_ops {
    /* One round trip for all streams; of each the first EVENT_STORE_LOAD_MAX events, so that the
     * time of a call is bounded: where so many came there may be more. `snapshot_fn` may be NULL
     * when no snapshot is wanted. */
    enum err_code (*load)(struct event_store *store, const struct stream_from *streams,
                          size_t count, event_store_snapshot_fn *snapshot_fn,
                          event_store_event_fn *fn, void *arg, struct err *err);
    /* Puts each in the place of its stream's former one; a stream is named once at most. */
    enum err_code (*save_snapshots)(struct event_store *store,
                                    const struct stream_snapshot *snapshots, size_t count,
                                    struct err *err);
    /* Sends a batch: one round trip, one transaction. On ERR_OK it is on its way and append_end
     * tells its fate; the batch itself is not needed any more. Any other code: nothing was done.
     * While one is on its way no call is allowed but append_end and, with fewer than
     * EVENT_STORE_APPENDS_MAX, another append_begin. */
    enum err_code (*append_begin)(struct event_store *store, const struct append_batch *batch,
                                  struct err *err);
    /* Waits for the oldest append that was begun: ERR_OK, ERR_CONFLICT, ERR_UNAVAILABLE,
     * ERR_OUTCOME_UNKNOWN; ERR_INVALID when the store refuses the data of the batch themselves.
     * Comes back with ERR_OK and *ended false when that is not known by wait_until_us (monotonic;
     * INT64_MAX: no such time). */
    enum err_code (*append_end)(struct event_store *store, int64_t wait_until_us, bool *ended,
                                struct err *err);
    /* After ERR_OUTCOME_UNKNOWN: did this very batch take effect? The answer false is final only
     * together with a further append of the same batch. */
    enum err_code (*was_appended)(struct event_store *store, const struct append_batch *batch,
                                  bool *appended, struct err *err);
    enum err_code (*find_outcomes)(struct event_store *store, const struct outcome_key *keys,
                                   size_t count, event_store_outcome_fn *fn, void *arg,
                                   struct err *err);
    /* Is the store reachable now? Reconnects when it can. */
    enum err_code (*check)(struct event_store *store, struct err *err);
    void (*free)(struct event_store *store);
};

struct event_store {
    const struct event_store_ops *ops;
};

/* Both steps at once. No append may be on its way. */
MUST_CHECK enum err_code event_store_append(struct event_store *store,
                                            const struct append_batch *batch, struct err *err);

#endif
