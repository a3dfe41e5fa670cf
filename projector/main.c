/*
 * daybook-projector: start order
 *   configuration, signals, log → HTTP server (health, metrics) → per projection: sinks, engine,
 *   consumer, worker → wait for SIGTERM; the workers finish their batch and leave their groups.
 */
#include <stdio.h>
#include <unistd.h>

#include "common/adapters/consumer_kafka.h"
#include "common/adapters/sink_pg.h"
#include "common/adapters/sink_redis.h"
#include "common/http/http_server.h"
#include "projector/config.h"
#include "projector/registry.h"
#include "projector/worker.h"

enum { PROJECTIONS_MAX = 16, NAME_BYTES = 96 };

struct projection_process {
    const struct projection *projection;
    char group[NAME_BYTES];
    struct projection_sink *sinks[ENGINE_SINKS_MAX];
    size_t sink_count;
    struct engine *engine;
    struct event_consumer *consumer;
    struct worker *worker;
};

struct process {
    struct projector_config config;
    struct log *log;
    struct metrics *metrics;
    struct health *health;
    struct stop *stop;
    struct http_server *server;
    struct projection_process projections[PROJECTIONS_MAX];
    size_t count;
};

static struct health_component *component(struct process *p, const char *what, const char *name) {
    char text[NAME_BYTES];

    (void)snprintf(text, sizeof(text), "%s (%s)", what, name);
    return health_component(p->health, text);
}

static unsigned stores_of(const struct projection *projection) {
    unsigned stores = 0;

    for (size_t i = 0; i < projection->table_count; i++) {
        stores |= projection->tables[i]->stores;
    }
    return stores;
}

static enum err_code make_sinks(struct process *p, struct projection_process *pp, struct err *err) {
    const unsigned stores = stores_of(pp->projection);
    const char *name = pp->projection->name;

    /* What readers ask first is written first. */
    if (stores & STORE_REDIS) {
        const enum err_code code = sink_redis_new(
            &(struct sink_redis_options){
                .url = p->config.redis_url,
                .projection = pp->projection,
                .partitions = (int32_t)p->config.topic_partitions,
                .timeout_ms = p->config.connect_timeout_ms,
                .log = p->log,
                .health = component(p, "redis", name),
            },
            &pp->sinks[pp->sink_count], err);
        if (code != ERR_OK) {
            return code;
        }
        pp->sink_count++;
    }
    if (stores & STORE_PG) {
        pp->sinks[pp->sink_count++] = sink_pg_new(&(struct sink_pg_options){
            .url = p->config.read_database_url,
            .projection = pp->projection,
            .connect_timeout_ms = p->config.connect_timeout_ms,
            .statement_timeout_ms = p->config.statement_timeout_ms,
            .log = p->log,
            .health = component(p, "postgresql", name),
        });
    }
    return ERR_OK;
}

static enum err_code start_projection(struct process *p, const struct projection *projection,
                                      struct err *err) {
    struct projection_process *pp = &p->projections[p->count++];
    struct health_component *streams = component(p, "streams", projection->name);

    pp->projection = projection;
    (void)snprintf(pp->group, sizeof(pp->group), "daybook-%s-v%d", projection->name,
                   projection->version);
    const enum err_code code = make_sinks(p, pp, err);
    if (code != ERR_OK) {
        return code;
    }
    health_ok(streams);
    struct engine_options options = {
        .projection = projection,
        .sink_count = pp->sink_count,
        .stop = p->stop,
        .log = p->log,
        .metrics = p->metrics,
        .health = streams,
        .batch_max = (size_t)p->config.batch_events_max,
    };
    for (size_t i = 0; i < pp->sink_count; i++) {
        options.sinks[i] = pp->sinks[i];
    }
    pp->engine = engine_new(&options);
    pp->consumer = consumer_kafka_new(&(struct consumer_kafka_options){
        .brokers = p->config.kafka_brokers,
        .topic = p->config.topic,
        .group = pp->group,
        .partitions = (int32_t)p->config.topic_partitions,
        .session_timeout_ms = p->config.session_timeout_ms,
        .timeout_ms = p->config.connect_timeout_ms,
        .log = p->log,
    });
    return worker_start(
        &(struct worker_options){
            .engine = pp->engine,
            .consumer = pp->consumer,
            .projection = projection,
            .batch_max = (size_t)p->config.batch_events_max,
            .stop = p->stop,
            .log = p->log,
            .metrics = p->metrics,
            .health = component(p, "kafka", projection->name),
        },
        &pp->worker, err);
}

static enum err_code start_projections(struct process *p, struct err *err) {
    struct str left = str_from(p->config.projections);
    enum err_code code = ERR_OK;

    if (str_eq(left, STR("all"))) {
        for (size_t i = 0; i < registry_projection_count && code == ERR_OK; i++) {
            code = start_projection(p, registry_projections[i], err);
        }
        return code;
    }
    while (left.len > 0 && code == ERR_OK) {
        const char *comma = memchr(left.ptr, ',', left.len);
        const size_t len = comma != NULL ? (size_t)(comma - left.ptr) : left.len;
        const struct str name = str_trim(str_of(left.ptr, len));
        const struct projection *projection = registry_find_projection(name);
        if (projection == NULL || p->count == PROJECTIONS_MAX) {
            return err_set(err, ERR_INVALID, "DAYBOOK_PROJECTIONS: there is no projection \"%.*s\"",
                           STR_ARG(name));
        }
        code = start_projection(p, projection, err);
        const size_t skip = comma != NULL ? len + 1 : len;
        left = str_of(left.ptr + skip, left.len - skip);
    }
    return code;
}

static enum err_code start(struct process *p, struct err *err) {
    struct http_server_options options = http_server_defaults();
    enum err_code code = stop_new(&p->stop, err);

    if (code != ERR_OK) {
        return code;
    }
    p->metrics = metrics_new();
    p->health = health_new("projector");
    options.address = p->config.http_address;
    options.port = (uint16_t)p->config.http_port;
    options.connections_max = 256;
    options.log = p->log;
    options.metrics = p->metrics;
    options.health = p->health;
    code = http_server_new(&options, &p->server, err);
    if (code == ERR_OK) {
        code = start_projections(p, err);
    }
    return code == ERR_OK ? http_server_start(p->server, err) : code;
}

static void shut_down(struct process *p) {
    if (p->stop != NULL) {
        stop_request(p->stop);
    }
    for (size_t i = 0; i < p->count; i++) {
        struct projection_process *pp = &p->projections[i];
        if (pp->worker != NULL) {
            worker_join(pp->worker);
        }
        if (pp->consumer != NULL) {
            pp->consumer->ops->free(pp->consumer);
        }
        engine_free(pp->engine);
        for (size_t s = 0; s < pp->sink_count; s++) {
            pp->sinks[s]->ops->free(pp->sinks[s]);
        }
    }
    if (p->server != NULL) {
        (void)http_server_stop(p->server, 1000);
        http_server_free(p->server);
    }
    health_free(p->health);
    metrics_free(p->metrics);
    stop_free(p->stop);
}

int main(int argc, char **argv) {
    struct process p = {0};
    struct err err = {0};
    int exit_code = 0;

    if (config_main(&projector_config_spec, argc, argv, &p.config, &exit_code) == CONFIG_EXIT) {
        return exit_code;
    }
    p.log = log_new("projector", p.config.log_level, STDERR_FILENO);
    if (start(&p, &err) == ERR_OK) {
        log_info(p.log, log_event("started"));
        while (!stop_wait_ms(p.stop, INT64_C(3600000))) {
        }
        log_info(p.log, log_event("stopping"));
    } else {
        log_error(p.log, log_event("start.failed"), log_err(&err));
        exit_code = err.code == ERR_INVALID ? 2 : 1;
    }
    shut_down(&p);
    log_info(p.log, log_event("stopped"));
    log_free(p.log);
    config_release(&projector_config_spec, &p.config);
    return exit_code;
}
