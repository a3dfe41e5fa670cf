/*
 * daybook-query-api: start order
 *
 *   configuration, signals, log → PostgreSQL readers → HTTP server (bound, not serving)
 *   → for each HTTP thread: Redis view, PostgreSQL view, reader → serving → wait
 *
 * and stop order: waiting requests are hurried, the server drains and its threads end, then the
 * views, then the rest.
 */
#include <stdio.h>
#include <unistd.h>

#include "common/adapters/otlp_curl.h"
#include "common/adapters/view_log_pg.h"
#include "common/adapters/view_pg.h"
#include "common/adapters/view_redis.h"
#include "common/base/mem.h"
#include "common/runtime/stop.h"
#include "query-api/config.h"
#include "query-api/readiness.h"
#include "query-api/routes.h"

/* The largest page of events, and room. */
enum {
    REQUEST_ARENA_BYTES_MAX = 2 * 1024 * 1024,
    LINGER_TURNS = 4, /* Redis answers by the next turn or the one after it */
};

struct process {
    struct query_api_config config;
    struct log *log;
    struct metrics *metrics;
    struct health *health;
    struct stop *stop;
    struct tracer *tracer; /* NULL: no traces */
    struct auth *auth;     /* NULL: anybody may call */
    struct readiness readiness;
    struct pg_pool *pg;
    struct view_log_pg *log_pg;
    struct http_server *server;
    struct routes routes;
    struct queries queries;
    struct view_redis **redis_views; /* one per HTTP thread, as all below */
    struct pg_pool_client **pg_clients;
    struct reader **readers;
    struct view_log_pg_client **log_clients;
    struct log_view *logs;
    struct live **lives;
    size_t thread_count; /* of threads fully fitted out */
};

static enum err_code start_pg(struct process *p, struct err *err) {
    struct pg_pool_options options = {
        .url = p->config.read_database_url,
        .threads = (size_t)p->config.pg_threads,
        .queue_max = (size_t)p->config.pg_queue_max,
        .connect_timeout_ms = p->config.pg_connect_timeout_ms,
        .statement_timeout_ms = p->config.pg_timeout_ms,
        .log = p->log,
        .metrics = p->metrics,
        .listener = readiness_listen(&p->readiness, "postgresql"),
    };
    enum err_code code = view_pg_start(options, &p->pg, err);

    if (code == ERR_OK) {
        options.url = p->config.log_database_url;
        options.threads = (size_t)p->config.log_threads;
        options.listener = readiness_listen_optional(&p->readiness, "event log");
        code = view_log_pg_start(options, &p->log_pg, err);
    }
    return code;
}

static enum err_code bind_server(struct process *p, struct err *err) {
    struct http_server_options options = http_server_defaults();
    const enum err_code code = routes_init(&p->routes, &p->queries, err);

    if (code != ERR_OK) {
        return code;
    }
    options.address = p->config.http_address;
    options.port = (uint16_t)p->config.http_port;
    options.threads = (uint32_t)p->config.http_threads;
    options.connections_max = (uint32_t)p->config.http_connections_max;
    options.linger_turns = LINGER_TURNS;
    options.idle_timeout_s = (uint32_t)p->config.http_idle_timeout_s;
    options.request_arena_bytes_max = REQUEST_ARENA_BYTES_MAX;
    options.routes = p->routes.table;
    options.route_count = p->routes.count;
    options.log = p->log;
    options.metrics = p->metrics;
    options.health = p->health;
    options.auth = p->auth;
    options.tracer = p->tracer;
    return http_server_new(&options, &p->server, err);
}

static enum err_code fit_out_thread(struct process *p, size_t index, struct err *err) {
    struct loop *loop = http_server_loop(p->server, (uint32_t)index);
    char name[48] = "redis";

    if (index > 0) {
        (void)snprintf(name, sizeof(name), "redis (thread %zu)", index);
    }
    const struct view_redis_options options = {
        .url = p->config.redis_url,
        .partitions = (int32_t)p->config.topic_partitions,
        .request_timeout_ms = p->config.redis_timeout_ms,
        .connect_timeout_ms = p->config.redis_connect_timeout_ms,
        .in_flight_max = (size_t)p->config.redis_in_flight_max,
        .loop = loop,
        .log = p->log,
        .metrics = p->metrics,
        .listener = readiness_listen(&p->readiness, name),
    };
    const enum err_code code = view_redis_new(&options, &p->redis_views[index], err);
    if (code != ERR_OK) {
        return code;
    }
    p->pg_clients[index] = pg_pool_client_new(p->pg, loop);
    p->readers[index] = reader_new(&(struct reader_options){
        .loop = loop,
        .keys = view_redis_keys(p->redis_views[index]),
        .rows = view_pg_rows(p->pg_clients[index]),
        .waiters_max = (size_t)p->config.waiters_max,
        .log = p->log,
        .metrics = p->metrics,
    });
    p->log_clients[index] = view_log_pg_client_new(p->log_pg, loop);
    p->logs[index] = view_log_pg_view(p->log_clients[index]);
    p->lives[index] = live_new(&(struct live_options){
        .loop = loop,
        .view = p->logs[index],
        .streams_max = (size_t)p->config.streams_max,
        .log = p->log,
        .metrics = p->metrics,
    });
    p->thread_count++;
    return ERR_OK;
}

static enum err_code start(struct process *p, struct err *err) {
    const size_t threads = (size_t)p->config.http_threads;
    enum err_code code = stop_new(&p->stop, err);

    p->redis_views = mem_array(threads, sizeof(struct view_redis *));
    p->pg_clients = mem_array(threads, sizeof(struct pg_pool_client *));
    p->readers = mem_array(threads, sizeof(struct reader *));
    p->log_clients = mem_array(threads, sizeof(struct view_log_pg_client *));
    p->logs = mem_array(threads, sizeof(struct log_view));
    p->lives = mem_array(threads, sizeof(struct live *));
    p->queries = (struct queries){p->readers, p->logs, p->lives, threads};
    if (code == ERR_OK) {
        code =
            auth_start(&p->config.auth, p->config.http_address, p->log, p->metrics, &p->auth, err);
    }
    if (code == ERR_OK) {
        code = otlp_tracer_start(&p->config.tracing, "daybook-query-api", p->log, p->metrics,
                                 &p->tracer, err);
    }
    if (code == ERR_OK) {
        code = start_pg(p, err);
    }
    if (code == ERR_OK) {
        code = bind_server(p, err);
    }
    for (size_t i = 0; i < threads && code == ERR_OK; i++) {
        code = fit_out_thread(p, i, err);
    }
    return code == ERR_OK ? http_server_start(p->server, err) : code;
}

/* False: a request is still held by somebody, and so are the things it points to. */
static bool drain(struct process *p) {
    for (size_t i = 0; i < p->thread_count; i++) {
        struct loop *loop = http_server_loop(p->server, (uint32_t)i);
        if (!loop_post(loop, reader_drain, p->readers[i]) ||
            !loop_post(loop, live_drain, p->lives[i])) {
            log_warn(p->log, log_event("stop.hurry_failed"));
        }
    }
    const size_t cut_off = http_server_stop(p->server, p->config.drain_ms);
    if (cut_off > 0) {
        log_warn(p->log, log_event("stop.cut_off"), log_i64("requests", (int64_t)cut_off));
    }
    return cut_off == 0;
}

static void release(struct process *p) {
    if (p->pg != NULL) {
        pg_pool_stop(p->pg);
    }
    if (p->log_pg != NULL) {
        view_log_pg_stop(p->log_pg);
    }
    for (size_t i = 0; i < p->thread_count; i++) {
        view_redis_free(p->redis_views[i]);
        pg_pool_client_free(p->pg_clients[i]);
        view_log_pg_client_free(p->log_clients[i]);
        reader_free(p->readers[i]);
    }
    pg_pool_free(p->pg);
    view_log_pg_free(p->log_pg);
    http_server_free(p->server);
    for (size_t i = 0; i < p->thread_count; i++) {
        live_free(p->lives[i]);
    }
    routes_release(&p->routes);
    mem_free(p->redis_views);
    mem_free(p->pg_clients);
    mem_free(p->readers);
    mem_free(p->log_clients);
    mem_free(p->logs);
    mem_free(p->lives);
}

int main(int argc, char **argv) {
    struct process p = {0};
    struct err err = {0};
    int exit_code = 0;
    bool whole = true;

    if (config_main(&query_api_config_spec, argc, argv, &p.config, &exit_code) == CONFIG_EXIT) {
        return exit_code;
    }
    p.log = log_new("query-api", p.config.log_level, STDERR_FILENO);
    p.metrics = metrics_new();
    p.health = health_new("query-api");
    readiness_init(&p.readiness, p.health);
    if (start(&p, &err) == ERR_OK) {
        log_info(p.log, log_event("started"));
        while (!stop_wait_ms(p.stop, INT64_C(3600000))) {
        }
        log_info(p.log, log_event("stopping"));
        whole = drain(&p);
    } else {
        log_error(p.log, log_event("start.failed"), log_err(&err));
        exit_code = 1;
    }
    if (whole) {
        release(&p);
    }
    log_info(p.log, log_event("stopped"));
    if (!whole) {
        return exit_code; /* the kernel frees what cut-off requests still point to */
    }
    tracer_stop(p.tracer);
    auth_stop(p.auth);
    stop_free(p.stop);
    readiness_release(&p.readiness);
    health_free(p.health);
    metrics_free(p.metrics);
    log_free(p.log);
    config_release(&query_api_config_spec, &p.config);
    return exit_code;
}
