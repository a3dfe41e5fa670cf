#include "common/adapters/view_redis_calls.h"

#include <assert.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

enum { FREE_CALLS_MAX = 1024 };

struct call *calls_push(struct calls *calls) {
    struct call *call = calls->free;

    if (call != NULL) {
        calls->free = call->next;
        calls->free_count--;
    } else {
        call = mem_zalloc(sizeof(*call));
    }
    call->next = NULL;
    call->done = NULL;
    call->mark_done = NULL;
    call->arg = NULL;
    call->sent_us = clock_monotonic_us();
    call->partition = 0;
    call->model = 0;
    call->id[0] = '\0';
    if (calls->newest != NULL) {
        calls->newest->next = call;
    } else {
        calls->oldest = call;
    }
    calls->newest = call;
    calls->count++;
    return call;
}

void calls_copy(struct call *call, const struct call *request) {
    call->done = request->done;
    call->arg = request->arg;
    call->sent_us = request->sent_us;
    call->partition = request->partition;
    memcpy(call->id, request->id, sizeof(call->id));
}

void calls_pop(struct calls *calls, struct call *call) {
    assert(call == calls->oldest);
    calls->oldest = call->next;
    if (calls->oldest == NULL) {
        calls->newest = NULL;
    }
    calls->count--;
    if (calls->free_count < FREE_CALLS_MAX) {
        call->next = calls->free;
        calls->free = call;
        calls->free_count++;
    } else {
        mem_free(call);
    }
}

void calls_release(struct calls *calls) {
    while (calls->free != NULL) {
        struct call *next = calls->free->next;
        mem_free(calls->free);
        calls->free = next;
    }
}
