/*
 * Who waits for a change in the key view: one shared look for all of them.
 *
 * Accounts lie in places (partitions), and each place has a mark that changes with everything that
 * is written there. While anybody waits the marks of their places are asked for every few
 * milliseconds, all in one write; only those whose place's mark has changed look at their account
 * again. So 5,000 that wait cost what one costs, until something happens. It needs no second
 * connection and nothing of Redis's configuration, and no notification can get lost, as
 * with Redis's publish and subscribe.
 *
 * Belongs to one loop.
 */
#ifndef DAYBOOK_QUERY_API_WATCH_H
#define DAYBOOK_QUERY_API_WATCH_H

#include "common/ports/key_view.h"
#include "common/runtime/loop.h"

struct watch;

/* Part of what waits. */
struct watched {
    struct watched *next, *previous;
    int32_t place;
    bool on;
};

/* To look again, or (all of them) because the marks can't be read. Must not add or remove any but
 * this one. */
typedef void watch_look_fn(struct watched *watched);

struct watch *watch_new(struct loop *loop, const struct key_view *keys, watch_look_fn *look);
/* After the loop has stopped. */
void watch_free(struct watch *watch);

/* Calls look for every change that happens from now on, also one that is on its way. */
void watch_add(struct watch *watch, struct watched *watched, struct str id);
/* Does nothing to one that is not watched. */
void watch_remove(struct watch *watch, struct watched *watched);

#endif
