/* daybook-projector: arguments, configuration, and the adapters that everything else asks through
 * struct world. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/adapters/builder_pg.h"
#include "common/adapters/builder_redis.h"
#include "common/adapters/member_kafka.h"
#include "common/adapters/otlp_curl.h"
#include "common/adapters/reader_kafka.h"
#include "common/adapters/scan_pg.h"
#include "common/adapters/scan_redis.h"
#include "common/adapters/sink_pg.h"
#include "common/adapters/sink_redis.h"
#include "projector/commands.h"
#include "projector/serve.h"

static enum err_code make_sink(const struct world *world, const struct projection *projection,
                               unsigned store, enum sink_stage stage,
                               struct health_component *health, struct projection_sink **out,
                               struct err *err) {
    const struct projector_config *config = world->config;

    if (store == STORE_REDIS) {
        return sink_redis_new(
            &(struct sink_redis_options){
                .url = config->redis_url,
                .projection = projection,
                .stage = stage,
                .partitions = (int32_t)config->topic_partitions,
                .timeout_ms = config->connect_timeout_ms,
                .log = world->log,
                .health = health,
            },
            out, err);
    }
    *out = sink_pg_new(&(struct sink_pg_options){
        .url = config->read_database_url,
        .projection = projection,
        .stage = stage,
        .connect_timeout_ms = config->connect_timeout_ms,
        .statement_timeout_ms = config->statement_timeout_ms,
        .log = world->log,
        .health = health,
    });
    return ERR_OK;
}

static enum err_code make_scan(const struct world *world, const struct projection *projection,
                               unsigned store, struct model_scan **out, struct err *err) {
    const struct projector_config *config = world->config;

    if (store == STORE_REDIS) {
        return scan_redis_new(
            &(struct scan_redis_options){
                .url = config->redis_url,
                .projection = projection,
                .partitions = (int32_t)config->topic_partitions,
                .timeout_ms = config->connect_timeout_ms,
                .log = world->log,
            },
            out, err);
    }
    *out = scan_pg_new(&(struct scan_pg_options){
        .url = config->read_database_url,
        .projection = projection,
        .partitions = (int32_t)config->topic_partitions,
        .connect_timeout_ms = config->connect_timeout_ms,
        .statement_timeout_ms = config->statement_timeout_ms,
        .log = world->log,
    });
    return ERR_OK;
}

static enum err_code make_builder(const struct world *world, const struct projection *projection,
                                  unsigned store, struct model_builder **out, struct err *err) {
    const struct projector_config *config = world->config;

    if (store == STORE_REDIS) {
        return builder_redis_new(
            &(struct builder_redis_options){
                .url = config->redis_url,
                .projection = projection,
                .partitions = (int32_t)config->topic_partitions,
                .timeout_ms = config->connect_timeout_ms,
                .log = world->log,
            },
            out, err);
    }
    *out = builder_pg_new(&(struct builder_pg_options){
        .url = config->read_database_url,
        .projection = projection,
        .connect_timeout_ms = config->connect_timeout_ms,
        .statement_timeout_ms = config->statement_timeout_ms,
        .log = world->log,
    });
    return ERR_OK;
}

/* What is fetched ahead takes about a kilobyte an event, of each reader that is at work. */
static int64_t ahead_of(enum reading how, int64_t partitions) {
    enum { AHEAD = 24000, AHEAD_TOGETHER = 32000, AHEAD_IN_TURN = 8000, AHEAD_MIN = 250 };
    const int64_t ahead = how == READ_IN_TURN    ? AHEAD_IN_TURN
                          : how == READ_TOGETHER ? AHEAD_TOGETHER / partitions
                                                 : AHEAD / partitions;

    return ahead > AHEAD_MIN ? ahead : AHEAD_MIN;
}

/* A request costs the broker about as much as half a megabyte that it sends. Who reads all
 * partitions at once has so much of each under way. */
static int64_t fetch_of(enum reading how) {
    enum { MIB = 1024 * 1024 };

    return how == READ_IN_TURN ? 4 * MIB : how == READ_TOGETHER ? MIB : MIB / 4;
}

static struct event_reader *make_reader(const struct world *world, enum reading how) {
    return reader_kafka_new(&(struct reader_kafka_options){
        .brokers = world->config->kafka_brokers,
        .security = &world->config->kafka,
        .topic = world->config->topic,
        .partitions = (int32_t)world->config->topic_partitions,
        .timeout_ms = world->config->connect_timeout_ms,
        .ahead_events = ahead_of(how, world->config->topic_partitions),
        .fetch_bytes = fetch_of(how),
        .bulk = how != READ_ON,
        .log = world->log,
    });
}

static struct group_member *make_member(const struct world *world, const char *group) {
    return member_kafka_new(&(struct member_kafka_options){
        .brokers = world->config->kafka_brokers,
        .security = &world->config->kafka,
        .topic = world->config->topic,
        .group = group,
        .session_timeout_ms = world->config->session_timeout_ms,
        .log = world->log,
    });
}

static enum err_code make_tracer(const struct world *world, struct metrics *metrics,
                                 struct tracer **out, struct err *err) {
    return otlp_tracer_start(&world->config->tracing, "daybook-projector", world->log, metrics, out,
                             err);
}

struct arguments {
    const char *projections;
    const char *words[COMMAND_WORDS_MAX];
    size_t word_count;
};

/* Takes our own arguments out; what is left is for config_main. */
static int take_arguments(int argc, char **argv, struct arguments *out) {
    static const char option[] = "--projections=";
    int left = 1;

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], option, sizeof(option) - 1) == 0) {
            out->projections = argv[i] + sizeof(option) - 1;
        } else if (argv[i][0] != '-' && out->word_count < COMMAND_WORDS_MAX) {
            out->words[out->word_count++] = argv[i];
        } else {
            argv[left++] = argv[i];
        }
    }
    argv[left] = NULL;
    return left;
}

int main(int argc, char **argv) {
    struct projector_config config = {0};
    struct arguments arguments = {0};
    int exit_code = 0;

    argc = take_arguments(argc, argv, &arguments);
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        command_print_help();
    }
    if (config_main(&projector_config_spec, argc, argv, &config, &exit_code) == CONFIG_EXIT) {
        return exit_code;
    }
    const char *const configured = config.projections;
    if (arguments.projections != NULL) {
        config.projections = arguments.projections;
    }
    const bool command = arguments.word_count > 0;
    const struct world world = {
        .config = &config,
        .log = log_new("projector",
                       command && config.log_level == LOG_LEVEL_INFO ? LOG_LEVEL_WARN
                                                                     : config.log_level,
                       STDERR_FILENO),
        .sink = make_sink,
        .scan = make_scan,
        .builder = make_builder,
        .reader = make_reader,
        .member = make_member,
        .tracer = make_tracer,
    };
    exit_code =
        command ? command_run(&world, arguments.words, arguments.word_count) : serve(&world);
    log_free(world.log);
    config.projections = configured;
    config_release(&projector_config_spec, &config);
    return exit_code;
}
