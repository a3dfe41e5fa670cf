/*
 * The write side beside its baselines, all on one PostgreSQL with the same settings:
 *
 *   a  pgbench, prepared, 32 clients: one row a transaction into a table like the log
 *   b  the bulk ceiling: two connections, 1,000 rows a statement, into the same table
 *   c  deposits over HTTP, 64 connections, 10,000 accounts, each with an Idempotency-Key
 *   d  the same without keys          e  accounts by Zipf 1.0          f  one single account
 *   g  one connection, for latency, beside pgbench with one client
 *   l  latency at 70 % of c, open loop
 *   h  twice the rate of c, open loop, over many connections
 *
 * a to g are measured in turns, several rounds; medians count. What each costs in CPU is read from
 * /proc. BENCH_ROUNDS (3), BENCH_SECONDS (4) of each measurement, BENCH_OVERLOAD_SECONDS (20),
 * BENCH_OVERLOAD_RATE (twice c) requests a second, BENCH_PARTS: only these, by letter (abcdefglh).
 */
#include <inttypes.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/adapters/pg_array.h"
#include "common/base/clock.h"
#include "tests/bench/bench_process.h"
#include "tests/bench/bench_report.h"
#include "tests/bench/load.h"

enum {
    ACCOUNTS = 10000,
    CONNECTIONS = 64,
    BULK_CONNECTIONS = 2,
    BULK_ROWS = 1000,
    BULK_COLUMNS = 9,
    OVERLOAD_CONNECTIONS = 4000,
};

struct bench {
    struct bench_report report;
    uint16_t port;
    pid_t api;
    pid_t postgres;
    const char *admin_url;
    const char *pgbench;
    char accounts[32]; /* prefix of their ids: a kept stack has those of earlier runs */
    double seconds;
    int runs; /* numbers the runs: makes keys and versions unique */
    struct load_result *result;
};

_Noreturn static void give_up(const char *what, const char *why) {
    (void)fprintf(stderr, "bench: %s: %s\n", what, why);
    exit(1);
}

/* --- baselines --- */

static PGconn *connect_admin(const struct bench *bench) {
    PGconn *pg = PQconnectdb(bench->admin_url);

    if (PQstatus(pg) != CONNECTION_OK) {
        give_up("PostgreSQL", PQerrorMessage(pg));
    }
    return pg;
}

static void execute(PGconn *pg, const char *sql) {
    PGresult *result = PQexec(pg, sql);
    const ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        give_up("PostgreSQL", PQerrorMessage(pg));
    }
    PQclear(result);
}

static void make_table(const struct bench *bench) {
    PGconn *pg = connect_admin(bench);

    execute(pg, "SET client_min_messages = warning; DROP SCHEMA IF EXISTS bench CASCADE");
    execute(pg, "CREATE SCHEMA bench");
    execute(pg, "CREATE TABLE bench.events (LIKE daybook.events INCLUDING ALL)");
    PQfinish(pg);
}

static void write_script(const char *path) {
    static const char script[] =
        "\\set account random(0, 9999)\n"
        "\\set n :n + 1\n"
        "\\set version :run * 100000000 + :n * 64 + :client_id\n"
        "\\set amount random(1, 90000)\n"
        "INSERT INTO bench.events (event_id, aggregate_type, stream_id, version, event_type,"
        " schema_version, payload, correlation_id, command, recorded_at)"
        " VALUES (lpad(to_hex(:version::bigint), 32, '0')::uuid, 'account',"
        " 'account-' || :account::text, :version::bigint, 'MoneyDeposited', 1,"
        " json_build_object('amount_minor', :amount::bigint, 'balance_minor', :version::bigint),"
        " lpad(to_hex(:version::bigint), 36, '0'), 'Deposit', now());\n";
    FILE *file = fopen(path, "we");

    if (file == NULL || fputs(script, file) == EOF || fclose(file) != 0) {
        give_up("pgbench script", path);
    }
}

/* Transactions per second; with one client also its latencies. */
static double run_pgbench(struct bench *bench, int clients, struct histogram *latency_us) {
    static const char script[] = "build/bench/insert.sql";
    char command[1024];
    char line[256];
    double tps = 0;

    write_script(script);
    (void)snprintf(
        command, sizeof(command),
        "rm -f build/bench/pgbench_log.*; %s -n -M prepared -c %d -j %d -T %d -D n=0 -D run=%d -f %s %s '%s' 2>&1",
        bench->pgbench, clients, clients > 1 ? 2 : 1, (int)bench->seconds, ++bench->runs, script,
        latency_us != NULL ? "-l --log-prefix=build/bench/pgbench_log" : "", bench->admin_url);
    FILE *pipe = popen(command, "r");
    while (pipe != NULL && fgets(line, sizeof(line), pipe) != NULL) {
        (void)sscanf(line, "tps = %lf", &tps);
    }
    if (pipe == NULL || pclose(pipe) != 0 || tps <= 0) {
        give_up("pgbench", "no result");
    }
    pipe = latency_us != NULL ? popen("cut -d' ' -f3 build/bench/pgbench_log.*", "r") : NULL;
    while (pipe != NULL && fgets(line, sizeof(line), pipe) != NULL) {
        histogram_add(latency_us, strtoll(line, NULL, 10));
    }
    if (pipe != NULL) {
        (void)pclose(pipe);
    }
    return tps;
}

struct bulk {
    const struct bench *bench;
    int64_t first_version;
    int64_t rows;
    int64_t end_us;
    pthread_t thread;
};

static void fill_bulk(struct pg_array *a, int64_t first, char *texts) {
    static const enum pg_type types[BULK_COLUMNS] = {
        PG_UUID, PG_TEXT, PG_INT8, PG_TEXT, PG_JSON, PG_TEXT, PG_TEXT, PG_TEXT, PG_TIMESTAMPTZ};

    for (size_t i = 0; i < BULK_COLUMNS; i++) {
        pg_array_begin(&a[i], types[i]);
    }
    for (int64_t i = 0; i < BULK_ROWS; i++) {
        const int64_t version = first + i;
        struct uuid id = {{0}};
        for (unsigned b = 0; b < 8; b++) {
            id.bytes[b] = (uint8_t)(version >> (56 - 8 * b));
        }
        pg_array_uuid(&a[0], &id);
        (void)snprintf(texts, 256, "account-%d", (int)(version * 7919 % ACCOUNTS));
        pg_array_text(&a[1], str_from(texts));
        pg_array_i64(&a[2], version);
        pg_array_text(&a[3], STR("MoneyDeposited"));
        (void)snprintf(texts, 256, "{\"amount_minor\":%d,\"balance_minor\":%" PRId64 "}",
                       (int)(version % 90000), version);
        pg_array_text(&a[4], str_from(texts));
        (void)snprintf(texts, 256, "%036" PRId64, version);
        pg_array_text(&a[5], str_from(texts));
        pg_array_text(&a[6], STR("Deposit"));
        pg_array_text(&a[7], STR("account"));
        pg_array_time(&a[8], clock_wall_us());
    }
    for (size_t i = 0; i < BULK_COLUMNS; i++) {
        pg_array_end(&a[i]);
    }
}

static void *bulk_main(void *arg) {
    static const char sql[] =
        "INSERT INTO bench.events (event_id, stream_id, version, event_type, payload,"
        " correlation_id, command, aggregate_type, recorded_at, schema_version)"
        " SELECT *, 1 FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::json[],"
        " $6::text[], $7::text[], $8::text[], $9::timestamptz[])";
    struct bulk *bulk = arg;
    struct pg_array arrays[BULK_COLUMNS];
    char text[256];
    PGconn *pg = connect_admin(bulk->bench);

    for (size_t i = 0; i < BULK_COLUMNS; i++) {
        pg_array_init(&arrays[i]);
    }
    execute(pg, "SET synchronous_commit = on");
    PQclear(PQprepare(pg, "bulk", sql, 0, NULL));
    while (clock_monotonic_us() < bulk->end_us) {
        const char *values[BULK_COLUMNS];
        int lengths[BULK_COLUMNS];
        int formats[BULK_COLUMNS];

        fill_bulk(arrays, bulk->first_version + bulk->rows, text);
        for (size_t i = 0; i < BULK_COLUMNS; i++) {
            values[i] = arrays[i].buf.ptr;
            lengths[i] = (int)arrays[i].buf.len;
            formats[i] = 1;
        }
        PGresult *result = PQexecPrepared(pg, "bulk", BULK_COLUMNS, values, lengths, formats, 0);
        if (PQresultStatus(result) != PGRES_COMMAND_OK) {
            give_up("bulk insert", PQerrorMessage(pg));
        }
        PQclear(result);
        bulk->rows += BULK_ROWS;
    }
    for (size_t i = 0; i < BULK_COLUMNS; i++) {
        pg_array_release(&arrays[i]);
    }
    PQfinish(pg);
    return NULL;
}

static double run_bulk(struct bench *bench) {
    struct bulk bulks[BULK_CONNECTIONS] = {0};
    const int64_t begun_us = clock_monotonic_us();
    int64_t rows = 0;

    bench->runs++;
    for (int i = 0; i < BULK_CONNECTIONS; i++) {
        bulks[i].bench = bench;
        bulks[i].first_version = (int64_t)bench->runs * 100000000 + (int64_t)i * 50000000;
        bulks[i].end_us = begun_us + (int64_t)(bench->seconds * 1e6);
        if (pthread_create(&bulks[i].thread, NULL, bulk_main, &bulks[i]) != 0) {
            give_up("bulk insert", "no thread");
        }
    }
    for (int i = 0; i < BULK_CONNECTIONS; i++) {
        (void)pthread_join(bulks[i].thread, NULL);
        rows += bulks[i].rows;
    }
    return (double)rows / ((double)(clock_monotonic_us() - begun_us) / 1e6);
}

/* --- HTTP --- */

struct cpu {
    double api, postgres, generator;
};

static struct cpu cpu_now(const struct bench *bench) {
    return (struct cpu){bench_cpu_seconds(bench->api, false),
                        bench_cpu_seconds(bench->postgres, true),
                        bench_cpu_seconds(getpid(), false)};
}

static struct load_options deposits(const struct bench *bench) {
    return (struct load_options){.host = "127.0.0.1",
                                 .port = bench->port,
                                 .kind = LOAD_DEPOSIT,
                                 .accounts = bench->accounts,
                                 .account_count = ACCOUNTS,
                                 .connections = CONNECTIONS,
                                 .seconds = bench->seconds,
                                 .warm_up_seconds = 0.5};
}

static void check(const struct bench *bench, const char *what) {
    const struct load_result *r = bench->result;

    if (r->other > 0 || r->broken > 0 || r->ok == 0) {
        (void)fprintf(stderr,
                      "bench: %s: %" PRIu64 " ok, %" PRIu64 " odd answers, %" PRIu64 " broken\n",
                      what, r->ok, r->other, r->broken);
        exit(1);
    }
}

static double run_load(struct bench *bench, struct load_options options, const char *what,
                       bool keys) {
    char prefix[64];

    (void)snprintf(prefix, sizeof(prefix), "%d-%d-", (int)getpid(), ++bench->runs);
    if (keys) {
        options.key_prefix = prefix;
    }
    if (!load_run(&options, bench->result)) {
        give_up(what, "the load could not be sent");
    }
    check(bench, what);
    return (double)bench->result->ok / bench->result->seconds;
}

static void open_accounts(struct bench *bench) {
    struct load_options options = deposits(bench);

    options.kind = LOAD_OPEN_ACCOUNT;
    options.seconds = 60;
    options.warm_up_seconds = 0;
    (void)run_load(bench, options, "opening accounts", false);
    if (bench->result->ok != ACCOUNTS) {
        give_up("opening accounts", "not all were opened");
    }
}

static void sample_cpu(struct bench *bench, const struct cpu *before) {
    const struct cpu now = cpu_now(bench);
    /* The warm-up is in the CPU time too. */
    const double done = (double)bench->result->ok * (bench->seconds + 0.5) / bench->seconds;

    bench_sample(&bench->report, "c_cpu_command_api", "µs/cmd",
                 (now.api - before->api) * 1e6 / done);
    bench_sample(&bench->report, "c_cpu_postgresql", "µs/cmd",
                 (now.postgres - before->postgres) * 1e6 / done);
    bench_sample(&bench->report, "c_cpu_generator", "µs/cmd",
                 (now.generator - before->generator) * 1e6 / done);
}

static void run_one_connection(struct bench *bench) {
    struct bench_report *report = &bench->report;
    struct load_options options = deposits(bench);
    struct histogram *alone = calloc(1, sizeof(*alone));

    if (alone == NULL) {
        give_up("pgbench", "no memory");
    }
    options.connections = 1;
    (void)run_load(bench, options, "g", true);
    bench_sample(report, "g_one_connection_p50", "µs",
                 (double)histogram_at(&bench->result->latency_us, .5));
    bench_sample(report, "g_one_connection_p99", "µs",
                 (double)histogram_at(&bench->result->latency_us, .99));
    (void)run_pgbench(bench, 1, alone);
    bench_sample(report, "g_pgbench_1_client_p50", "µs", (double)histogram_at(alone, .5));
    bench_sample(report, "g_pgbench_1_client_p99", "µs", (double)histogram_at(alone, .99));
    free(alone);
}

static void run_deposits(struct bench *bench) {
    struct bench_report *report = &bench->report;
    const struct cpu before = cpu_now(bench);

    bench_sample(report, "c_deposits_with_keys", "/s", run_load(bench, deposits(bench), "c", true));
    sample_cpu(bench, &before);
    bench_sample(report, "c_full_p50", "µs", (double)histogram_at(&bench->result->latency_us, .5));
    bench_sample(report, "c_full_p99", "µs", (double)histogram_at(&bench->result->latency_us, .99));
}

static bool wanted(char part) {
    const char *parts = getenv("BENCH_PARTS");

    return parts == NULL || strchr(parts, part) != NULL;
}

static void run_round(struct bench *bench) {
    struct bench_report *report = &bench->report;
    struct load_options options = deposits(bench);

    if (wanted('a')) {
        bench_sample(report, "a_pgbench_32_clients", "/s", run_pgbench(bench, 32, NULL));
    }
    if (wanted('c')) {
        run_deposits(bench);
    }
    if (wanted('b')) {
        bench_sample(report, "b_bulk_1000", "/s", run_bulk(bench));
    }
    if (wanted('d')) {
        bench_sample(report, "d_deposits_without_keys", "/s", run_load(bench, options, "d", false));
    }
    options.zipf = 1.0;
    if (wanted('e')) {
        bench_sample(report, "e_zipf", "/s", run_load(bench, options, "e", true));
    }
    options.zipf = 0;
    options.account_count = 1;
    if (wanted('f')) {
        bench_sample(report, "f_one_account", "/s", run_load(bench, options, "f", true));
    }
    if (wanted('g')) {
        run_one_connection(bench);
    }
}

static void run_latency(struct bench *bench) {
    struct load_options options = deposits(bench);

    options.rate_per_s = 0.7 * bench_median(&bench->report, "c_deposits_with_keys");
    options.seconds = 2 * bench->seconds;
    (void)run_load(bench, options, "l", true);
    const struct histogram *latency_us = &bench->result->latency_us;
    bench_sample(&bench->report, "l_rate_70_percent", "/s",
                 (double)bench->result->ok / bench->result->seconds);
    bench_sample(&bench->report, "l_p50", "µs", (double)histogram_at(latency_us, .5));
    bench_sample(&bench->report, "l_p99", "µs", (double)histogram_at(latency_us, .99));
    bench_sample(&bench->report, "l_p999", "µs", (double)histogram_at(latency_us, .999));
}

static void run_overload(struct bench *bench) {
    struct bench_report *report = &bench->report;
    struct load_options options = deposits(bench);
    const double seconds = bench_env_number("BENCH_OVERLOAD_SECONDS", 20);
    const int slices = 5;

    options.rate_per_s =
        bench_env_number("BENCH_OVERLOAD_RATE", 2 * bench_median(report, "c_deposits_with_keys"));
    options.connections = OVERLOAD_CONNECTIONS;
    options.seconds = seconds / slices;
    bench_sample(report, "h_rss_before", "KiB", (double)bench_rss_kib(bench->api));
    for (int i = 0; i < slices; i++) {
        const double done = run_load(bench, options, "h", true);
        const struct load_result *r = bench->result;
        bench_sample(report, "h_offered", "/s", options.rate_per_s);
        bench_sample(report, "h_accepted", "/s", done);
        bench_sample(report, "h_refused_503", "/s", (double)r->unavailable / r->seconds);
        bench_sample(report, "h_unsent", "/s", (double)r->unsent / r->seconds);
        bench_sample(report, "h_refused_p50", "µs",
                     (double)histogram_at(&r->unavailable_latency_us, .5));
        bench_sample(report, "h_accepted_p99", "µs", (double)histogram_at(&r->latency_us, .99));
        bench_sample(report, "h_rss", "KiB", (double)bench_rss_kib(bench->api));
    }
    options = deposits(bench);
    bench_sample(report, "h_after", "/s", run_load(bench, options, "after h", true));
}

static void start_api(struct bench *bench) {
    bench->api = bench_start_command_api(bench->port);
    if (bench->api == 0) {
        give_up("daybook-command-api", "not ready, see build/bench/command-api.log");
    }
}

static void conclude(struct bench *bench) {
    static const char a[] = "a_pgbench_32_clients";
    static const char b[] = "b_bulk_1000";
    static const char c[] = "c_deposits_with_keys";
    struct bench_report *report = &bench->report;

    bench_ratio(report, "write_keys_vs_pgbench", c, a, 2.0);
    bench_ratio(report, "write_no_keys_vs_pgbench", "d_deposits_without_keys", a, 0);
    bench_ratio(report, "write_zipf_vs_pgbench", "e_zipf", a, 0);
    bench_ratio(report, "write_hot_account_vs_pgbench", "f_one_account", a, 1.0);
    bench_ratio(report, "write_keys_vs_bulk", c, b, 0.35);
    bench_ratio(report, "write_latency_p50_vs_pgbench_1_client", "g_one_connection_p50",
                "g_pgbench_1_client_p50", -2.5);
    bench_ratio(report, "write_overload_accepted_vs_sustained", "h_accepted", c, 0);
    bench_ratio(report, "write_after_overload_vs_before", "h_after", c, 0);
}

int main(void) {
    static struct bench bench;
    const int rounds = (int)bench_env_number("BENCH_ROUNDS", 3);

    bench.report.benchmark = "write";
    (void)snprintf(bench.accounts, sizeof(bench.accounts), "bench-%d-", (int)getpid());
    bench.port = (uint16_t)bench_env_number("BENCH_PORT", 18181);
    bench.postgres = (pid_t)strtol(bench_env("BENCH_POSTGRES_PID"), NULL, 10);
    bench.admin_url = bench_env("DAYBOOK_TEST_WRITE_ADMIN_URL");
    bench.pgbench = bench_env("BENCH_PGBENCH");
    bench.seconds = bench_env_number("BENCH_SECONDS", 4);
    bench.result = calloc(1, sizeof(*bench.result));
    if (bench.result == NULL) {
        give_up("start", "no memory");
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    make_table(&bench);
    start_api(&bench);
    open_accounts(&bench);
    for (int i = 0; i < rounds; i++) {
        (void)printf("round %d of %d\n", i + 1, rounds);
        run_round(&bench);
    }
    if (wanted('c') && wanted('l')) {
        run_latency(&bench);
    }
    if (wanted('c') && wanted('h')) {
        run_overload(&bench);
    }
    bench_stop(bench.api);
    conclude(&bench);
    free(bench.result);
    return bench_report_end(&bench.report) ? 0 : 1;
}
