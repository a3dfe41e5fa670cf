/*
 * The relay beside what bounds it and what it replaces, on one PostgreSQL and one broker:
 *
 *   a  pg_recvlogical with pgoutput to /dev/null, draining a backlog
 *   b  the relay draining the same backlog into Kafka, acknowledged
 *   c  from a commit's acknowledgement to a waiting consumer, through the relay, at 1,000 and at
 *      10,000 events a second
 *   d  the same through a poller that looks every 100 ms
 *   e  one-row transactions of pgbench into the log, without and with the relay attached
 *
 * a and b in turns, several rounds, each on a copy of the same slot; medians count. BENCH_ROUNDS
 * (3), BENCH_EVENTS (1,000,000), BENCH_SECONDS (8) of each latency and of e.
 */
#include <inttypes.h>
#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/bench/bench_process.h"
#include "tests/bench/bench_report.h"
#include "tests/bench/histogram.h"

enum {
    PARTITIONS = 6,
    EVENTS_PER_TRANSACTION = 100,
    TRANSACTIONS_PER_S = 1000,
    POLL_EVERY_MS = 100,
    LINE_BYTES = 2048,
    LIMIT_S = 120,
};

struct bench {
    struct bench_report report;
    uint16_t port;
    const char *url; /* superuser's */
    const char *brokers;
    PGconn *pg;
    rd_kafka_t *admin;
    pid_t relay;
    long events;
    double seconds;
    int runs;
};

_Noreturn static void give_up(const char *what, const char *why) {
    (void)fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

static void pause_us(int64_t us) {
    const struct timespec pause = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};

    (void)nanosleep(&pause, NULL);
}

/* --- servers --- */

static PGconn *connect_pg(const struct bench *bench) {
    PGconn *pg = PQconnectdb(bench->url);

    if (PQstatus(pg) != CONNECTION_OK) {
        give_up("PostgreSQL", PQerrorMessage(pg));
    }
    return pg;
}

static const char *sql(PGconn *pg, const char *text) {
    static char value[128];
    PGresult *result = PQexec(pg, text);
    const ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        give_up("PostgreSQL", PQerrorMessage(pg));
    }
    (void)snprintf(value, sizeof(value), "%s",
                   PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return value;
}

static rd_kafka_t *make_client(const struct bench *bench, rd_kafka_type_t type) {
    char text[256];
    const char *const settings[][2] = {
        {"bootstrap.servers", bench->brokers},
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
            give_up("Kafka", text);
        }
    }
    rd_kafka_t *kafka = rd_kafka_new(type, conf, text, sizeof(text));
    if (kafka == NULL) {
        give_up("Kafka", text);
    }
    return kafka;
}

/* All records of the topic, also while it does not exist yet. */
static int64_t count_records(const struct bench *bench, const char *topic) {
    int64_t sum = 0;

    for (int32_t p = 0; p < PARTITIONS; p++) {
        int64_t low = 0;
        int64_t high = 0;
        if (rd_kafka_query_watermark_offsets(bench->admin, topic, p, &low, &high, 1000) ==
            RD_KAFKA_RESP_ERR_NO_ERROR) {
            sum += high;
        }
    }
    return sum;
}

static void start_relay(struct bench *bench, const char *slot, const char *topic) {
    char texts[6][512];
    const char *variables[8] = {NULL};
    char program[512];
    const char *const argv[] = {program, NULL};

    (void)snprintf(program, sizeof(program), "%s/daybook-relay", bench_env("DAYBOOK_BIN_DIR"));
    (void)snprintf(texts[0], sizeof(texts[0]), "DAYBOOK_HTTP_PORT=%u", bench->port);
    (void)snprintf(texts[1], sizeof(texts[1]), "DAYBOOK_WRITE_DATABASE_URL=%s",
                   bench_env("DAYBOOK_TEST_RELAY_URL"));
    (void)snprintf(texts[2], sizeof(texts[2]), "DAYBOOK_KAFKA_BROKERS=%s", bench->brokers);
    (void)snprintf(texts[3], sizeof(texts[3]), "DAYBOOK_SLOT=%s", slot);
    (void)snprintf(texts[4], sizeof(texts[4]), "DAYBOOK_TOPIC=%s", topic);
    (void)snprintf(texts[5], sizeof(texts[5]), "DAYBOOK_LOG_LEVEL=warn");
    for (int i = 0; i < 6; i++) {
        variables[i] = texts[i];
    }
    bench->relay = bench_start(argv, variables, "build/bench/relay.log");
    if (bench->relay == 0 || !bench_wait_ready(bench->port, 30000)) {
        give_up("daybook-relay", "not ready, see build/bench/relay.log");
    }
}

static bool slot_exists(const struct bench *bench, const char *slot) {
    char text[256];

    (void)snprintf(text, sizeof(text),
                   "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '%s'", slot);
    return strcmp(sql(bench->pg, text), "0") != 0;
}

static void stop_relay(struct bench *bench, const char *slot) {
    char text[256];

    bench_stop(bench->relay);
    bench->relay = 0;
    (void)snprintf(text, sizeof(text),
                   "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                   " WHERE slot_name = '%s' AND NOT active",
                   slot);
    /* PostgreSQL needs a moment to see that the connection has ended. */
    while (sql(bench->pg, text)[0] == '\0' && slot_exists(bench, slot)) {
        pause_us(10000);
    }
}

/* --- a, b: a backlog --- */

#define INSERT_EVENTS                                                                           \
    "INSERT INTO daybook.events (event_id, aggregate_type, stream_id, version, event_type,"     \
    " schema_version, payload, correlation_id, command, recorded_at) SELECT gen_random_uuid()," \
    " 'account', '%s' || (n %% %d), n / %d + 1, 'MoneyDeposited', 1,"                           \
    " json_build_object('amount_minor', n %% 90000, 'balance_minor', n, 'n', n),"               \
    " gen_random_uuid(), 'Deposit', clock_timestamp() FROM generate_series(%ld, %ld) n"

static void make_backlog(struct bench *bench) {
    char text[LINE_BYTES];

    (void)sql(bench->pg, "SELECT pg_create_logical_replication_slot('bench', 'pgoutput')");
    (void)sql(bench->pg, "SET synchronous_commit = off");
    for (long n = 0; n < bench->events; n += EVENTS_PER_TRANSACTION) {
        (void)snprintf(text, sizeof(text), INSERT_EVENTS, "backlog-", 10000, 10000, n,
                       n + EVENTS_PER_TRANSACTION - 1);
        (void)sql(bench->pg, text);
    }
    (void)sql(bench->pg, "SET synchronous_commit = on");
    (void)sql(bench->pg, "CHECKPOINT");
}

static void copy_slot(const struct bench *bench, const char *name) {
    char text[256];

    (void)snprintf(text, sizeof(text), "SELECT pg_copy_logical_replication_slot('bench', '%s')",
                   name);
    (void)sql(bench->pg, text);
}

static void drain_with_recvlogical(struct bench *bench) {
    char end[64];
    char command[LINE_BYTES];

    copy_slot(bench, "bench_a");
    (void)snprintf(end, sizeof(end), "%s", sql(bench->pg, "SELECT pg_current_wal_lsn()"));
    /* Something behind the end: it stops at the first message past it. */
    (void)sql(bench->pg, "SELECT pg_logical_emit_message(true, 'bench', 'end')");
    (void)snprintf(command, sizeof(command),
                   "'%s' -d '%s' -S bench_a --start --endpos=%s -f /dev/null -o proto_version=1"
                   " -o publication_names=daybook_events",
                   bench_env("BENCH_RECVLOGICAL"), bench->url, end);
    const int64_t begun_us = clock_monotonic_us();
    if (system(command) != 0) {
        give_up("pg_recvlogical", "failed");
    }
    const double took_s = (double)(clock_monotonic_us() - begun_us) / 1e6;
    bench_sample(&bench->report, "a_recvlogical", "/s", (double)bench->events / took_s);
    while (slot_exists(bench, "bench_a")) {
        (void)sql(bench->pg, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                             " WHERE slot_name = 'bench_a' AND NOT active");
    }
}

static void drain_with_relay(struct bench *bench) {
    char topic[64];

    (void)snprintf(topic, sizeof(topic), "bench-b-%d", ++bench->runs);
    copy_slot(bench, "bench_b");
    start_relay(bench, "bench_b", topic);
    const int64_t begun_us = clock_monotonic_us();
    const int64_t already = count_records(bench, topic);
    int64_t count = already;
    while (count < bench->events) {
        if (clock_monotonic_us() - begun_us > LIMIT_S * INT64_C(1000000)) {
            give_up("daybook-relay", "did not drain the backlog");
        }
        pause_us(20000);
        count = count_records(bench, topic);
    }
    const double took_s = (double)(clock_monotonic_us() - begun_us) / 1e6;
    bench_sample(&bench->report, "b_relay", "/s", (double)(count - already) / took_s);
    bench_sample(&bench->report, "b_relay_cpu", "µs/event",
                 bench_cpu_seconds(bench->relay, false) * 1e6 / (double)bench->events);
    bench_sample(&bench->report, "b_relay_rss", "KiB", (double)bench_rss_kib(bench->relay));
    stop_relay(bench, "bench_b");
}

/* --- c, d: from commit to consumer --- */

struct trip {
    struct bench *bench;
    const char *topic;
    int events_per_transaction;
    long first; /* number of the first event */
    long count; /* how many are sent */
    atomic_bool stopped;
    _Atomic int64_t *committed_us; /* by number - first; 0: not yet */
    struct histogram latency_us;
    long received;
};

static long number_in(const char *payload, size_t len) {
    char text[256];
    const char *at = NULL;

    (void)snprintf(text, sizeof(text), "%.*s", (int)(len < 255 ? len : 255), payload);
    at = strstr(text, "\"n\" : ");
    return at != NULL ? strtol(at + 6, NULL, 10) : -1;
}

static void note_arrival(struct trip *trip, const rd_kafka_message_t *message) {
    const int64_t now_us = clock_monotonic_us();
    const long index = number_in(message->payload, message->len) - trip->first;

    if (index < 0 || index >= trip->count) {
        return;
    }
    const int64_t committed_us = trip->committed_us[index];
    trip->received++;
    /* What arrives before the writer has its answer took no time that anybody could see. */
    histogram_add(&trip->latency_us, committed_us > 0 ? now_us - committed_us : 0);
}

static void *consume(void *arg) {
    struct trip *trip = arg;
    rd_kafka_t *kafka = make_client(trip->bench, RD_KAFKA_CONSUMER);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(PARTITIONS);

    (void)rd_kafka_poll_set_consumer(kafka);
    for (int32_t p = 0; p < PARTITIONS; p++) {
        rd_kafka_topic_partition_list_add(list, trip->topic, p)->offset = RD_KAFKA_OFFSET_END;
    }
    (void)rd_kafka_assign(kafka, list);
    rd_kafka_topic_partition_list_destroy(list);
    while (!trip->stopped) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(kafka, 100);
        if (message != NULL) {
            if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                note_arrival(trip, message);
            }
            rd_kafka_message_destroy(message);
        }
    }
    rd_kafka_destroy(kafka);
    return NULL;
}

/* At its pace, one transaction after the other; one that is late is not made up for. */
static void write_events(struct trip *trip, const char *stream) {
    char text[LINE_BYTES];
    PGconn *pg = connect_pg(trip->bench);
    const int64_t begun_us = clock_monotonic_us();

    for (long i = 0; i < trip->count; i += trip->events_per_transaction) {
        const int64_t due_us =
            begun_us + i / trip->events_per_transaction * 1000000 / TRANSACTIONS_PER_S;
        const int64_t early_us = due_us - clock_monotonic_us();
        if (early_us > 0) {
            pause_us(early_us);
        }
        (void)snprintf(text, sizeof(text), INSERT_EVENTS, stream, 1000, 1000, trip->first + i,
                       trip->first + i + trip->events_per_transaction - 1);
        (void)sql(pg, text);
        const int64_t committed_us = clock_monotonic_us();
        for (int j = 0; j < trip->events_per_transaction; j++) {
            trip->committed_us[i + j] = committed_us;
        }
    }
    bench_sample(&trip->bench->report, "c_written", "/s",
                 (double)trip->count / ((double)(clock_monotonic_us() - begun_us) / 1e6));
    PQfinish(pg);
}

/* What is compared with: a loop over the table that publishes what is new. */
static void *poll_table(void *arg) {
    struct trip *trip = arg;
    char text[256];
    PGconn *pg = connect_pg(trip->bench);
    rd_kafka_t *kafka = make_client(trip->bench, RD_KAFKA_PRODUCER);
    char last[32];

    (void)snprintf(last, sizeof(last), "%s", sql(pg, "SELECT max(position) FROM daybook.events"));
    while (!trip->stopped) {
        (void)snprintf(text, sizeof(text),
                       "SELECT position, stream_id, payload FROM daybook.events"
                       " WHERE position > %s ORDER BY position LIMIT 10000",
                       last);
        PGresult *rows = PQexec(pg, text);
        for (int i = 0; i < PQntuples(rows); i++) {
            (void)rd_kafka_producev(
                kafka, RD_KAFKA_V_TOPIC(trip->topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                RD_KAFKA_V_KEY(PQgetvalue(rows, i, 1), (size_t)PQgetlength(rows, i, 1)),
                RD_KAFKA_V_VALUE(PQgetvalue(rows, i, 2), (size_t)PQgetlength(rows, i, 2)),
                RD_KAFKA_V_END);
            (void)snprintf(last, sizeof(last), "%s", PQgetvalue(rows, i, 0));
        }
        PQclear(rows);
        (void)rd_kafka_flush(kafka, 1000);
        pause_us(POLL_EVERY_MS * 1000);
    }
    rd_kafka_destroy(kafka);
    PQfinish(pg);
    return NULL;
}

static void finish_trip(struct trip *trip, pthread_t consumer) {
    const int64_t deadline_us = clock_monotonic_us() + 10000000;

    while (trip->received < trip->count && clock_monotonic_us() < deadline_us) {
        pause_us(20000);
    }
    trip->stopped = true;
    (void)pthread_join(consumer, NULL);
    if (trip->received < trip->count) {
        give_up(trip->topic, "not all events have arrived");
    }
}

struct trip_names {
    const char *p50, *p99;
};

static void run_trip(struct bench *bench, int events_per_s, bool relay,
                     const struct trip_names *names) {
    struct trip *trip = calloc(1, sizeof(*trip));
    pthread_t consumer;
    pthread_t poller;
    char stream[64];

    if (trip == NULL) {
        give_up("start", "no memory");
    }
    trip->bench = bench;
    trip->topic = "bench-c";
    trip->events_per_transaction = events_per_s / TRANSACTIONS_PER_S;
    trip->count = (long)(bench->seconds * events_per_s);
    trip->first = (long)++bench->runs * 100000000;
    void *stamps = calloc((size_t)trip->count, sizeof(trip->committed_us[0]));
    trip->committed_us = stamps;
    if (stamps == NULL || pthread_create(&consumer, NULL, consume, trip) != 0 ||
        (!relay && pthread_create(&poller, NULL, poll_table, trip) != 0)) {
        give_up("start", "no memory or no thread");
    }
    pause_us(1500000); /* the consumer waits at the end of the topic by now */
    (void)snprintf(stream, sizeof(stream), "trip-%d-", bench->runs);
    write_events(trip, stream);
    finish_trip(trip, consumer);
    if (!relay) {
        (void)pthread_join(poller, NULL);
    }
    bench_sample(&bench->report, names->p50, "ms",
                 (double)histogram_at(&trip->latency_us, .5) / 1000);
    bench_sample(&bench->report, names->p99, "ms",
                 (double)histogram_at(&trip->latency_us, .99) / 1000);
    free(stamps);
    free(trip);
}

static void run_trips(struct bench *bench) {
    static const struct trip_names c1 = {"c_relay_1000_p50", "c_relay_1000_p99"};
    static const struct trip_names c10 = {"c_relay_10000_p50", "c_relay_10000_p99"};
    static const struct trip_names d1 = {"d_poller_1000_p50", "d_poller_1000_p99"};

    (void)sql(bench->pg, "SELECT pg_create_logical_replication_slot('bench_c', 'pgoutput')");
    start_relay(bench, "bench_c", "bench-c");
    run_trip(bench, 1000, true, &c1);
    run_trip(bench, 10000, true, &c10);
    stop_relay(bench, "bench_c");
    run_trip(bench, 1000, false, &d1);
}

/* --- e: what attaching costs --- */

static double run_pgbench(struct bench *bench) {
    static const char script[] = "build/bench/append.sql";
    char command[LINE_BYTES];
    char line[256];
    double tps = 0;
    FILE *file = fopen(script, "we");

    if (file == NULL ||
        fprintf(
            file,
            "\\set n :n + 1\nINSERT INTO daybook.events (event_id, aggregate_type, stream_id,"
            " version, event_type, schema_version, payload, recorded_at) VALUES"
            " (gen_random_uuid(), 'account', 'append-%d-' || :client_id::text, :n::bigint, 'MoneyDeposited',"
            " 1, json_build_object('amount_minor', :n::bigint), now());\n",
            ++bench->runs) < 0 ||
        fclose(file) != 0) {
        give_up("pgbench script", script);
    }
    (void)snprintf(command, sizeof(command),
                   "'%s' -n -M prepared -c 32 -j 1 -T %d -D n=0 -f %s '%s' 2>&1",
                   bench_env("BENCH_PGBENCH"), (int)bench->seconds, script, bench->url);
    FILE *pipe = popen(command, "r");
    while (pipe != NULL && fgets(line, sizeof(line), pipe) != NULL) {
        (void)sscanf(line, "tps = %lf", &tps);
    }
    if (pipe == NULL || pclose(pipe) != 0 || tps <= 0) {
        give_up("pgbench", "no result");
    }
    return tps;
}

static void run_appends(struct bench *bench) {
    bench_sample(&bench->report, "e_append_alone", "/s", run_pgbench(bench));
    (void)sql(bench->pg, "SELECT pg_create_logical_replication_slot('bench_e', 'pgoutput')");
    start_relay(bench, "bench_e", "bench-e");
    bench_sample(&bench->report, "e_append_with_relay", "/s", run_pgbench(bench));
    stop_relay(bench, "bench_e");
}

static void conclude(struct bench *bench) {
    struct bench_report *report = &bench->report;

    /* What a human would call at once: milliseconds, so these two depend on the machine. */
    bench_sample(report, "wanted_p50", "ms", 5);
    bench_sample(report, "wanted_p99", "ms", 25);
    bench_ratio(report, "relay_drain_vs_recvlogical", "b_relay", "a_recvlogical", 0.5);
    bench_ratio(report, "relay_p50_at_1000_vs_5_ms", "c_relay_1000_p50", "wanted_p50", -1);
    bench_ratio(report, "relay_p99_at_1000_vs_25_ms", "c_relay_1000_p99", "wanted_p99", -1);
    bench_ratio(report, "relay_p50_at_10000_vs_5_ms", "c_relay_10000_p50", "wanted_p50", 0);
    bench_ratio(report, "poller_p50_vs_relay_p50", "d_poller_1000_p50", "c_relay_1000_p50", 10);
    bench_ratio(report, "append_with_relay_vs_alone", "e_append_with_relay", "e_append_alone", 0.9);
}

int main(void) {
    static struct bench bench;
    const int rounds = (int)bench_env_number("BENCH_ROUNDS", 3);

    bench.report.benchmark = "relay";
    bench.port = (uint16_t)bench_env_number("BENCH_PORT", 18181);
    bench.url = bench_env("DAYBOOK_TEST_SUPERUSER_URL");
    bench.brokers = bench_env("DAYBOOK_TEST_KAFKA_BROKERS");
    bench.events = (long)bench_env_number("BENCH_EVENTS", 1000000);
    bench.seconds = bench_env_number("BENCH_SECONDS", 8);
    bench.pg = connect_pg(&bench);
    bench.admin = make_client(&bench, RD_KAFKA_PRODUCER);
    setvbuf(stdout, NULL, _IOLBF, 0);
    make_backlog(&bench);
    for (int i = 0; i < rounds; i++) {
        (void)printf("round %d of %d\n", i + 1, rounds);
        drain_with_recvlogical(&bench);
        drain_with_relay(&bench);
    }
    (void)sql(bench.pg, "SELECT pg_drop_replication_slot('bench')");
    run_trips(&bench);
    for (int i = 0; i < rounds; i++) {
        run_appends(&bench);
    }
    conclude(&bench);
    rd_kafka_destroy(bench.admin);
    PQfinish(bench.pg);
    return bench_report_end(&bench.report) ? 0 : 1;
}
