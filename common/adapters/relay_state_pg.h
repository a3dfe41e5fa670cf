/*
 * What the holder of a replication slot remembers in the database, and how it proves that it still
 * is the holder: a connection of its own beside the replication connection, and one row of
 * daybook.relay_state.
 *
 * Invariants
 *  1. Every event whose transaction id is below published_below was in the topic when that was
 *     written: below is the oldest transaction that ran at some moment (what is older had committed
 *     before), and it counts only once all that had been written to the log by then was published.
 *  2. offsets are those of records that were in the topic. The slot is confirmed only behind what
 *     was written here, so a topic that ends before them has lost records.
 *  3. held_at_us is the server's time at the start of a statement that then found our backend
 *     holding the slot. Every proof of an earlier holder is older than its successor's first.
 *  4. The slot is never confirmed beyond `confirmed`, and that is never beyond what is in the topic
 *     or none of ours. A slot that stands further was moved or made by somebody else, or belongs to
 *     a place that was given up: who gives one up writes 0 first, and only the end of a catch-up
 *     writes something else.
 *  5. The row names who may have records on their way. A name is replaced only after those of its
 *     owner can no longer land (relay.h, the fence), by whoever saw it there.
 *  6. Every write is durable here before it counts: a crash of the server that undid one could take
 *     back a holder's name, or make (4) see a stranger's hand in the relay's own.
 */
#ifndef DAYBOOK_ADAPTERS_RELAY_STATE_PG_H
#define DAYBOOK_ADAPTERS_RELAY_STATE_PG_H

#include <libpq-fe.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/ports/publish_mark.h"
#include "common/runtime/process_identity.h"

enum { RELAY_STATE_WAIT_MS = 5000 };

/* Nobody may miss it: the topic can't be mended by publishing. */
#define RELAY_STATE_RESTORED                                                                   \
    "the database was restored to an earlier moment: the topic, and so the read models, have " \
    "events that it has not; run verify"

struct relay_state {
    PGconn *pg;
    const char *slot;   /* borrowed */
    const char *system; /* borrowed; the cluster's identifier */
    char identity[PROCESS_IDENTITY_BYTES];

    /* Who held it before, as read. */
    bool found; /* there is a row */
    char predecessor[PROCESS_IDENTITY_BYTES];
    bool released;
    bool predecessor_gone;

    /* As written. */
    uint64_t confirmed;     /* 0: nothing is known to be in the topic */
    bool confirmed_unknown; /* not written: the row is an earlier version's, the slot is trusted */
    uint64_t incarnation;
    uint64_t published_below;
    int64_t offsets[PUBLISHER_PARTITIONS_MAX]; /* -1: none */

    /* The topic while it is written to. */
    int64_t next[PUBLISHER_PARTITIONS_MAX];  /* the offset of the first record of this run */
    bool appended[PUBLISHER_PARTITIONS_MAX]; /* something, in this run */
    bool remade;                             /* an offset came again: it was made anew */

    /* Not written yet. */
    bool dirty;          /* offsets */
    bool below_behind;   /* published_below, or there will be more to say of it */
    uint64_t next_below; /* counts when all up to next_lsn is published; next_lsn 0: none waits */
    uint64_t next_lsn;
    int64_t next_proven_us;
    int64_t published_at_us; /* monotonic: the last record */
    int64_t saved_at_us;     /* monotonic */

    int64_t held_at_us;   /* the server's wall clock */
    int64_t proven_at_us; /* monotonic */
    int64_t wal_left;     /* bytes that the slot may still fall behind; INT64_MAX: no limit */
};

/* Connects and reads the row. Call it as the holder of the slot. `system`: the cluster's
 * identifier. */
MUST_CHECK enum err_code relay_state_take(struct relay_state *state, const char *url,
                                          int64_t timeout_ms, const char *slot, const char *system,
                                          struct err *err);
/* Proves anew that the backend `pid` holds the slot `held` (the permanent one or a temporary one)
 * when the last proof is older than max_age_us. ERR_FENCED: it doesn't. */
MUST_CHECK enum err_code relay_state_prove(struct relay_state *state, const char *held, int pid,
                                           int64_t max_age_us, struct err *err);
/* Puts our name in the row: no record of an earlier holder can land any more. Before anything is
 * written. ERR_FENCED: somebody else did since relay_state_take, or `pid` doesn't hold `held`. */
MUST_CHECK enum err_code relay_state_claim(struct relay_state *state, const char *held, int pid,
                                           struct err *err);
/* ERR_CONFLICT: slot, log and topic don't fit together, and why. Written down, so that a catch-up
 * begins where it must. On ERR_OK the topic's ends are taken over. */
MUST_CHECK enum err_code relay_state_compare(struct relay_state *state, uint64_t slot_confirmed,
                                             const struct publish_mark *tails, size_t count,
                                             struct err *err);
/* A new incarnation, greater than any that the topic has seen. *restored: the topic ends with
 * events that the table has not. */
MUST_CHECK enum err_code relay_state_reincarnate(struct relay_state *state,
                                                 const struct publish_mark *tails, size_t count,
                                                 bool *restored, struct err *err);
/* A record of this run is in the topic; a negative offset: it is not known where. Notes in `remade`
 * that the partition had reached further. How many records stand between the end that was read and
 * the first of this run: none should. */
int64_t relay_state_published(struct relay_state *state, int32_t partition, int64_t offset);
/* ERR_CONFLICT: it is written down that nothing is known to be in the topic, and why. */
MUST_CHECK enum err_code relay_state_forget(struct relay_state *state, struct err *err);
/* All up to this position of the log is published. */
void relay_state_advance(struct relay_state *state, uint64_t position);
/* Writes what is not written yet, and that the slot may be confirmed up to this position.
 * ERR_FENCED: somebody else's name stands there. */
MUST_CHECK enum err_code relay_state_save(struct relay_state *state, uint64_t confirmed,
                                          struct err *err);
/* Nothing of ours is on its way. Fails silently: then others wait. */
void relay_state_release(struct relay_state *state);
void relay_state_close(struct relay_state *state);

#endif
