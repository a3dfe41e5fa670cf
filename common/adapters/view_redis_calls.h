/* Commands in flight to Redis. It answers in order, so they form a queue. */
#ifndef DAYBOOK_ADAPTERS_VIEW_REDIS_CALLS_H
#define DAYBOOK_ADAPTERS_VIEW_REDIS_CALLS_H

#include "common/ports/key_view.h"

struct call {
    struct call *next;
    key_view_fn *done; /* NULL: one of the view's own, or for a mark */
    key_mark_fn *mark_done;
    void *arg;
    int64_t sent_us;
    int32_t partition;
    int64_t model; /* whose key was asked for */
    char id[STREAM_ID_BYTES_MAX + 1];
};

struct calls {
    struct call *oldest;
    struct call *newest;
    size_t count;
    struct call *free;
    size_t free_count;
};

/* A new last one, sent now; the queue's until it is popped. */
struct call *calls_push(struct calls *calls);
/* Takes over whose request it is and since when it waits. */
void calls_copy(struct call *call, const struct call *request);
/* `call` must be the oldest. */
void calls_pop(struct calls *calls, struct call *call);
void calls_release(struct calls *calls);

#endif
