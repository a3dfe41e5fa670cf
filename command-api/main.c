/*
 * daybook-command-api: start order
 *   configuration, signals, log → auth, tracer → event stores (not connected yet) → snapshot writer
 * → shards → HTTP server → wait and stop order: the server drains, the shards finish, the last
 * snapshots are written, the stores close, the last spans are sent.
 */
#include <stdio.h>
#include <unistd.h>

#include "command-api/api.h"
#include "command-api/config.h"
#include "common/adapters/event_store_pg.h"
#include "common/adapters/otlp_curl.h"
#include "common/base/mem.h"
#include "common/runtime/stop.h"

/* How often a command that waits for its commit is looked at before its connection is suspended:
 * most are answered before. It saves a tenth of this process's time. */
enum { LINGER_TURNS = 8 };

struct process {
    struct command_api_config config;
    struct log *log;
    struct metrics *metrics;
    struct health *health;
    struct stop *stop;
    struct tracer *tracer; /* NULL: no traces */
    struct auth *auth;     /* NULL: anybody may call */
    struct api *api;
    struct event_store **stores;
    struct shard **shards;
    size_t shard_count; /* started */
    struct event_store *snapshot_store;
    struct snapshot_writer *snapshots;
    struct http_server *server;
};

static struct event_store *make_store(struct process *p, struct health_component *health) {
    const struct event_store_pg_options options = {
        .url = p->config.write_database_url,
        .connect_timeout_ms = p->config.connect_timeout_ms,
        .statement_timeout_ms = p->config.statement_timeout_ms,
        .log = p->log,
        .health = health,
    };
    return event_store_pg_new(&options);
}

/* Its store has no part in /ready: without snapshots all works, a little slower after a start. */
static enum err_code start_snapshots(struct process *p, struct err *err) {
    if (p->config.snapshot_every == 0) {
        return ERR_OK;
    }
    p->snapshot_store = make_store(p, NULL);
    const struct snapshot_writer_options options = {p->snapshot_store, p->log, p->metrics};
    return snapshot_writer_start(&options, &p->snapshots, err);
}

static enum err_code start_shards(struct process *p, struct err *err) {
    const size_t count = command_api_shards(&p->config);
    char name[48];

    p->stores = mem_array(count, sizeof(p->stores[0]));
    p->shards = mem_array(count, sizeof(p->shards[0]));
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(name, sizeof(name), "postgresql (shard %zu)", i);
        p->stores[i] = make_store(p, health_component(p->health, name));
        const struct shard_options options = {
            .store = p->stores[i],
            .queue_max = (size_t)p->config.shard_queue_max,
            .batch_max = (size_t)p->config.shard_batch_max,
            .streams_max = (size_t)p->config.shard_streams_max,
            .outcome_wait_ms = p->config.outcome_wait_ms,
            .snapshots = p->snapshots,
            .snapshot_every = p->config.snapshot_every,
            .log = p->log,
            .metrics = p->metrics,
            .tracer = p->tracer,
        };
        const enum err_code code = shard_start(&options, &p->shards[i], err);
        if (code != ERR_OK) {
            p->stores[i]->ops->free(p->stores[i]);
            return code;
        }
        p->shard_count++;
    }
    api_set_shards(p->api, p->shards);
    return ERR_OK;
}

static enum err_code start_server(struct process *p, struct err *err) {
    struct http_server_options options = http_server_defaults();

    options.address = p->config.http_address;
    options.port = (uint16_t)p->config.http_port;
    options.threads = (uint32_t)p->config.http_threads;
    options.connections_max = (uint32_t)p->config.http_connections_max;
    options.linger_turns = LINGER_TURNS;
    options.body_bytes_max = (size_t)p->config.http_body_bytes_max;
    options.idle_timeout_s = (uint32_t)p->config.http_idle_timeout_s;
    options.routes = api_routes(p->api, &options.route_count);
    options.log = p->log;
    options.metrics = p->metrics;
    options.health = p->health;
    options.auth = p->auth;
    options.tracer = p->tracer;
    const enum err_code code = http_server_new(&options, &p->server, err);
    if (code != ERR_OK) {
        return code;
    }
    api_attach(p->api, p->server, options.threads);
    return http_server_start(p->server, err);
}

static enum err_code start(struct process *p, struct err *err) {
    enum err_code code = stop_new(&p->stop, err);

    if (code != ERR_OK) {
        return code;
    }
    p->metrics = metrics_new();
    p->health = health_new("command-api");
    p->api = api_new(&(struct api_options){p->metrics, p->log, command_api_shards(&p->config)});
    code = auth_start(&p->config.auth, p->config.http_address, p->log, p->metrics, &p->auth, err);
    if (code != ERR_OK) {
        return code;
    }
    code = otlp_tracer_start(&p->config.tracing, "daybook-command-api", p->log, p->metrics,
                             &p->tracer, err);
    code = code == ERR_OK ? start_snapshots(p, err) : code;
    code = code == ERR_OK ? start_shards(p, err) : code;
    return code == ERR_OK ? start_server(p, err) : code;
}

static void shut_down(struct process *p) {
    if (p->server != NULL) {
        const size_t cut_off = http_server_stop(p->server, p->config.drain_ms);
        if (cut_off > 0) {
            log_warn(p->log, log_event("stop.cut_off"), log_i64("requests", (int64_t)cut_off));
        }
    }
    for (size_t i = 0; i < p->shard_count; i++) {
        shard_stop(p->shards[i]);
        shard_free(p->shards[i]);
        p->stores[i]->ops->free(p->stores[i]);
    }
    snapshot_writer_stop(p->snapshots);
    if (p->snapshot_store != NULL) {
        p->snapshot_store->ops->free(p->snapshot_store);
    }
    tracer_stop(p->tracer);
    auth_stop(p->auth);
    http_server_free(p->server);
    mem_free(p->shards);
    mem_free(p->stores);
    api_free(p->api);
    health_free(p->health);
    metrics_free(p->metrics);
    stop_free(p->stop);
}

int main(int argc, char **argv) {
    struct process p = {0};
    struct err err = {0};
    int exit_code = 0;

    if (config_main(&command_api_config_spec, argc, argv, &p.config, &exit_code) == CONFIG_EXIT) {
        return exit_code;
    }
    p.log = log_new("command-api", p.config.log_level, STDERR_FILENO);
    if (start(&p, &err) == ERR_OK) {
        log_info(p.log, log_event("started"));
        while (!stop_wait_ms(p.stop, INT64_C(3600000))) {
        }
        log_info(p.log, log_event("stopping"));
    } else {
        log_error(p.log, log_event("start.failed"), log_err(&err));
        exit_code = 1;
    }
    shut_down(&p);
    log_info(p.log, log_event("stopped"));
    log_free(p.log);
    config_release(&command_api_config_spec, &p.config);
    return exit_code;
}
