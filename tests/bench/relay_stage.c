#include "tests/bench/relay_stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/bench/bench_process.h"

_Noreturn void stage_give_up(const char *what, const char *why) {
    (void)fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

void stage_pause_us(int64_t us) {
    const struct timespec pause = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};

    (void)nanosleep(&pause, NULL);
}

PGconn *stage_connect(const struct stage *stage) {
    PGconn *pg = PQconnectdb(stage->url);

    if (PQstatus(pg) != CONNECTION_OK) {
        stage_give_up("PostgreSQL", PQerrorMessage(pg));
    }
    return pg;
}

const char *stage_sql(PGconn *pg, const char *text) {
    static char value[128];
    PGresult *result = PQexec(pg, text);
    const ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        stage_give_up("PostgreSQL", PQerrorMessage(pg));
    }
    (void)snprintf(value, sizeof(value), "%s",
                   PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return value;
}

rd_kafka_t *stage_kafka(const struct stage *stage, rd_kafka_type_t type) {
    char text[256];
    const char *const settings[][2] = {
        {"bootstrap.servers", stage->brokers},
        {"socket.nagle.disable", "true"},
        {type == RD_KAFKA_CONSUMER ? "group.id" : "acks",
         type == RD_KAFKA_CONSUMER ? "bench" : "all"},
        {type == RD_KAFKA_CONSUMER ? "fetch.wait.max.ms" : "linger.ms",
         type == RD_KAFKA_CONSUMER ? "500" : "0"},
        {type == RD_KAFKA_CONSUMER ? "enable.auto.commit" : "enable.idempotence",
         type == RD_KAFKA_CONSUMER ? "false" : "true"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
        if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], text, sizeof(text)) !=
            RD_KAFKA_CONF_OK) {
            stage_give_up("Kafka", text);
        }
    }
    rd_kafka_t *kafka = rd_kafka_new(type, conf, text, sizeof(text));
    if (kafka == NULL) {
        stage_give_up("Kafka", text);
    }
    return kafka;
}

/* All records of the topic, also while it does not exist yet. */
int64_t stage_records(const struct stage *stage, const char *topic) {
    int64_t sum = 0;

    for (int32_t p = 0; p < STAGE_PARTITIONS; p++) {
        int64_t low = 0;
        int64_t high = 0;
        if (rd_kafka_query_watermark_offsets(stage->admin, topic, p, &low, &high, 1000) ==
            RD_KAFKA_RESP_ERR_NO_ERROR) {
            sum += high;
        }
    }
    return sum;
}

/* What an earlier relay with this slot has noted would not fit the topic, and a slot of which
 * nothing is noted is not trusted. */
static void trust_slot(const struct stage *stage, const char *slot) {
    char text[512];

    (void)snprintf(text, sizeof(text), "DELETE FROM daybook.relay_state WHERE slot = '%s'", slot);
    (void)stage_sql(stage->pg, text);
    (void)snprintf(text, sizeof(text),
                   "INSERT INTO daybook.relay_state (slot, system, holder, released, confirmed)"
                   " SELECT slot_name, system_identifier, 'bench', true, confirmed_flush_lsn"
                   " FROM pg_control_system(), pg_replication_slots WHERE slot_name = '%s'",
                   slot);
    (void)stage_sql(stage->pg, text);
}

void stage_start_relay(struct stage *stage, const char *slot, const char *topic) {
    char texts[6][512];
    const char *variables[8] = {NULL};
    char program[512];
    const char *const argv[] = {program, NULL};

    trust_slot(stage, slot);
    (void)snprintf(program, sizeof(program), "%s/daybook-relay", bench_env("DAYBOOK_BIN_DIR"));
    (void)snprintf(texts[0], sizeof(texts[0]), "DAYBOOK_HTTP_PORT=%u", stage->port);
    (void)snprintf(texts[1], sizeof(texts[1]), "DAYBOOK_WRITE_DATABASE_URL=%s",
                   bench_env("DAYBOOK_TEST_RELAY_URL"));
    (void)snprintf(texts[2], sizeof(texts[2]), "DAYBOOK_KAFKA_BROKERS=%s", stage->brokers);
    (void)snprintf(texts[3], sizeof(texts[3]), "DAYBOOK_SLOT=%s", slot);
    (void)snprintf(texts[4], sizeof(texts[4]), "DAYBOOK_TOPIC=%s", topic);
    (void)snprintf(texts[5], sizeof(texts[5]), "DAYBOOK_LOG_LEVEL=warn");
    for (int i = 0; i < 6; i++) {
        variables[i] = texts[i];
    }
    stage->relay = bench_start(argv, variables, "build/bench/relay.log");
    if (stage->relay == 0 || !bench_wait_ready(stage->port, 30000)) {
        stage_give_up("daybook-relay", "not ready, see build/bench/relay.log");
    }
}

bool stage_slot_exists(const struct stage *stage, const char *slot) {
    char text[256];

    (void)snprintf(text, sizeof(text),
                   "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '%s'", slot);
    return strcmp(stage_sql(stage->pg, text), "0") != 0;
}

void stage_stop_relay(struct stage *stage, const char *slot) {
    char text[256];

    bench_stop(stage->relay);
    stage->relay = 0;
    (void)snprintf(text, sizeof(text),
                   "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                   " WHERE slot_name = '%s' AND NOT active",
                   slot);
    /* PostgreSQL needs a moment to see that the connection has ended. */
    while (stage_sql(stage->pg, text)[0] == '\0' && stage_slot_exists(stage, slot)) {
        stage_pause_us(10000);
    }
}
