/*
 * Who waits for what time: a binary heap of waiters by the moment they are due, bounded, without
 * allocation per waiter. Not thread-safe; belongs to one loop.
 */
#ifndef DAYBOOK_QUERY_API_WAITERS_H
#define DAYBOOK_QUERY_API_WAITERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"

/* Part of the thing that waits. */
struct waiter {
    int64_t due_us;
    size_t place; /* 1 …: in the heap; 0: not waiting */
};

struct waiters {
    struct waiter **heap; /* heap[1] is due first */
    size_t count;
    size_t capacity; /* allocated */
    size_t max;
};

void waiters_init(struct waiters *waiters, size_t max);
void waiters_release(struct waiters *waiters);

/* False when `max` wait already. The waiter must not be waiting. */
MUST_CHECK bool waiters_add(struct waiters *waiters, struct waiter *waiter, int64_t due_us);
/* Changes when a waiting one is due. */
void waiters_move(struct waiters *waiters, struct waiter *waiter, int64_t due_us);
/* Does nothing to one that is not waiting. */
void waiters_remove(struct waiters *waiters, struct waiter *waiter);
/* NULL when nobody waits. */
struct waiter *waiters_first(const struct waiters *waiters);
/* Makes everybody due at the same moment. */
void waiters_all_due(struct waiters *waiters, int64_t due_us);

/*
 * How long one that has waited for age_us should wait until it looks at the row view again: from
 * 2 ms, half its age, to 50 ms and 1 ms for each that waits, so that looking costs a bounded share
 * of the machine.
 */
int64_t waiters_interval_us(int64_t age_us, size_t count);

#endif
