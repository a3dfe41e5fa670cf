/*
 * The relay beside what bounds it and what it replaces, on one PostgreSQL and one broker:
 *
 *   a  pg_recvlogical with pgoutput to /dev/null, draining a backlog
 *   b  the relay draining the same backlog into Kafka, acknowledged
 *   c  from a commit's acknowledgement to a waiting consumer, through the relay, at 1,000 and at
 *      10,000 events a second
 *   d  the same through a poller that looks every 100 ms
 *   e  deposits through the command API, without and with the relay attached: as fast as they go
 *      (append_with_relay) and at a fixed rate (append_with_relay_paced)
 *
 * a and b in turns, several rounds, each on a copy of the same slot; medians count. BENCH_ROUNDS
 * (3), BENCH_EVENTS (1,000,000), BENCH_SECONDS (8) of each latency, after a second that does not
 * count, and of e; BENCH_APPEND_RATE (10,000/s); BENCH_PARTS: only these, by letter (abcde).
 */
#include "tests/bench/relay_stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/bench/bench_process.h"

enum { EVENTS_PER_TRANSACTION = 100, LIMIT_S = 120 };

/* --- a, b: a backlog --- */

static void make_backlog(struct stage *stage) {
    char text[STAGE_LINE_BYTES];

    (void)stage_sql(stage->pg, "SELECT pg_create_logical_replication_slot('bench', 'pgoutput')");
    (void)stage_sql(stage->pg, "SET synchronous_commit = off");
    for (long n = 0; n < stage->events; n += EVENTS_PER_TRANSACTION) {
        (void)snprintf(text, sizeof(text), STAGE_INSERT_EVENTS, "backlog-", 10000, 10000, n,
                       n + EVENTS_PER_TRANSACTION - 1);
        (void)stage_sql(stage->pg, text);
    }
    (void)stage_sql(stage->pg, "SET synchronous_commit = on");
    (void)stage_sql(stage->pg, "CHECKPOINT");
}

static void copy_slot(const struct stage *stage, const char *name) {
    char text[256];

    (void)snprintf(text, sizeof(text), "SELECT pg_copy_logical_replication_slot('bench', '%s')",
                   name);
    (void)stage_sql(stage->pg, text);
}

static void drain_with_recvlogical(struct stage *stage) {
    char end[64];
    char command[STAGE_LINE_BYTES];

    copy_slot(stage, "bench_a");
    (void)snprintf(end, sizeof(end), "%s", stage_sql(stage->pg, "SELECT pg_current_wal_lsn()"));
    /* Something behind the end: it stops at the first message past it. */
    (void)stage_sql(stage->pg, "SELECT pg_logical_emit_message(true, 'bench', 'end')");
    (void)snprintf(command, sizeof(command),
                   "'%s' -d '%s' -S bench_a --start --endpos=%s -f /dev/null -o proto_version=1"
                   " -o publication_names=daybook_events",
                   bench_env("BENCH_RECVLOGICAL"), stage->url, end);
    const int64_t begun_us = clock_monotonic_us();
    if (system(command) != 0) {
        stage_give_up("pg_recvlogical", "failed");
    }
    const double took_s = (double)(clock_monotonic_us() - begun_us) / 1e6;
    bench_sample(&stage->report, "a_recvlogical", "/s", (double)stage->events / took_s);
    while (stage_slot_exists(stage, "bench_a")) {
        (void)stage_sql(stage->pg,
                        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                        " WHERE slot_name = 'bench_a' AND NOT active");
    }
}

static void drain_with_relay(struct stage *stage) {
    char topic[64];

    (void)snprintf(topic, sizeof(topic), "bench-b-%d-%d", (int)getpid(), ++stage->runs);
    copy_slot(stage, "bench_b");
    stage_start_relay(stage, "bench_b", topic);
    const int64_t begun_us = clock_monotonic_us();
    const int64_t already = stage_records(stage, topic);
    int64_t count = already;
    while (count < stage->events) {
        if (clock_monotonic_us() - begun_us > LIMIT_S * INT64_C(1000000)) {
            stage_give_up("daybook-relay", "did not drain the backlog");
        }
        stage_pause_us(20000);
        count = stage_records(stage, topic);
    }
    const double took_s = (double)(clock_monotonic_us() - begun_us) / 1e6;
    bench_sample(&stage->report, "b_relay", "/s", (double)(count - already) / took_s);
    bench_sample(&stage->report, "b_relay_cpu", "µs/event",
                 bench_cpu_seconds(stage->relay, false) * 1e6 / (double)stage->events);
    bench_sample(&stage->report, "b_relay_rss", "KiB", (double)bench_rss_kib(stage->relay));
    stage_stop_relay(stage, "bench_b");
}

static void run_drains(struct stage *stage) {
    make_backlog(stage);
    for (int i = 0; i < stage->rounds; i++) {
        (void)printf("round %d of %d\n", i + 1, stage->rounds);
        drain_with_recvlogical(stage);
        drain_with_relay(stage);
    }
    (void)stage_sql(stage->pg, "SELECT pg_drop_replication_slot('bench')");
}

static void conclude(struct stage *stage) {
    struct bench_report *report = &stage->report;

    /* What a human would call at once: milliseconds, so these two depend on the machine. */
    bench_sample(report, "wanted_p50", "ms", 5);
    bench_sample(report, "wanted_p99", "ms", 25);
    bench_ratio(report, "relay_drain_vs_recvlogical", "b_relay", "a_recvlogical", 0.5);
    bench_ratio(report, "relay_p50_at_1000_vs_5_ms", "c_relay_1000_p50", "wanted_p50", -1);
    bench_ratio(report, "relay_p99_at_1000_vs_25_ms", "c_relay_1000_p99", "wanted_p99", -1);
    bench_ratio(report, "relay_p50_at_10000_vs_5_ms", "c_relay_10000_p50", "wanted_p50", 0);
    bench_ratio(report, "poller_p50_vs_relay_p50", "d_poller_1000_p50", "c_relay_1000_p50", 10);
    bench_ratio(report, "append_with_relay", "e_relay", "e_alone", 0.9);
    bench_ratio(report, "append_with_relay_paced", "e_paced_relay", "e_paced_alone", 0.9);
    bench_ratio(report, "append_with_relay_paced_p50", "e_paced_relay_p50", "e_paced_alone_p50", 0);
    bench_ratio(report, "append_with_relay_paced_p99", "e_paced_relay_p99", "e_paced_alone_p99", 0);
}

/* BENCH_PARTS has one of the letters, or is not set. */
static bool wanted(const char *letters) {
    const char *parts = getenv("BENCH_PARTS");

    return parts == NULL || strpbrk(parts, letters) != NULL;
}

int main(void) {
    static struct stage stage;

    stage.report.benchmark = "relay";
    stage.port = (uint16_t)bench_env_number("BENCH_PORT", 18181);
    stage.url = bench_env("DAYBOOK_TEST_SUPERUSER_URL");
    stage.brokers = bench_env("DAYBOOK_TEST_KAFKA_BROKERS");
    stage.events = (long)bench_env_number("BENCH_EVENTS", 1000000);
    stage.seconds = bench_env_number("BENCH_SECONDS", 8);
    stage.pg = stage_connect(&stage);
    stage.admin = stage_kafka(&stage, RD_KAFKA_PRODUCER);
    setvbuf(stdout, NULL, _IOLBF, 0);
    stage.rounds = (int)bench_env_number("BENCH_ROUNDS", 3);
    stage.postgres = (pid_t)strtol(bench_env("BENCH_POSTGRES_PID"), NULL, 10);
    stage.kafka = (pid_t)strtol(bench_env("BENCH_KAFKA_PID"), NULL, 10);
    if (wanted("ab")) {
        run_drains(&stage);
    }
    if (wanted("cd")) {
        relay_trips_run(&stage);
    }
    if (wanted("e")) {
        relay_appends_run(&stage);
    }
    conclude(&stage);
    rd_kafka_destroy(stage.admin);
    PQfinish(stage.pg);
    return bench_report_end(&stage.report) ? 0 : 1;
}
