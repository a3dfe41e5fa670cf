/*
 * The projector beside what it is measured by, on one topic of BENCH_EVENTS (1,000,000) events over
 * 10,000 accounts, all three projections:
 *
 *   a  the naive way: for each event and projection a transaction of its own, and a Redis call
 *   b  live application of the whole backlog with one replica
 *   c  the same with two replicas, and with four for the CPU
 *   d  a rebuild of all projections
 *   e  a bare consumer that only reads the topic: the client as it comes, message by message; and,
 *      to compare, the quickest way that it has, in batches of bare partitions
 *   f  d again while accounts and their transactions are read: how many reads, and how many errors
 *
 * BENCH_PARTS names those to be measured (abcdef), BENCH_ROUNDS says how often (1).
 *
 * CPU is that of the projectors, PostgreSQL and Redis, from /proc.
 */
#include <hiredis.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/adapters/publisher_kafka.h"
#include "common/adapters/redis_url.h"
#include "common/base/clock.h"
#include "common/base/hash.h"
#include "tests/bench/bench_process.h"
#include "tests/bench/bench_readers.h"
#include "tests/bench/bench_report.h"

enum { ACCOUNTS = 10000, PARTITIONS = 6, TAKE = 4096, REPLICAS_MAX = 4, NAIVE_EVENTS = 20000 };

struct bench {
    struct bench_report report;
    int64_t events;
    PGconn *admin;
    redisContext *redis;
    pid_t postgres, redis_pid;
    uint16_t port;
};

_Noreturn static void give_up(const char *what, const char *why) {
    (void)fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

static double now_s(void) {
    return (double)clock_monotonic_us() / 1e6;
}

static void execute(PGconn *pg, const char *sql) {
    PGresult *result = PQexec(pg, sql);
    const ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        give_up("PostgreSQL", PQerrorMessage(pg));
    }
    PQclear(result);
}

static redisContext *connect_redis(void) {
    struct redis_url url;
    struct err err = {0};

    if (redis_url_parse(str_from(bench_env("DAYBOOK_TEST_REDIS_URL")), &url, &err) != ERR_OK) {
        give_up("Redis", err.message);
    }
    redisContext *redis = redisConnect(url.host, url.port);
    redisReply *reply = redisCommand(redis, "AUTH %s", url.password);
    if (reply == NULL || reply->type == REDIS_REPLY_ERROR) {
        give_up("Redis", "AUTH");
    }
    freeReplyObject(reply);
    return redis;
}

/* --- the topic --- */

static void make_topic(void) {
    struct err err = {0};
    struct publisher *publisher = publisher_kafka_new(&(struct publisher_kafka_options){
        .brokers = bench_env("DAYBOOK_TEST_KAFKA_BROKERS"),
        .topic = "account-events",
        .partitions = PARTITIONS,
        .replication = 1,
        .in_flight_max = 1000,
        .timeout_ms = 20000,
    });

    if (publisher->ops->open(publisher, &err) != ERR_OK) {
        give_up("topic", err.message);
    }
    publisher->ops->free(publisher);
}

static rd_kafka_t *make_client(rd_kafka_type_t type) {
    char why[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    (void)rd_kafka_conf_set(conf, "bootstrap.servers", bench_env("DAYBOOK_TEST_KAFKA_BROKERS"), why,
                            sizeof(why));
    if (type == RD_KAFKA_PRODUCER) {
        (void)rd_kafka_conf_set(conf, "linger.ms", "20", why, sizeof(why));
        (void)rd_kafka_conf_set(conf, "queue.buffering.max.messages", "200000", why, sizeof(why));
    } else {
        (void)rd_kafka_conf_set(conf, "group.id", "bench", why, sizeof(why));
        (void)rd_kafka_conf_set(conf, "enable.auto.commit", "false", why, sizeof(why));
    }
    rd_kafka_t *kafka = rd_kafka_new(type, conf, why, sizeof(why));
    if (kafka == NULL) {
        give_up("Kafka", why);
    }
    return kafka;
}

/* As the relay writes them: the same headers, the same sizes. */
static void produce_one(rd_kafka_t *kafka, int64_t n) {
    const int64_t account = n % ACCOUNTS;
    const int64_t version = n / ACCOUNTS + 1;
    char id[32];
    char payload[128];
    char event_id[64];
    char time[CLOCK_RFC3339_BYTES];
    char numbers[3][24];
    const char *const type = version == 1 ? "AccountCreated" : "MoneyDeposited";
    rd_kafka_resp_err_t error;

    (void)snprintf(id, sizeof(id), "account-%05" PRId64, account);
    (void)snprintf(event_id, sizeof(event_id), "01890000-0000-7000-8000-%012" PRIx64, n);
    (void)snprintf(numbers[0], sizeof(numbers[0]), "%" PRId64, version);
    (void)snprintf(numbers[1], sizeof(numbers[1]), "%" PRId64, n + 1);
    (void)snprintf(numbers[2], sizeof(numbers[2]), "%" PRId64, 1000000 + n * 300);
    (void)clock_format_rfc3339(time, INT64_C(1767225600000000) + n * 1000);
    if (version == 1) {
        (void)snprintf(payload, sizeof(payload),
                       "{\"currency\":\"USD\",\"owner\":\"Owner %" PRId64 "\"}", account);
    } else {
        (void)snprintf(payload, sizeof(payload),
                       "{\"amount_minor\":100,\"balance_minor\":%" PRId64 ",\"currency\":\"USD\"}",
                       (version - 1) * 100);
    }
    do {
        error = rd_kafka_producev(
            kafka, RD_KAFKA_V_TOPIC("account-events"),
            RD_KAFKA_V_PARTITION(hash_kafka_partition(str_from(id), PARTITIONS)),
            RD_KAFKA_V_KEY(id, strlen(id)), RD_KAFKA_V_VALUE(payload, strlen(payload)),
            RD_KAFKA_V_HEADER("ce_specversion", "1.0", -1),
            RD_KAFKA_V_HEADER("ce_id", event_id, -1),
            RD_KAFKA_V_HEADER("ce_source", "/daybook/account", -1),
            RD_KAFKA_V_HEADER("ce_type", type, -1), RD_KAFKA_V_HEADER("ce_subject", id, -1),
            RD_KAFKA_V_HEADER("ce_time", time, -1),
            RD_KAFKA_V_HEADER("content-type", "application/json", -1),
            RD_KAFKA_V_HEADER("aggregate_type", "account", -1),
            RD_KAFKA_V_HEADER("version", numbers[0], -1),
            RD_KAFKA_V_HEADER("position", numbers[1], -1),
            RD_KAFKA_V_HEADER("schema_version", "1", -1),
            RD_KAFKA_V_HEADER("correlation_id", event_id, -1),
            RD_KAFKA_V_HEADER("lsn", numbers[2], -1), RD_KAFKA_V_HEADER("seq", "0", -1),
            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END);
        (void)rd_kafka_poll(kafka, error == RD_KAFKA_RESP_ERR__QUEUE_FULL ? 50 : 0);
    } while (error == RD_KAFKA_RESP_ERR__QUEUE_FULL);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        give_up("produce", rd_kafka_err2str(error));
    }
}

static void fill_topic(const struct bench *bench) {
    const double begin = now_s();
    rd_kafka_t *kafka = make_client(RD_KAFKA_PRODUCER);

    make_topic();
    for (int64_t n = 0; n < bench->events; n++) {
        produce_one(kafka, n);
    }
    if (rd_kafka_flush(kafka, 120000) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        give_up("produce", "not all were acknowledged");
    }
    rd_kafka_destroy(kafka);
    (void)printf("topic of %" PRId64 " events made in %.1f s\n", bench->events, now_s() - begin);
}

/* --- e: a bare consumer --- */

static double read_bare(const struct bench *bench) {
    rd_kafka_t *kafka = make_client(RD_KAFKA_CONSUMER);
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(PARTITIONS);
    const double begin = now_s();
    int64_t count = 0;

    for (int32_t p = 0; p < PARTITIONS; p++) {
        rd_kafka_topic_partition_list_add(all, "account-events", p)->offset = 0;
    }
    (void)rd_kafka_poll_set_consumer(kafka);
    (void)rd_kafka_assign(kafka, all);
    while (count < bench->events) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(kafka, 100);
        if (message != NULL) {
            count += message->err == RD_KAFKA_RESP_ERR_NO_ERROR;
            rd_kafka_message_destroy(message);
        }
    }
    const double rate = (double)count / (now_s() - begin);
    (void)rd_kafka_consumer_close(kafka);
    rd_kafka_topic_partition_list_destroy(all);
    rd_kafka_destroy(kafka);
    return rate;
}

static double read_batches(const struct bench *bench) {
    rd_kafka_t *kafka = make_client(RD_KAFKA_CONSUMER);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(kafka, "account-events", NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka);
    static rd_kafka_message_t *messages[TAKE];
    const double begin = now_s();
    int64_t count = 0;

    for (int32_t p = 0; p < PARTITIONS; p++) {
        (void)rd_kafka_consume_start_queue(topic, p, 0, queue);
    }
    while (count < bench->events) {
        const ssize_t got = rd_kafka_consume_batch_queue(queue, 20, messages, TAKE);
        for (ssize_t i = 0; i < got; i++) {
            count += messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR;
            rd_kafka_message_destroy(messages[i]);
        }
    }
    const double rate = (double)count / (now_s() - begin);
    for (int32_t p = 0; p < PARTITIONS; p++) {
        (void)rd_kafka_consume_stop(topic, p);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(kafka);
    return rate;
}

/* --- a: the naive way --- */

static void run(PGconn *pg, const char *name, int count, const char *const *values) {
    PGresult *result = PQexecPrepared(pg, name, count, values, NULL, NULL, 0);

    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        give_up("naive", PQerrorMessage(pg));
    }
    PQclear(result);
}

static void prepare_naive(PGconn *pg) {
    static const char *const statements[][2] = {
        {"account",
         "INSERT INTO bench.accounts VALUES ($1, $2::bigint, 'open', 'USD', 'owner', $3::bigint,"
         " now(), now()) ON CONFLICT (account_id) DO UPDATE SET version = excluded.version,"
         " balance_minor = excluded.balance_minor, updated_at = excluded.updated_at"},
        {"statement", "INSERT INTO bench.statements VALUES ($1, $2::bigint, 'deposit', 100,"
                      " $3::bigint, 'USD', gen_random_uuid(), now()) ON CONFLICT DO NOTHING"},
        {"activity",
         "INSERT INTO bench.activity VALUES ('2026-01-01', $1::integer, 'USD', 0, 0, 1, 0, 100, 0)"
         " ON CONFLICT (day, topic_partition, currency) DO UPDATE SET deposits ="
         " bench.activity.deposits + 1, deposited_minor = bench.activity.deposited_minor + 100"},
        {"offset", "INSERT INTO bench.offsets VALUES ($1, $2::bigint) ON CONFLICT (name) DO UPDATE"
                   " SET next = excluded.next"},
    };

    execute(pg, "SET client_min_messages = warning; DROP SCHEMA IF EXISTS bench CASCADE;"
                " CREATE SCHEMA bench; CREATE TABLE bench.accounts (LIKE daybook.accounts INCLUDING"
                " ALL); CREATE TABLE bench.statements (LIKE daybook.statements INCLUDING ALL);"
                " CREATE TABLE bench.activity (LIKE daybook.activity INCLUDING ALL);"
                " CREATE TABLE bench.offsets (name text PRIMARY KEY, next bigint)");
    for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++) {
        PGresult *result = PQprepare(pg, statements[i][0], statements[i][1], 0, NULL);
        if (PQresultStatus(result) != PGRES_COMMAND_OK) {
            give_up("naive", PQerrorMessage(pg));
        }
        PQclear(result);
    }
}

static void naive_transaction(PGconn *pg, const char *statement, const char *const *values,
                              int count, const char *offset) {
    execute(pg, "BEGIN");
    run(pg, statement, count, values);
    run(pg, "offset", 2, (const char *const[]){statement, offset});
    execute(pg, "COMMIT");
}

static void redis_simply(redisContext *redis, const char *format, const char *id,
                         const char *version, const char *balance) {
    redisReply *reply = redisCommand(redis, format, id, version, balance);

    if (reply == NULL || reply->type == REDIS_REPLY_ERROR) {
        give_up("naive", "Redis");
    }
    freeReplyObject(reply);
}

/* Events per second through all three projections. */
static double run_naive(struct bench *bench) {
    const double limit_s = bench_env_number("BENCH_NAIVE_SECONDS", 6);
    const double begin = now_s();
    int64_t n = 0;

    prepare_naive(bench->admin);
    for (; n < NAIVE_EVENTS && now_s() - begin < limit_s; n++) {
        char id[32];
        char version[24];
        char balance[24];
        char offset[24];
        char partition[24];
        (void)snprintf(id, sizeof(id), "account-%05d", (int)(n % ACCOUNTS));
        (void)snprintf(version, sizeof(version), "%" PRId64, n / ACCOUNTS + 1);
        (void)snprintf(balance, sizeof(balance), "%" PRId64, n);
        (void)snprintf(offset, sizeof(offset), "%" PRId64, n);
        (void)snprintf(partition, sizeof(partition), "%d",
                       (int)hash_kafka_partition(str_from(id), PARTITIONS));
        const char *const row[] = {id, version, balance};
        const char *const day[] = {partition};
        naive_transaction(bench->admin, "account", row, 3, offset);
        redis_simply(bench->redis, "HSET naive:account:%s version %s balance %s", id, version,
                     balance);
        naive_transaction(bench->admin, "statement", row, 3, offset);
        redis_simply(bench->redis, "LPUSH naive:statement:%s %s:%s", id, version, balance);
        naive_transaction(bench->admin, "activity", day, 1, offset);
    }
    return (double)n / (now_s() - begin);
}

/* --- b, c: live --- */

static void empty_models(struct bench *bench) {
    execute(bench->admin, "TRUNCATE daybook.accounts, daybook.statements, daybook.activity,"
                          " daybook.activity_streams, daybook.checkpoints, daybook.parked_events");
    redisReply *reply = redisCommand(bench->redis, "FLUSHALL");
    freeReplyObject(reply);
}

/* Events applied by the lane that is behind most. */
static int64_t applied(struct bench *bench) {
    static const char *const names[] = {"accounts", "statements"};
    PGresult *result = PQexec(
        bench->admin, "SELECT coalesce(min(n), 0) FROM (SELECT coalesce(sum(next_offset), 0)"
                      " AS n FROM (VALUES ('accounts'), ('statements'), ('activity')) v(name)"
                      " LEFT JOIN daybook.checkpoints c ON c.projection = v.name"
                      " GROUP BY v.name) s");
    int64_t least = PQntuples(result) == 1 ? strtoll(PQgetvalue(result, 0, 0), NULL, 10) : 0;

    PQclear(result);
    for (size_t i = 0; i < 2; i++) {
        int64_t sum = 0;
        for (int p = 0; p < PARTITIONS; p++) {
            redisReply *reply = redisCommand(bench->redis, "GET {p%d}:checkpoint:%s", p, names[i]);
            sum += reply != NULL && reply->type == REDIS_REPLY_STRING
                       ? strtoll(reply->str, NULL, 10)
                       : 0;
            freeReplyObject(reply);
        }
        least = sum < least ? sum : least;
    }
    return least;
}

static pid_t start_projector(const struct bench *bench, int index, const char *const *words) {
    static char program[512];
    static char texts[REPLICAS_MAX][4][600];
    const char *argv[4] = {program};
    const char *const variables[] = {texts[index][0], texts[index][1],          texts[index][2],
                                     texts[index][3], "DAYBOOK_LOG_LEVEL=warn", NULL};

    (void)snprintf(program, sizeof(program), "%s/daybook-projector", bench_env("DAYBOOK_BIN_DIR"));
    (void)snprintf(texts[index][0], 600, "DAYBOOK_HTTP_PORT=%d", bench->port + index);
    (void)snprintf(texts[index][1], 600, "DAYBOOK_READ_DATABASE_URL=%s",
                   bench_env("DAYBOOK_TEST_PROJECTOR_URL"));
    (void)snprintf(texts[index][2], 600, "DAYBOOK_REDIS_URL=%s",
                   bench_env("DAYBOOK_TEST_REDIS_URL"));
    (void)snprintf(texts[index][3], 600, "DAYBOOK_KAFKA_BROKERS=%s",
                   bench_env("DAYBOOK_TEST_KAFKA_BROKERS"));
    for (size_t i = 0; words != NULL && words[i] != NULL; i++) {
        argv[i + 1] = words[i];
    }
    const pid_t pid = bench_start(argv, variables, "build/bench/projector.log");
    if (pid == 0) {
        give_up("daybook-projector", "can't be started");
    }
    return pid;
}

static double cpu_of_all(const struct bench *bench, const pid_t *pids, int count) {
    double sum =
        bench_cpu_seconds(bench->postgres, true) + bench_cpu_seconds(bench->redis_pid, false);

    for (int i = 0; i < count; i++) {
        sum += bench_cpu_seconds(pids[i], false);
    }
    return sum;
}

/* Applies the whole topic with so many replicas. */
static void run_live(struct bench *bench, int replicas, const char *rate_name,
                     const char *cpu_name) {
    const struct timespec pause = {.tv_nsec = 50000000};
    pid_t pids[REPLICAS_MAX] = {0};
    double first_at = 0;
    int64_t first = 0;
    int64_t now = 0;

    empty_models(bench);
    const double cpu_before = cpu_of_all(bench, NULL, 0);
    for (int i = 0; i < replicas; i++) {
        pids[i] = start_projector(bench, i, NULL);
    }
    while (now < bench->events) {
        (void)nanosleep(&pause, NULL);
        now = applied(bench);
        if (first_at == 0 && now > 0) {
            first_at = now_s();
            first = now;
        }
    }
    const double rate = (double)(now - first) / (now_s() - first_at);
    const double cpu_us =
        (cpu_of_all(bench, pids, replicas) - cpu_before) / (double)bench->events * 1e6;
    bench_sample(&bench->report, rate_name, "events/s", rate);
    bench_sample(&bench->report, cpu_name, "µs/event", cpu_us);
    if (replicas == 1) {
        bench_sample(&bench->report, "b_rss", "KiB", (double)bench_rss_kib(pids[0]));
        bench_sample(&bench->report, "b_cpu_projector", "µs/event",
                     bench_cpu_seconds(pids[0], false) / (double)bench->events * 1e6);
    }
    for (int i = 0; i < replicas; i++) {
        bench_stop(pids[i]);
    }
    (void)printf("%d replicas: %.0f events/s, %.1f µs CPU an event\n", replicas, rate, cpu_us);
}

/* --- d: rebuild --- */

static double rebuild_all(const struct bench *bench) {
    static const char *const words[] = {"rebuild", "all", NULL};
    const double begin = now_s();
    const pid_t pid = start_projector(bench, 0, words);

    int status = 0;
    (void)waitpid(pid, &status, 0);
    if (status != 0) {
        give_up("rebuild", "failed, see build/bench/projector.log");
    }
    return (double)bench->events / (now_s() - begin);
}

static void run_rebuild(struct bench *bench) {
    const double rate = rebuild_all(bench);

    bench_sample(&bench->report, "d_rebuild_all", "events/s", rate);
    (void)printf("rebuild: %.0f events/s\n", rate);
}

/* --- f: rebuild while reads go on --- */

static pid_t start_query_api(uint16_t port) {
    static const char *const names[][2] = {
        {"DAYBOOK_READ_DATABASE_URL", "DAYBOOK_TEST_QUERY_URL"},
        {"DAYBOOK_LOG_DATABASE_URL", "DAYBOOK_TEST_LOG_URL"},
        {"DAYBOOK_REDIS_URL", "DAYBOOK_TEST_REDIS_QUERY_URL"},
    };
    char program[512];
    char texts[4][600];
    const char *argv[] = {program, NULL};
    const char *const variables[] = {
        texts[0], texts[1], texts[2], texts[3], "DAYBOOK_LOG_LEVEL=warn", NULL};

    (void)snprintf(program, sizeof(program), "%s/daybook-query-api", bench_env("DAYBOOK_BIN_DIR"));
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "%s=%s", names[i][0], bench_env(names[i][1]));
    }
    (void)snprintf(texts[3], sizeof(texts[3]), "DAYBOOK_HTTP_PORT=%d", port);
    const pid_t pid = bench_start(argv, variables, "build/bench/query-api.log");
    if (pid == 0 || !bench_wait_ready(port, 10000)) {
        give_up("daybook-query-api", "can't be started, see build/bench/query-api.log");
    }
    return pid;
}

/* The model to read is there already: a rebuild before this one has made it. */
static void run_rebuild_beside_readers(struct bench *bench) {
    static struct bench_readers readers;
    const uint16_t port = (uint16_t)(bench->port + REPLICAS_MAX);

    (void)rebuild_all(bench);
    const pid_t query = start_query_api(port);
    readers = (struct bench_readers){
        .port = port, .count = 2, .accounts = ACCOUNTS, .version = bench->events / ACCOUNTS};
    if (!bench_readers_start(&readers)) {
        give_up("readers", "no thread can be started");
    }
    const double rate = rebuild_all(bench);
    bench_readers_end(&readers);
    bench_stop(query);
    bench_sample(&bench->report, "f_rebuild_with_reads", "events/s", rate);
    bench_sample(&bench->report, "f_reads_meanwhile", "reads", (double)readers.reads);
    bench_sample(&bench->report, "f_read_errors", "reads", (double)readers.errors);
    (void)printf("rebuild with reads: %.0f events/s, %" PRId64 " reads, %" PRId64 " errors\n", rate,
                 (int64_t)readers.reads, (int64_t)readers.errors);
}

static void run_round(struct bench *bench, const char *parts) {
    struct bench_report *report = &bench->report;

    if (strchr(parts, 'e') != NULL) {
        bench_sample(report, "e_bare_consumer", "events/s", read_bare(bench));
        bench_sample(report, "e_bare_batches", "events/s", read_batches(bench));
    }
    if (strchr(parts, 'a') != NULL) {
        bench_sample(report, "a_naive", "events/s", run_naive(bench));
    }
    if (strchr(parts, 'b') != NULL) {
        run_live(bench, 1, "b_one_replica", "b_cpu_one_replica");
    }
    if (strchr(parts, 'd') != NULL) {
        run_rebuild(bench);
    }
    if (strchr(parts, 'f') != NULL) {
        run_rebuild_beside_readers(bench);
    }
    if (strchr(parts, 'c') != NULL) {
        run_live(bench, 2, "c_two_replicas", "c_cpu_two_replicas");
        run_live(bench, 4, "c_four_replicas", "c_cpu_four_replicas");
    }
}

int main(void) {
    static struct bench bench;
    const char *parts = getenv("BENCH_PARTS");
    const int rounds = (int)bench_env_number("BENCH_ROUNDS", 1);
    struct bench_report *report = &bench.report;

    report->benchmark = "projector";
    bench.events = (int64_t)bench_env_number("BENCH_EVENTS", 1000000);
    bench.port = (uint16_t)bench_env_number("BENCH_PORT", 18181);
    bench.postgres = (pid_t)strtol(bench_env("BENCH_POSTGRES_PID"), NULL, 10);
    bench.redis_pid = (pid_t)strtol(bench_env("BENCH_REDIS_PID"), NULL, 10);
    bench.admin = PQconnectdb(bench_env("DAYBOOK_TEST_READ_ADMIN_URL"));
    bench.redis = connect_redis();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (PQstatus(bench.admin) != CONNECTION_OK) {
        give_up("PostgreSQL", PQerrorMessage(bench.admin));
    }
    fill_topic(&bench);
    for (int i = 0; i < rounds; i++) {
        run_round(&bench, parts != NULL ? parts : "abcdef");
    }
    bench_ratio(report, "projector_live_vs_naive", "b_one_replica", "a_naive", 10);
    bench_ratio(report, "projector_two_replicas_vs_naive", "c_two_replicas", "a_naive", 0);
    bench_ratio(report, "projector_rebuild_vs_naive", "d_rebuild_all", "a_naive", 30);
    bench_ratio(report, "projector_rebuild_vs_bare_consumer", "d_rebuild_all", "e_bare_consumer",
                0.2);
    bench_ratio(report, "projector_rebuild_vs_bare_batches", "d_rebuild_all", "e_bare_batches", 0);
    bench_ratio(report, "projector_cpu_four_vs_one", "c_cpu_four_replicas", "b_cpu_one_replica",
                -1.2);
    PQfinish(bench.admin);
    redisFree(bench.redis);
    return bench_report_end(report) ? 0 : 1;
}
