/*
 * e of relay_bench.c. Deposits through the command API, as users make them: in turns without and
 * with a relay attached, on the same servers, as fast as they go and at a fixed rate. As fast as
 * they go all processors are busy, so what relay, walsender and broker use is missing elsewhere;
 * the figures say how much each uses.
 */
#include "tests/bench/relay_stage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/bench/bench_process.h"
#include "tests/bench/load.h"

enum { ACCOUNTS = 10000, CONNECTIONS = 64, CAUGHT_UP_LIMIT_S = 120 };

static const char slot[] = "bench_e";
static const char topic[] = "bench-e";

struct appends {
    struct stage *stage;
    pid_t api;
    uint16_t port;
    double rate_per_s;
    struct load_result *result;
};

/* What a window with the relay is to be told apart from one without, by name. */
struct names {
    const char *rate, *p50, *p99;
};

/* --- the command API --- */

static void start_api(struct appends *appends) {
    appends->api = bench_start_command_api(appends->port);
    if (appends->api == 0) {
        stage_give_up("daybook-command-api", "not ready, see build/bench/command-api.log");
    }
}

static void run_load(struct appends *appends, enum load_kind kind, double rate_per_s) {
    struct stage *stage = appends->stage;
    struct load_result *result = appends->result;
    char accounts[64];
    char keys[64];

    (void)snprintf(accounts, sizeof(accounts), "append-%d-", (int)getpid());
    (void)snprintf(keys, sizeof(keys), "%d-%d-", (int)getpid(), ++stage->runs);
    const struct load_options options = {.host = "127.0.0.1",
                                         .port = appends->port,
                                         .kind = kind,
                                         .accounts = accounts,
                                         .account_count = ACCOUNTS,
                                         .key_prefix = keys,
                                         .connections = CONNECTIONS,
                                         .rate_per_s = rate_per_s,
                                         .seconds = kind == LOAD_DEPOSIT ? stage->seconds : 60,
                                         .warm_up_seconds = kind == LOAD_DEPOSIT ? 0.5 : 0};
    if (!load_run(&options, result) || result->other > 0 || result->broken > 0 || result->ok == 0) {
        stage_give_up("deposits", "the load could not be sent, or was not accepted");
    }
}

/* --- windows --- */

struct cpu {
    double relay, walsender, broker, postgres, api, generator;
};

static struct cpu cpu_now(const struct appends *appends) {
    const struct stage *stage = appends->stage;
    const pid_t walsender = (pid_t)strtol(
        stage_sql(stage->pg, "SELECT pid FROM pg_stat_replication LIMIT 1"), NULL, 10);

    return (struct cpu){
        .relay = stage->relay > 0 ? bench_cpu_seconds(stage->relay, false) : 0,
        .walsender = walsender > 0 ? bench_cpu_seconds(walsender, false) : 0,
        .broker = bench_cpu_seconds(stage->kafka, false),
        .postgres = bench_cpu_seconds(stage->postgres, true),
        .api = bench_cpu_seconds(appends->api, false),
        .generator = bench_cpu_seconds(getpid(), false),
    };
}

static void sample_cpu(struct appends *appends, const struct cpu *a, const struct cpu *b) {
    struct bench_report *report = &appends->stage->report;
    /* The warm-up is in the CPU time too. */
    const double seconds = appends->stage->seconds;
    const double scale = 1e6 / ((double)appends->result->ok * (seconds + 0.5) / seconds);
    const double walsender = b->walsender - a->walsender;

    bench_sample(report, "e_cpu_relay", "µs/event", (b->relay - a->relay) * scale);
    bench_sample(report, "e_cpu_walsender", "µs/event", walsender * scale);
    bench_sample(report, "e_cpu_broker", "µs/event", (b->broker - a->broker) * scale);
    bench_sample(report, "e_cpu_postgresql", "µs/event",
                 (b->postgres - a->postgres - walsender) * scale);
    bench_sample(report, "e_cpu_command_api", "µs/event", (b->api - a->api) * scale);
    bench_sample(report, "e_cpu_generator", "µs/event", (b->generator - a->generator) * scale);
}

/* Until all that is in the log is in Kafka. */
static void await_caught_up(const struct appends *appends) {
    const struct stage *stage = appends->stage;
    const int64_t deadline_us = clock_monotonic_us() + CAUGHT_UP_LIMIT_S * INT64_C(1000000);
    char text[256];
    char end[64];

    (void)snprintf(end, sizeof(end), "%s", stage_sql(stage->pg, "SELECT pg_current_wal_lsn()"));
    (void)snprintf(text, sizeof(text),
                   "SELECT 1 FROM pg_replication_slots WHERE slot_name = '%s' AND"
                   " confirmed_flush_lsn >= '%s'",
                   slot, end);
    while (stage_sql(stage->pg, text)[0] == '\0') {
        if (clock_monotonic_us() > deadline_us) {
            stage_give_up("daybook-relay", "did not catch up");
        }
        stage_pause_us(20000);
    }
}

static void measure(struct appends *appends, double rate_per_s, const struct names *names) {
    struct bench_report *report = &appends->stage->report;

    run_load(appends, LOAD_DEPOSIT, rate_per_s);
    bench_sample(report, names->rate, "/s", (double)appends->result->ok / appends->result->seconds);
    bench_sample(report, names->p50, "ms",
                 (double)histogram_at(&appends->result->latency_us, .5) / 1000);
    bench_sample(report, names->p99, "ms",
                 (double)histogram_at(&appends->result->latency_us, .99) / 1000);
}

static void run_alone(struct appends *appends) {
    static const struct names full = {"e_alone", "e_alone_p50", "e_alone_p99"};
    static const struct names paced = {"e_paced_alone", "e_paced_alone_p50", "e_paced_alone_p99"};

    measure(appends, 0, &full);
    measure(appends, appends->rate_per_s, &paced);
}

static void run_with_relay(struct appends *appends) {
    static const struct names full = {"e_relay", "e_relay_p50", "e_relay_p99"};
    static const struct names paced = {"e_paced_relay", "e_paced_relay_p50", "e_paced_relay_p99"};
    struct stage *stage = appends->stage;

    (void)stage_sql(stage->pg, "SELECT pg_create_logical_replication_slot('bench_e', 'pgoutput')");
    stage_start_relay(stage, slot, topic);
    const int64_t before = stage_records(stage, topic);
    const struct cpu from = cpu_now(appends);
    measure(appends, 0, &full);
    const struct cpu to = cpu_now(appends);
    sample_cpu(appends, &from, &to);
    bench_sample(&stage->report, "e_published_meanwhile", "/s",
                 (double)(stage_records(stage, topic) - before) / (stage->seconds + 0.5));
    await_caught_up(appends);
    measure(appends, appends->rate_per_s, &paced);
    stage_stop_relay(stage, slot);
}

void relay_appends_run(struct stage *stage) {
    struct appends appends = {.stage = stage,
                              .port = (uint16_t)(stage->port + 1),
                              .rate_per_s = bench_env_number("BENCH_APPEND_RATE", 10000),
                              .result = calloc(1, sizeof(*appends.result))};

    if (appends.result == NULL) {
        stage_give_up("start", "no memory");
    }
    start_api(&appends);
    run_load(&appends, LOAD_OPEN_ACCOUNT, 0);
    for (int i = 0; i < stage->rounds; i++) {
        if (i % 2 == 0) {
            run_alone(&appends);
        }
        run_with_relay(&appends);
        if (i % 2 == 1) {
            run_alone(&appends);
        }
    }
    bench_stop(appends.api);
    free(appends.result);
}
