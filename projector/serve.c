/*
 * Start order
 *   signals → HTTP server (health, metrics) → the hub that reads for all lanes → per projection:
 *   sinks, taps, member, worker with its lanes → wait for SIGTERM; the lanes finish their batches,
 *   the members leave their groups, the hub goes last.
 */
#include "projector/serve.h"

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/http/http_server.h"
#include "projector/prepare.h"
#include "projector/reader_hub.h"
#include "projector/registry.h"
#include "projector/worker.h"

enum { PROJECTIONS_MAX = 16, NAME_BYTES = 96 };

struct projection_process {
    const struct projection *projection;
    char group[NAME_BYTES];
    struct projection_sink *sinks[WORKER_LANES_MAX];
    struct event_reader *readers[WORKER_LANES_MAX];
    struct model_scan *refill_from;
    size_t sink_count;
    struct group_member *member;
    struct worker *worker;
    struct prepare_options prepare;
};

struct process {
    const struct world *world;
    struct metrics *metrics;
    struct health *health;
    struct stop *stop;
    struct tracer *tracer; /* NULL: no traces */
    struct auth *auth;     /* NULL: anybody may call */
    struct http_server *server;
    struct reader_hub *hub;
    struct projection_process projections[PROJECTIONS_MAX];
    size_t count;
};

static struct health_component *component(struct process *p, const char *what, const char *name) {
    char text[NAME_BYTES];

    (void)snprintf(text, sizeof(text), "%s (%s)", what, name);
    return health_component(p->health, text);
}

static enum err_code make_sinks(struct process *p, struct projection_process *pp, struct err *err) {
    static const unsigned stores[] = {STORE_REDIS, STORE_PG};
    static const char *const names[] = {"redis", "postgresql"};
    const unsigned used = projection_stores(pp->projection);
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < ARRAY_LEN(stores); i++) {
        if (!(used & stores[i])) {
            continue;
        }
        code = p->world->sink(p->world, pp->projection, stores[i], SINK_LIVE,
                              component(p, names[i], pp->projection->name),
                              &pp->sinks[pp->sink_count], err);
        if (code == ERR_OK) {
            pp->readers[pp->sink_count++] = reader_hub_tap(p->hub);
        }
    }
    if (code == ERR_OK && used == (STORE_PG | STORE_REDIS)) {
        code = p->world->scan(p->world, pp->projection, STORE_PG, &pp->refill_from, err);
    }
    return code;
}

static struct event_reader *make_reader(void *arg) {
    const struct process *p = arg;

    return p->world->reader(p->world, READ_ON);
}

static enum err_code prepare(void *arg, struct err *err) {
    return prepare_projection(arg, err);
}

static enum err_code start_projection(struct process *p, const struct projection *projection,
                                      struct err *err) {
    struct projection_process *pp = &p->projections[p->count++];
    const struct projector_config *config = p->world->config;
    struct worker_options options = {
        .projection = projection,
        .partitions = (int32_t)config->topic_partitions,
        .stop = p->stop,
        .log = p->world->log,
        .health = component(p, "kafka", projection->name),
    };

    pp->projection = projection;
    (void)snprintf(pp->group, sizeof(pp->group), "daybook-%s-v%d", projection->name,
                   projection->version);
    const enum err_code code = make_sinks(p, pp, err);
    if (code != ERR_OK) {
        return code;
    }
    pp->prepare = (struct prepare_options){.world = p->world,
                                           .projection = projection,
                                           .metrics = p->metrics,
                                           .health = options.health};
    options.prepare = prepare;
    options.prepare_arg = &pp->prepare;
    pp->member = p->world->member(p->world, pp->group);
    options.member = pp->member;
    for (size_t i = 0; i < pp->sink_count; i++) {
        options.lanes[i] = (struct lane_options){
            .projection = projection,
            .sink = pp->sinks[i],
            .reader = pp->readers[i],
            .refill_from = pp->sinks[i]->store == STORE_REDIS ? pp->refill_from : NULL,
            .partitions = options.partitions,
            .batch_max = (size_t)config->batch_events_max,
            .pace_ms = (projection->awaited & pp->sinks[i]->store) != 0 ? 0 : config->pace_ms,
            .stall_ms = config->stall_ms,
            .stop = p->stop,
            .log = p->world->log,
            .metrics = p->metrics,
            .health = p->health,
            .tracer = p->tracer,
        };
    }
    options.lane_count = pp->sink_count;
    return worker_start(&options, &pp->worker, err);
}

enum err_code choose_projections(struct str names, const struct projection **out, size_t max,
                                 size_t *count, struct err *err) {
    const bool all = str_eq(names, STR("all"));

    *count = 0;
    for (size_t i = 0; all && i < registry_projection_count && i < max; i++) {
        out[(*count)++] = registry_projections[i];
    }
    while (!all && names.len > 0) {
        const char *comma = memchr(names.ptr, ',', names.len);
        const size_t len = comma != NULL ? (size_t)(comma - names.ptr) : names.len;
        const struct str name = str_trim(str_of(names.ptr, len));
        const struct projection *projection = registry_find_projection(name);
        if (projection == NULL || *count == max) {
            return err_set(err, ERR_INVALID, "there is no projection \"%.*s\"", STR_ARG(name));
        }
        out[(*count)++] = projection;
        const size_t skip = comma != NULL ? len + 1 : len;
        names = str_of(names.ptr + skip, names.len - skip);
    }
    return ERR_OK;
}

static enum err_code start(struct process *p, struct err *err) {
    const struct projector_config *config = p->world->config;
    const struct projection *chosen[PROJECTIONS_MAX];
    struct http_server_options options = http_server_defaults();
    size_t count = 0;
    enum err_code code = stop_new(&p->stop, err);

    if (code != ERR_OK) {
        return code;
    }
    p->metrics = metrics_new();
    p->health = health_new("projector");
    code =
        auth_start(&config->auth, config->http_address, p->world->log, p->metrics, &p->auth, err);
    if (code != ERR_OK) {
        return code;
    }
    code = p->world->tracer(p->world, p->metrics, &p->tracer, err);
    if (code != ERR_OK) {
        return code;
    }
    options.address = config->http_address;
    options.port = (uint16_t)config->http_port;
    options.connections_max = 256;
    options.log = p->world->log;
    options.metrics = p->metrics;
    options.health = p->health;
    options.auth = p->auth;
    code = http_server_new(&options, &p->server, err);
    if (code == ERR_OK) {
        code =
            choose_projections(str_from(config->projections), chosen, PROJECTIONS_MAX, &count, err);
    }
    if (code == ERR_OK) {
        code = reader_hub_start(
            &(struct reader_hub_options){.make = make_reader,
                                         .make_arg = p,
                                         .partitions = (int32_t)config->topic_partitions,
                                         .log = p->world->log},
            &p->hub, err);
    }
    for (size_t i = 0; i < count && code == ERR_OK; i++) {
        code = start_projection(p, chosen[i], err);
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
        if (pp->member != NULL) {
            pp->member->ops->free(pp->member);
        }
        for (size_t s = 0; s < pp->sink_count; s++) {
            pp->readers[s]->ops->free(pp->readers[s]);
            pp->sinks[s]->ops->free(pp->sinks[s]);
        }
        if (pp->refill_from != NULL) {
            pp->refill_from->ops->free(pp->refill_from);
        }
    }
    reader_hub_free(p->hub);
    if (p->server != NULL) {
        (void)http_server_stop(p->server, 1000);
        http_server_free(p->server);
    }
    tracer_stop(p->tracer);
    auth_stop(p->auth);
    health_free(p->health);
    metrics_free(p->metrics);
    stop_free(p->stop);
}

int serve(const struct world *world) {
    struct process *p = mem_zalloc(sizeof(*p));
    struct err err = {0};
    int exit_code = 0;

    p->world = world;
    if (start(p, &err) == ERR_OK) {
        log_info(world->log, log_event("started"));
        while (!stop_wait_ms(p->stop, INT64_C(3600000))) {
        }
        log_info(world->log, log_event("stopping"));
    } else {
        log_error(world->log, log_event("start.failed"), log_err(&err));
        exit_code = err.code == ERR_INVALID ? 2 : 1;
    }
    shut_down(p);
    log_info(world->log, log_event("stopped"));
    mem_free(p);
    return exit_code;
}
