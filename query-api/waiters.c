#include "query-api/waiters.h"

#include <assert.h>

#include "common/base/mem.h"

enum {
    INTERVAL_MIN_US = 2000,
    INTERVAL_MAX_US = 50000,
    INTERVAL_PER_WAITER_US = 1000, /* all together: at most 1,000 looks a second, for long ones */
    CAPACITY_FIRST = 64,
};

void waiters_init(struct waiters *waiters, size_t max) {
    *waiters = (struct waiters){.max = max};
}

void waiters_release(struct waiters *waiters) {
    mem_free(waiters->heap);
    *waiters = (struct waiters){0};
}

static void place(struct waiters *waiters, struct waiter *waiter, size_t at) {
    waiters->heap[at] = waiter;
    waiter->place = at;
}

static void sift_up(struct waiters *waiters, struct waiter *waiter, size_t at) {
    while (at > 1 && waiters->heap[at / 2]->due_us > waiter->due_us) {
        place(waiters, waiters->heap[at / 2], at);
        at /= 2;
    }
    place(waiters, waiter, at);
}

static void sift_down(struct waiters *waiters, struct waiter *waiter, size_t at) {
    for (;;) {
        size_t child = at * 2;
        if (child + 1 <= waiters->count &&
            waiters->heap[child + 1]->due_us < waiters->heap[child]->due_us) {
            child++;
        }
        if (child > waiters->count || waiters->heap[child]->due_us >= waiter->due_us) {
            break;
        }
        place(waiters, waiters->heap[child], at);
        at = child;
    }
    place(waiters, waiter, at);
}

bool waiters_add(struct waiters *waiters, struct waiter *waiter, int64_t due_us) {
    assert(waiter->place == 0);
    if (waiters->count == waiters->max) {
        return false;
    }
    if (waiters->count + 1 >= waiters->capacity) {
        waiters->capacity = waiters->capacity > 0 ? waiters->capacity * 2 : CAPACITY_FIRST;
        waiters->heap = mem_resize(waiters->heap, waiters->capacity, sizeof(struct waiter *));
    }
    waiter->due_us = due_us;
    waiters->count++;
    sift_up(waiters, waiter, waiters->count);
    return true;
}

void waiters_move(struct waiters *waiters, struct waiter *waiter, int64_t due_us) {
    assert(waiter->place > 0 && waiters->heap[waiter->place] == waiter);
    const bool earlier = due_us < waiter->due_us;
    waiter->due_us = due_us;
    if (earlier) {
        sift_up(waiters, waiter, waiter->place);
    } else {
        sift_down(waiters, waiter, waiter->place);
    }
}

void waiters_remove(struct waiters *waiters, struct waiter *waiter) {
    const size_t at = waiter->place;

    if (at == 0) {
        return;
    }
    struct waiter *last = waiters->heap[waiters->count--];
    waiter->place = 0;
    if (last != waiter) {
        /* The last one may belong above or below the gap: only one of the two moves it. */
        sift_down(waiters, last, at);
        sift_up(waiters, last, last->place);
    }
}

struct waiter *waiters_first(const struct waiters *waiters) {
    return waiters->count > 0 ? waiters->heap[1] : NULL;
}

void waiters_all_due(struct waiters *waiters, int64_t due_us) {
    for (size_t i = 1; i <= waiters->count; i++) {
        waiters->heap[i]->due_us = due_us;
    }
}

int64_t waiters_interval_us(int64_t age_us, size_t count) {
    const int64_t max_us = INTERVAL_MAX_US + (int64_t)count * INTERVAL_PER_WAITER_US;
    const int64_t wanted_us = age_us / 2;

    return wanted_us < INTERVAL_MIN_US ? INTERVAL_MIN_US : wanted_us > max_us ? max_us : wanted_us;
}
