/*
 * The row view on PostgreSQL: a small pool of worker threads, each with one connection and its
 * prepared statements, behind one bounded queue.
 *
 *  1. A read is queued by its loop's thread, run by a worker, and its result handed back on the
 *     same loop.
 *  2. No read waits for a connection: while no worker is connected reads are refused at once;
 *     workers connect again by themselves, with a back-off.
 *  3. A read whose connection turns out to be dead is tried once more on a new one, since reading
 *     changes nothing.
 *  4. A read that has waited in the queue longer than its time limit is answered ERR_TIMEOUT
 *     unread.
 */
#ifndef DAYBOOK_ADAPTERS_VIEW_PG_H
#define DAYBOOK_ADAPTERS_VIEW_PG_H

#include "common/base/log.h"
#include "common/ports/row_view.h"
#include "common/ports/view_state.h"
#include "common/runtime/loop.h"
#include "common/runtime/metrics.h"

struct view_pg;        /* the pool */
struct view_pg_client; /* its face towards one loop */

struct view_pg_options {
    const char *url; /* borrowed for the pool's life */
    size_t threads;
    size_t queue_max;
    int64_t connect_timeout_ms;
    int64_t statement_timeout_ms; /* also the longest wait in the queue */
    struct log *log;
    struct metrics *metrics;
    struct view_state_listener listener;
};

MUST_CHECK enum err_code view_pg_start(const struct view_pg_options *options, struct view_pg **out,
                                       struct err *err);
/* Ends the workers; what they have not read yet is dropped without a call of `done`. Before it stop
 * the loops (nobody queues any more), after it free the clients, then the pool. */
void view_pg_stop(struct view_pg *pool);
void view_pg_free(struct view_pg *pool);

/* `loop` must outlive view_pg_stop. */
struct view_pg_client *view_pg_client_new(struct view_pg *pool, struct loop *loop);
void view_pg_client_free(struct view_pg_client *client);
struct row_view view_pg_rows(struct view_pg_client *client);

#endif
