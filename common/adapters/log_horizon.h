/*
 * Up to which position the log is settled: no event with a smaller or equal position can appear
 * any more.
 *
 * Positions come from a sequence and are taken before they are committed, so a gap below a visible
 * event is either for ever or an event that is about to appear. Whoever may still fill one holds a
 * lock on the table since before it took its position. So: the largest visible position, and after
 * that who holds such a lock. When all of them are gone, everything up to that position is settled.
 * That needs nothing of the writers, and other transactions of the server don't disturb it, however
 * long they take (as they would if running transaction ids were compared).
 *
 * This is the bookkeeping of those looks; pure. See log_view_pg.c for the look itself.
 */
#ifndef DAYBOOK_ADAPTERS_LOG_HORIZON_H
#define DAYBOOK_ADAPTERS_LOG_HORIZON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/str.h"

enum { LOG_HORIZON_HOLDERS_MAX = 256 };

/* One look. */
struct log_look {
    uint64_t begun;                            /* log_horizon_begin's number */
    int64_t newest;                            /* the largest visible position; 0: none */
    uint64_t holders[LOG_HORIZON_HOLDERS_MAX]; /* who held a lock after that */
    size_t holder_count;
    bool too_many; /* more than fit: this look settles nothing */
};

struct log_horizon {
    int64_t settled;
    uint64_t settled_number;
    bool has_candidate;
    struct log_look candidate; /* settled as soon as none of its holders is left */
    uint64_t candidate_number;
    uint64_t number; /* counts what happened: tells which looks began after it */
};

/* "3/1234 4/77": the virtual transaction ids of those who hold a lock. */
void log_look_set_holders(struct log_look *look, struct str text);
/* To be called before the look; several may be under way at a time. */
void log_horizon_begin(const struct log_horizon *horizon, struct log_look *look);
void log_horizon_advance(struct log_horizon *horizon, const struct log_look *look);

#endif
