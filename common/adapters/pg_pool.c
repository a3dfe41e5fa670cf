#include "common/adapters/pg_pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/runtime/queue.h"

enum { IDLE_LOOK_MS = 500, PROBE_EVERY_US = 5000000, REASON_BYTES = 256, POST_RETRY_NS = 1000000 };

struct worker {
    struct pg_pool *pool;
    pthread_t id;
    bool started;
    struct pg_conn connection;
    bool counted; /* in pool->connected */
    int64_t probed_us;
};

struct pg_pool {
    struct pg_pool_options options;
    struct queue *queue;
    struct worker *workers;
    atomic_size_t connected; /* workers with a connection */
    atomic_bool stopping;
    pthread_mutex_t lock; /* guards ever_up and the order of what the listener is told */
    bool ever_up;
    struct metric_histogram *seconds;
    struct metric_gauge *queued;
};

struct pg_pool_client {
    struct pg_pool *pool;
    struct loop *loop;
    pthread_mutex_t lock; /* guards the list and `posted` */
    struct pg_job *oldest;
    struct pg_job *newest;
    bool posted; /* the loop is about to take the list */
};

/* --- on the loop's thread --- */

static void hand_over(void *arg) {
    struct pg_pool_client *client = arg;

    pthread_mutex_lock(&client->lock);
    struct pg_job *job = client->oldest;
    client->oldest = NULL;
    client->newest = NULL;
    client->posted = false;
    pthread_mutex_unlock(&client->lock);
    while (job != NULL) {
        struct pg_job *next = job->next;
        job->done(job);
        job->free(job);
        job = next;
    }
}

enum err_code pg_pool_queue(struct pg_pool_client *client, struct pg_job *job) {
    struct pg_pool *pool = client->pool;

    if (atomic_load(&pool->connected) == 0 || atomic_load(&pool->stopping)) {
        return ERR_UNAVAILABLE;
    }
    job->client = client;
    job->queued_us = clock_monotonic_us();
    if (!queue_try_push(pool->queue, job)) {
        return ERR_LIMIT;
    }
    metric_set(pool->queued, (int64_t)queue_length(pool->queue));
    return ERR_OK;
}

/* --- on a worker's thread --- */

static void finish(struct pg_job *job) {
    struct pg_pool_client *client = job->client;
    const struct timespec pause = {.tv_nsec = POST_RETRY_NS};

    pthread_mutex_lock(&client->lock);
    job->next = NULL;
    if (client->newest != NULL) {
        client->newest->next = job;
    } else {
        client->oldest = job;
    }
    client->newest = job;
    const bool must_post = !client->posted;
    client->posted = true;
    pthread_mutex_unlock(&client->lock);
    /* A loop that has 65,536 posts waiting is far behind: slowing down here is right. */
    while (must_post && !loop_post(client->loop, hand_over, client) &&
           !atomic_load(&client->pool->stopping)) {
        (void)nanosleep(&pause, NULL);
    }
}

/* Tells the listener when the first worker connects, when the last one is lost, and why. */
static void count_connection(struct worker *worker, const struct err *err) {
    struct pg_pool *pool = worker->pool;
    const struct view_state_listener *listener = &pool->options.listener;
    const bool connected = worker->connection.pg != NULL;

    pthread_mutex_lock(&pool->lock);
    if (connected != worker->counted) {
        worker->counted = connected;
        (void)atomic_fetch_add(&pool->connected, connected ? 1 : (size_t)-1);
    }
    const bool up = atomic_load(&pool->connected) > 0;
    pool->ever_up = pool->ever_up || up;
    if (listener->changed != NULL && (up || err->code != ERR_OK)) {
        const enum view_state state = up ? VIEW_UP : pool->ever_up ? VIEW_DOWN : VIEW_STARTING;
        listener->changed(listener->arg, state, up ? "" : err->message);
    }
    pthread_mutex_unlock(&pool->lock);
}

static enum err_code ensure(struct worker *worker) {
    const bool was_connected = worker->connection.pg != NULL;
    struct err err = {0};

    if (!was_connected && clock_monotonic_us() < worker->connection.retry_at_us) {
        return ERR_UNAVAILABLE; /* not yet; why it failed has been told */
    }
    const enum err_code code = pg_conn_ensure(&worker->connection, &err);
    if (was_connected != (worker->connection.pg != NULL) || code != ERR_OK) {
        count_connection(worker, &err);
    }
    return code;
}

static enum err_code run_once(struct worker *worker, struct pg_job *job, struct err *err) {
    const enum err_code code = job->run(job, &worker->connection, err);

    if (worker->connection.pg == NULL) {
        count_connection(worker, err);
    }
    /* A read whose outcome is not known is a read that did not happen. */
    return code == ERR_OUTCOME_UNKNOWN ? ERR_UNAVAILABLE : code;
}

/* Asks the server for a sign of life; drops the connection when there is none. */
static enum err_code probe(struct pg_conn *connection, struct err *err) {
    PGresult *rows = NULL;
    const enum err_code code = pg_conn_run(connection, "probe", NULL, 0, true, &rows, err);

    if (code == ERR_OK) {
        PQclear(rows);
    }
    return code;
}

static void run_job(struct worker *worker, struct pg_job *job) {
    struct pg_pool *pool = worker->pool;
    const int64_t limit_us = job->queued_us + pool->options.statement_timeout_ms * 1000;
    const int64_t started_us = clock_monotonic_us();
    struct err err = {0};
    enum err_code code = ERR_TIMEOUT;

    if (started_us < limit_us) {
        code = worker->connection.pg != NULL ? run_once(worker, job, &err) : ERR_UNAVAILABLE;
        /* Lost at once rather than after a long silence: the server was restarted. Once more. */
        if (code == ERR_UNAVAILABLE && clock_monotonic_us() < started_us + 100000 &&
            ensure(worker) == ERR_OK) {
            code = run_once(worker, job, &err);
        }
    }
    if (code != ERR_OK && code != ERR_NOT_FOUND) {
        log_warn(pool->options.log, log_event("postgresql.read_failed"),
                 log_cstr("class", err_name(code)), log_err(&err));
    }
    job->code = code;
    metric_observe(pool->seconds, clock_monotonic_us() - job->queued_us);
    finish(job);
}

/* With nothing to do: notice a dead connection, and one whose server has fallen silent. */
static void look_after(struct worker *worker) {
    struct pg_conn *connection = &worker->connection;
    const int64_t now_us = clock_monotonic_us();
    struct err err = {0};

    if (connection->pg != NULL && !PQconsumeInput(connection->pg)) {
        (void)err_set(&err, ERR_UNAVAILABLE, "connection lost");
        pg_conn_close(connection);
        count_connection(worker, &err);
    }
    if (connection->pg != NULL && now_us - worker->probed_us > PROBE_EVERY_US) {
        worker->probed_us = now_us;
        if (probe(connection, &err) != ERR_OK) {
            count_connection(worker, &err);
        }
    }
}

static void *worker_main(void *arg) {
    struct worker *worker = arg;
    struct pg_pool *pool = worker->pool;
    void *item = NULL;

    while (!atomic_load(&pool->stopping)) {
        if (ensure(worker) != ERR_OK) {
            /* What was queued before the loss is refused by run_job, without waiting. */
        }
        const int64_t retry_ms =
            worker->connection.pg != NULL
                ? IDLE_LOOK_MS
                : (worker->connection.retry_at_us - clock_monotonic_us()) / 1000 + 1;
        const int64_t wait_ms = retry_ms < 1              ? 1
                                : retry_ms > IDLE_LOOK_MS ? IDLE_LOOK_MS
                                                          : retry_ms;
        if (queue_pop_many(pool->queue, &item, 1, wait_ms) == 1) {
            metric_set(pool->queued, (int64_t)queue_length(pool->queue));
            run_job(worker, item);
        } else {
            look_after(worker);
        }
    }
    pg_conn_release(&worker->connection);
    return NULL;
}

/* --- life --- */

enum err_code pg_pool_start(const struct pg_pool_options *options, struct pg_pool **out,
                            struct err *err) {
    struct pg_pool *pool = mem_zalloc(sizeof(*pool));

    pool->options = *options;
    pthread_mutex_init(&pool->lock, NULL);
    pool->queue = queue_new(options->queue_max);
    pool->workers = mem_array(options->threads, sizeof(pool->workers[0]));
    pool->seconds =
        metrics_latency(options->metrics, "daybook_query_pg_seconds", options->metrics_labels,
                        "From queueing a PostgreSQL read to its result.");
    pool->queued =
        metrics_gauge(options->metrics, "daybook_query_pg_queue", options->metrics_labels,
                      "PostgreSQL reads that wait for a worker.");
    for (size_t i = 0; i < options->threads; i++) {
        struct worker *worker = &pool->workers[i];
        worker->pool = pool;
        pg_conn_init(&worker->connection, &(struct pg_conn_options){
                                              .url = options->url,
                                              .application_name = "daybook-query-api",
                                              .setup_sql = options->setup_sql,
                                              .statements = options->statements,
                                              .statement_count = options->statement_count,
                                              .connect_timeout_ms = options->connect_timeout_ms,
                                              .statement_timeout_ms = options->statement_timeout_ms,
                                              .log = options->log,
                                          });
        const int failed = pthread_create(&worker->id, NULL, worker_main, worker);
        if (failed != 0) {
            const enum err_code code =
                err_set(err, ERR_INTERNAL, "pthread_create: %s", strerror(failed));
            pg_pool_stop(pool);
            pg_pool_free(pool);
            return code;
        }
        worker->started = true;
    }
    *out = pool;
    return ERR_OK;
}

void pg_pool_stop(struct pg_pool *pool) {
    void *item = NULL;

    atomic_store(&pool->stopping, true);
    queue_close(pool->queue);
    for (size_t i = 0; i < pool->options.threads; i++) {
        if (pool->workers[i].started) {
            (void)pthread_join(pool->workers[i].id, NULL);
            pool->workers[i].started = false;
        }
    }
    while (queue_pop_many(pool->queue, &item, 1, 0) == 1) {
        ((struct pg_job *)item)->free(item);
    }
}

void pg_pool_free(struct pg_pool *pool) {
    if (pool == NULL) {
        return;
    }
    queue_free(pool->queue);
    pthread_mutex_destroy(&pool->lock);
    mem_free(pool->workers);
    mem_free(pool);
}

struct pg_pool_client *pg_pool_client_new(struct pg_pool *pool, struct loop *loop) {
    struct pg_pool_client *client = mem_zalloc(sizeof(*client));

    client->pool = pool;
    client->loop = loop;
    pthread_mutex_init(&client->lock, NULL);
    return client;
}

void pg_pool_client_free(struct pg_pool_client *client) {
    if (client == NULL) {
        return;
    }
    while (client->oldest != NULL) {
        struct pg_job *next = client->oldest->next;
        client->oldest->free(client->oldest);
        client->oldest = next;
    }
    pthread_mutex_destroy(&client->lock);
    mem_free(client);
}
