/*
 * The key view on Redis: one string per account, `{pN}:account<M>:ID`, N being the id's partition,
 * M the number of the live model (redis_model.h), which is asked for together with the account when
 * it was not heard of for 10 ms: a read that met a switch is repeated.
 *
 *  1. Lives on one event loop: all calls from its thread, but for new and free (before the loop
 *     runs, after it ended).
 *  2. What a turn of the loop asks goes out in one write, pipelined over one connection.
 *  3. Before the first answer and every few seconds after it asks Redis for `daybook:partitions`.
 *     While that is missing or differs from our own count nothing is answered from Redis: we would
 *     look under the wrong keys.
 *  4. A request that waits longer than its time limit drops the connection: all in flight fail
 *     with ERR_TIMEOUT, later ones with ERR_UNAVAILABLE at once, until a new connection has
 *     answered the question of 3.
 *
 *     waiting ──▶ resolving ──▶ connecting ──▶ checking ──▶ ready
 *        ▲                                      ▲  │ missing, different   │
 *        │                                      └──┴── refused ◀──────────┤
 *        └──────────── connection lost, time limit, anything ◀────────────┘
 */
#ifndef DAYBOOK_ADAPTERS_VIEW_REDIS_H
#define DAYBOOK_ADAPTERS_VIEW_REDIS_H

#include "common/base/log.h"
#include "common/ports/key_view.h"
#include "common/ports/view_state.h"
#include "common/runtime/loop.h"
#include "common/runtime/metrics.h"

struct view_redis;

struct view_redis_options {
    const char *url; /* redis://…, see redis_url.h */
    int32_t partitions;
    int64_t request_timeout_ms;
    int64_t connect_timeout_ms;
    size_t in_flight_max;
    struct loop *loop;
    struct log *log;
    struct metrics *metrics;
    struct view_state_listener listener;
};

/* ERR_INVALID: the URL. A Redis that is down is no error: it is tried again for ever. */
MUST_CHECK enum err_code view_redis_new(const struct view_redis_options *options,
                                        struct view_redis **out, struct err *err);
/* Only after its loop has stopped. Requests still in flight are dropped without a call of `done`.
 */
void view_redis_free(struct view_redis *view);

struct key_view view_redis_keys(struct view_redis *view);

#endif
