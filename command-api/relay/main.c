/*
 * daybook-relay: start order
 *   configuration, signals, log → HTTP server (health, metrics) → relay on this thread until
 * SIGTERM
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "command-api/relay/config.h"
#include "command-api/relay/relay.h"
#include "command-api/relay/status.h"
#include "command-api/relay/verify.h"
#include "common/adapters/change_feed_pg.h"
#include "common/adapters/event_scan_kafka.h"
#include "common/adapters/event_scan_pg.h"
#include "common/adapters/kafka_topic.h"
#include "common/adapters/otlp_curl.h"
#include "common/adapters/publisher_kafka.h"
#include "common/adapters/relay_status_pg.h"
#include "common/http/http_server.h"

/* Between two readings of the ends that must agree; where followers have to catch up before the
 * broker shows a record, they get time for it. */
enum { SETTLE_MS = 150, REPLICATED_SETTLE_MS = 1000 };

/*
 * Read by jemalloc, where the program is linked with it. For each batch, of however few records,
 * liblz4 wants 192 KiB: kept at hand (2^18) they cost nothing, otherwise each is given back to the
 * kernel and asked for again, page by page.
 */
extern const char *malloc_conf;
const char *malloc_conf = "lg_tcache_max:18";

struct process {
    struct relay_config config;
    struct log *log;
    struct metrics *metrics;
    struct health *health;
    struct stop *stop;
    struct tracer *tracer; /* NULL: no traces */
    struct auth *auth;     /* NULL: anybody may call */
    struct http_server *server;
    struct change_feed *feed;
    struct publisher *publisher;
    struct relay *relay;
};

static enum err_code start_server(struct process *p, struct err *err) {
    struct http_server_options options = http_server_defaults();

    options.address = p->config.http_address;
    options.port = (uint16_t)p->config.http_port;
    options.connections_max = 256;
    options.log = p->log;
    options.metrics = p->metrics;
    options.health = p->health;
    options.auth = p->auth;
    const enum err_code code = http_server_new(&options, &p->server, err);
    return code == ERR_OK ? http_server_start(p->server, err) : code;
}

static enum err_code start(struct process *p, struct err *err) {
    enum err_code code = stop_new(&p->stop, err);

    if (code != ERR_OK) {
        return code;
    }
    p->metrics = metrics_new();
    p->health = health_new("relay");
    code = auth_start(&p->config.auth, p->config.http_address, p->log, p->metrics, &p->auth, err);
    if (code != ERR_OK) {
        return code;
    }
    code =
        otlp_tracer_start(&p->config.tracing, "daybook-relay", p->log, p->metrics, &p->tracer, err);
    if (code != ERR_OK) {
        return code;
    }
    p->feed = change_feed_pg_new(&(struct change_feed_pg_options){
        .url = p->config.write_database_url,
        .slot = p->config.slot,
        .publication = p->config.publication,
        .connect_timeout_ms = p->config.connect_timeout_ms,
        .log = p->log,
        .metrics = p->metrics,
    });
    p->publisher = publisher_kafka_new(&(struct publisher_kafka_options){
        .brokers = p->config.kafka_brokers,
        .security = &p->config.kafka,
        .topic = p->config.topic,
        .partitions = (int32_t)p->config.topic_partitions,
        .replication = (int32_t)p->config.topic_replication,
        .in_flight_max = (int32_t)p->config.in_flight_max,
        .timeout_ms = p->config.connect_timeout_ms,
        .fence_ms = p->config.fence_ms,
        .log = p->log,
    });
    p->relay = relay_new(&(struct relay_options){
        .feed = p->feed,
        .publisher = p->publisher,
        .partitions = (int32_t)p->config.topic_partitions,
        .standby_retry_ms = p->config.standby_retry_ms,
        .retry_first_ms = 100,
        .retry_cap_ms = 5000,
        .drain_ms = p->config.drain_ms,
        .fence_ms = p->config.fence_ms,
        .settle_ms = p->config.topic_replication > 1 ? REPLICATED_SETTLE_MS : SETTLE_MS,
        .refer_too_large = strcmp(p->config.too_large, "reference") == 0,
        .stop = p->stop,
        .log = p->log,
        .metrics = p->metrics,
        .tracer = p->tracer,
        .topic = p->config.topic,
        .feed_health = health_component(p->health, "postgresql"),
        .publisher_health = health_component(p->health, "kafka"),
    });
    return start_server(p, err);
}

static void shut_down(struct process *p) {
    if (p->server != NULL) {
        (void)http_server_stop(p->server, 1000);
        http_server_free(p->server);
    }
    relay_free(p->relay);
    if (p->feed != NULL) {
        p->feed->ops->free(p->feed);
        p->publisher->ops->free(p->publisher);
    }
    tracer_stop(p->tracer);
    auth_stop(p->auth);
    health_free(p->health);
    metrics_free(p->metrics);
    stop_free(p->stop);
}

/* --- commands --- */

static int complain(const char *command, const struct err *err) {
    (void)fprintf(stderr, "daybook-relay %s: %s\n", command, err->message);
    return 1;
}

static int run_status(const struct relay_config *config) {
    static struct relay_status status;
    struct publish_mark tails[PUBLISHER_PARTITIONS_MAX];
    const struct kafka_topic topic = {.brokers = config->kafka_brokers,
                                      .security = &config->kafka,
                                      .name = config->topic,
                                      .partitions = (int32_t)config->topic_partitions,
                                      .timeout_ms = config->connect_timeout_ms};
    struct err err = {0};

    status.partitions = topic.partitions;
    enum err_code code = kafka_topic_look(&topic, tails, (size_t)topic.partitions, &err);
    status.topic_found = code == ERR_OK;
    if (code != ERR_OK && code != ERR_NOT_FOUND) {
        return complain("status", &err);
    }
    for (int32_t p = 0; status.topic_found && p < topic.partitions; p++) {
        status.of[p].tail = tails[p];
    }
    code = relay_status_pg_read(config->write_database_url, config->connect_timeout_ms,
                                config->slot, &status, &err);
    if (code != ERR_OK) {
        return complain("status", &err);
    }
    return relay_status_print(&status, config->slot, config->topic, stdout) ? 0 : 1;
}

static int run_verify(const struct relay_config *config) {
    struct event_scan *table = NULL;
    struct event_scan *topic = NULL;
    struct verify_result result = {0};
    struct err err = {0};
    enum err_code code =
        event_scan_pg_open(config->write_database_url, config->connect_timeout_ms, &table, &err);

    if (code == ERR_OK) {
        code = event_scan_kafka_open(
            &(struct event_scan_kafka_options){.brokers = config->kafka_brokers,
                                               .security = &config->kafka,
                                               .topic = config->topic,
                                               .partitions = (int32_t)config->topic_partitions,
                                               .timeout_ms = config->connect_timeout_ms},
            &topic, &err);
    }
    if (code == ERR_OK) {
        code = verify_run(&(struct verify_options){.table = table,
                                                   .topic = topic,
                                                   .partitions = (int32_t)config->topic_partitions,
                                                   .settle_ms = 5000,
                                                   .differences_shown = 20,
                                                   .out = stdout,
                                                   .progress = stderr},
                          &result, &err);
    }
    if (topic != NULL) {
        topic->ops->free(topic);
    }
    if (table != NULL) {
        table->ops->free(table);
    }
    if (code != ERR_OK) {
        return complain("verify", &err);
    }
    (void)printf("%" PRIu64 " events of %" PRIu64 " streams in the table, %" PRIu64
                 " records in the topic, %" PRIu64 " repeated after a lost place, %" PRIu64
                 " differences\n",
                 result.table_events, result.streams, result.topic_records, result.repeats,
                 result.differences);
    return result.differences == 0 ? 0 : 3;
}

int main(int argc, char **argv) {
    struct process p = {0};
    struct err err = {0};
    int exit_code = 0;

    if (config_main(&relay_config_spec, argc, argv, &p.config, &exit_code) == CONFIG_EXIT) {
        return exit_code;
    }
    if (argc > 1) {
        exit_code = strcmp(argv[1], "status") == 0 ? run_status(&p.config) : run_verify(&p.config);
        config_release(&relay_config_spec, &p.config);
        return exit_code;
    }
    p.log = log_new("relay", p.config.log_level, STDERR_FILENO);
    if (start(&p, &err) == ERR_OK) {
        log_info(p.log, log_event("started"));
        relay_run(p.relay);
        log_info(p.log, log_event("stopping"));
    } else {
        log_error(p.log, log_event("start.failed"), log_err(&err));
        exit_code = 1;
    }
    shut_down(&p);
    log_info(p.log, log_event("stopped"));
    log_free(p.log);
    config_release(&relay_config_spec, &p.config);
    return exit_code;
}
