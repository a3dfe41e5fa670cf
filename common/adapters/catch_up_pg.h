/*
 * Events taken from the table where the log's place was lost: all whose transaction is not known to
 * be in the topic, as one snapshot shows them that ends where a new slot begins.
 *
 *   make: a temporary slot (it keeps the log from here on, and others away) and its snapshot
 *   begin, next …: the events by position; per stream that is the order of their versions, since
 *     whoever writes a version has seen the one before it
 *   finish: the permanent slot becomes a copy of the temporary one
 */
#ifndef DAYBOOK_ADAPTERS_CATCH_UP_PG_H
#define DAYBOOK_ADAPTERS_CATCH_UP_PG_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/ports/recorded_event.h"

enum { CATCH_UP_SLOT_BYTES = 72 };

struct catch_up {
    PGconn *reader; /* the table, in the slot's snapshot */
    PGresult *rows;
    int row;
    PGresult *arriving; /* the next rows */
    bool asked;         /* for more rows; they come while these are taken */
    int64_t asked_at_us;
    uint64_t lsn;            /* where the slot begins */
    uint64_t complete_below; /* transactions below have ended in the snapshot */
    bool read;               /* all events were given */
    const char *slot;        /* the permanent one's name; borrowed */
    char temporary[CATCH_UP_SLOT_BYTES];
};

/* `pg`: the replication connection, whose session owns the temporary slot. ERR_FENCED: somebody
 * else catches up. ERR_TIMEOUT: a transaction that runs too long is in the way. */
MUST_CHECK enum err_code catch_up_make(struct catch_up *self, PGconn *pg, const char *url,
                                       int64_t connect_timeout_ms, const char *slot,
                                       struct err *err);
/* Events of transactions from `published_below` on. */
MUST_CHECK enum err_code catch_up_begin(struct catch_up *self, uint64_t published_below,
                                        struct err *err);
/* Never waits: the first rows may take as long as it takes to look through the whole table, and the
 * slot's holder has to prove itself meanwhile. The next event, its slices live until the next call;
 * or *found false: that was all when `read`, otherwise nothing has come yet. */
MUST_CHECK enum err_code catch_up_next(struct catch_up *self, struct recorded_event *out,
                                       bool *found, struct err *err);
/* To poll(2) for readability while nothing has come. */
int catch_up_descriptor(const struct catch_up *self);
MUST_CHECK enum err_code catch_up_finish(struct catch_up *self, PGconn *pg, struct err *err);
void catch_up_close(struct catch_up *self);

#endif
