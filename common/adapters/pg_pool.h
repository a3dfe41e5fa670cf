/*
 * A small pool of worker threads, each with one PostgreSQL connection and its prepared statements,
 * behind one bounded queue: how event loops read from PostgreSQL without waiting for it.
 *
 *  1. A job is queued by its loop's thread, run by a worker, and handed back on the same loop.
 *  2. No job waits for a connection: while no worker is connected jobs are refused at once; workers
 *     connect again by themselves, with a back-off.
 *  3. A job whose connection turns out to be dead is run once more on a new one: jobs only read.
 *  4. A job that has waited in the queue longer than its time limit ends with ERR_TIMEOUT, not run.
 */
#ifndef DAYBOOK_ADAPTERS_PG_POOL_H
#define DAYBOOK_ADAPTERS_PG_POOL_H

#include "common/adapters/pg_conn.h"
#include "common/ports/view_state.h"
#include "common/runtime/loop.h"
#include "common/runtime/metrics.h"

struct pg_pool;
struct pg_pool_client; /* its face towards one loop */

/* The head of what a user of the pool queues. One owner at a time. */
struct pg_job {
    /* On a worker's thread. Codes as pg_conn_run's; ERR_NOT_FOUND is an answer like ERR_OK. */
    enum err_code (*run)(struct pg_job *job, struct pg_conn *connection, struct err *err);
    /* On the loop's thread, with `code` set. */
    void (*done)(struct pg_job *job);
    /* On any thread, after done or instead of it. */
    void (*free)(struct pg_job *job);
    enum err_code code;
    /* The pool's own. */
    struct pg_job *next;
    struct pg_pool_client *client;
    int64_t queued_us;
};

struct pg_pool_options {
    const char *url; /* borrowed for the pool's life */
    const char *setup_sql;
    const struct pg_statement *statements;
    size_t statement_count;
    size_t threads;
    size_t queue_max;
    int64_t connect_timeout_ms;
    int64_t statement_timeout_ms; /* also the longest wait in the queue */
    const char *metrics_labels;   /* of daybook_query_pg_…: "" or database="log" */
    struct log *log;
    struct metrics *metrics;
    struct view_state_listener listener;
};

MUST_CHECK enum err_code pg_pool_start(const struct pg_pool_options *options, struct pg_pool **out,
                                       struct err *err);
/* Ends the workers; what they have not run yet is freed without a call of `done`. Before it stop
 * the loops (nobody queues any more), after it free the clients, then the pool. */
void pg_pool_stop(struct pg_pool *pool);
void pg_pool_free(struct pg_pool *pool);

/* `loop` must outlive pg_pool_stop. */
struct pg_pool_client *pg_pool_client_new(struct pg_pool *pool, struct loop *loop);
void pg_pool_client_free(struct pg_pool_client *client);

/* ERR_OK: the pool owns the job until `done`, which is called later (never inside this call).
 * ERR_UNAVAILABLE: not connected, or stopping; ERR_LIMIT: the queue is full: the job is still the
 * caller's. */
MUST_CHECK enum err_code pg_pool_queue(struct pg_pool_client *client, struct pg_job *job);

#endif
