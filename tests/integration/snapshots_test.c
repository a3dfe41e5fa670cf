/*
 * Snapshots beside the real log: a long stream is loaded from its snapshot, and one that can't be
 * used is ignored with a warning and replaced. What is loaded is counted by the service itself.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../support/command.h"
#include "../support/environment.h"
#include "../support/event_log.h"
#include "../support/replica.h"

enum { LONG = 100000, SHORT = 100, EVERY = 50 };

static struct replica replica;

static void start(void) {
    replica_start(&replica, &(struct replica_options){
                                .settings = {"DAYBOOK_SHARDS=1", "DAYBOOK_SNAPSHOT_EVERY=50"}});
}

static void stop(void) {
    if (replica_is_running(&replica)) {
        replica_stop(&replica);
    }
}

TestSuite(snapshots, .init = start, .fini = stop, .timeout = 120);

static double now_ms(void) {
    struct timespec at;

    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e3 + (double)at.tv_nsec / 1e6;
}

static struct reply deposit(const char *id) {
    const struct command command = {
        .base = replica.base, .stream = id, .action = "deposit", .amount_minor = 100};

    return command_expect(&command, 200);
}

/* As other writers leave it: deposits of 1.00 up to this version. */
static void write_up_to(const char *id, int version) {
    char sql[1024];

    (void)snprintf(
        sql, sizeof(sql),
        "INSERT INTO daybook.events (event_id, aggregate_type, stream_id, version, event_type,"
        " schema_version, payload, recorded_at)"
        " SELECT overlay(gen_random_uuid()::text PLACING '7' FROM 15)::uuid, 'account', '%s', v,"
        " 'MoneyDeposited', 1, json_build_object('amount_minor', 100, 'balance_minor',"
        " (v - 1) * 100, 'currency', 'USD'), now() FROM generate_series(2, %d) v",
        id, version);
    log_execute(sql);
}

static long long snapshot_version(const char *id) {
    return log_number("SELECT coalesce(max(version), 0) FROM daybook.snapshots"
                      " WHERE stream_id = $1",
                      id, NULL);
}

static void wait_for_snapshot(const char *id, long long version) {
    const double deadline_ms = now_ms() + 10000;

    while (snapshot_version(id) != version) {
        cr_assert_lt(now_ms(), deadline_ms, "no snapshot of %s at %lld, but at %lld", id, version,
                     snapshot_version(id));
        (void)usleep(5000);
    }
}

static double loaded(void) {
    return replica_metric(&replica, "daybook_events_loaded_total ");
}

/* What the first command on the account costs a service that has just started. */
static double first_command_ms(const char *id, double *events) {
    replica_stop(&replica);
    start();
    (void)command_open(replica.base, "warm");
    const double before = loaded();
    const double begun_ms = now_ms();
    (void)deposit(id);
    const double took_ms = now_ms() - begun_ms;
    *events = loaded() - before;
    return took_ms;
}

static bool log_says(const char *text) {
    static char content[1 << 20];
    FILE *file = fopen(replica.log_path, "re");

    cr_assert_not_null(file);
    const size_t len = fread(content, 1, sizeof(content) - 1, file);
    content[len] = '\0';
    (void)fclose(file);
    return strstr(content, text) != NULL;
}

Test(snapshots, a_hundred_thousand_events_load_like_a_hundred) {
    const char *small = command_open(replica.base, "short");
    const char *large = command_open(replica.base, "long");
    double events = 0;

    write_up_to(small, SHORT);
    write_up_to(large, LONG);
    const double whole_ms = first_command_ms(large, &events);
    cr_assert_eq(events, LONG, "%g", events);
    wait_for_snapshot(large, LONG + 1);
    (void)deposit(small);
    wait_for_snapshot(small, SHORT + 1);

    const double large_ms = first_command_ms(large, &events);
    cr_assert_leq(events, EVERY);
    const double small_ms = first_command_ms(small, &events);
    cr_assert_leq(events, EVERY);
    (void)fprintf(stderr,
                  "first command on %d events: %.1f ms from the first event, %.1f ms from the"
                  " snapshot; on %d events %.1f ms\n",
                  LONG, whole_ms, large_ms, SHORT, small_ms);
    cr_assert_eq(deposit(large).balance_minor, (LONG - 1) * 100 + 300);
}

Test(snapshots, one_is_written_every_n_events) {
    const char *id = command_open(replica.base, "n");

    for (int i = 0; i < 2 * EVERY; i++) {
        (void)deposit(id);
    }
    wait_for_snapshot(id, 2 * EVERY);
    cr_assert_leq(snapshot_version(id), 2 * EVERY + 1);
    cr_assert_eq(
        log_number("SELECT count(*) FROM daybook.snapshots WHERE stream_id = $1", id, NULL), 1);
}

/* An account of SHORT events with a snapshot, the service stopped. */
static const char *with_snapshot(const char *prefix) {
    const char *id = command_open(replica.base, prefix);

    write_up_to(id, SHORT);
    (void)deposit(id);
    wait_for_snapshot(id, SHORT + 1);
    replica_stop(&replica);
    return id;
}

static void change(const char *id, const char *assignment) {
    char sql[512];

    (void)snprintf(sql, sizeof(sql), "UPDATE daybook.snapshots SET %s WHERE stream_id = '%s'",
                   assignment, id);
    log_execute(sql);
}

static void expect_ignored_and_replaced(const char *id, const char *reason) {
    char text[160];

    start();
    cr_assert_eq(deposit(id).balance_minor, SHORT * 100 + 100);
    cr_assert_eq(loaded(), SHORT + 1, "%g", loaded());
    (void)snprintf(text, sizeof(text), "daybook_snapshots_ignored_total{reason=\"%s\"}", reason);
    cr_assert_eq(replica_metric(&replica, text), 1);
    cr_assert(log_says("snapshot.ignored") && log_says(reason) && log_says(id));
    /* The new one is right: it is taken up by the next start. */
    wait_for_snapshot(id, SHORT + 2);
    replica_stop(&replica);
    start();
    cr_assert_eq(deposit(id).balance_minor, SHORT * 100 + 200);
    cr_assert_eq(loaded(), 0, "%g", loaded());
    cr_assert_eq(replica_metric(&replica, "daybook_snapshots_used_total "), 1);
}

Test(snapshots, one_of_another_layout_is_replaced) {
    const char *id = with_snapshot("layout");

    change(id, "layout = layout + 1, version = 50");
    expect_ignored_and_replaced(id, "layout");
}

Test(snapshots, one_of_the_future_is_replaced) {
    const char *id = with_snapshot("future");

    change(id, "version = version + 1000000");
    expect_ignored_and_replaced(id, "other_log");
}

Test(snapshots, one_of_another_history_is_replaced) {
    const char *id = with_snapshot("history");

    change(id, "event_id = gen_random_uuid(), version = 50");
    expect_ignored_and_replaced(id, "other_log");
}

Test(snapshots, a_damaged_one_is_replaced) {
    const char *id = with_snapshot("damaged");

    change(id, "state = replace(state, '0', '1')");
    expect_ignored_and_replaced(id, "damaged");
}

Test(snapshots, commands_go_on_where_none_can_be_written) {
    const char *id = command_open(replica.base, "gone");
    const double deadline_ms = now_ms() + 10000;

    log_execute("REVOKE INSERT, UPDATE ON daybook.snapshots FROM daybook_command");
    for (int i = 0; i < 2 * EVERY; i++) {
        (void)deposit(id);
    }
    const char *other = command_open(replica.base, "other");
    const struct reply reply = deposit(other);
    while (replica_metric(&replica, "daybook_snapshots_dropped_total ") == 0 &&
           now_ms() < deadline_ms) {
        (void)usleep(5000);
    }
    log_execute("GRANT INSERT, UPDATE ON daybook.snapshots TO daybook_command");
    cr_assert_gt(replica_metric(&replica, "daybook_snapshots_dropped_total "), 0);
    cr_assert(log_says("snapshots.not_written"));
    cr_assert_eq(reply.version, 2);
    cr_assert_eq(log_expect_sound(id), 2 * EVERY + 1);
}

/* A stream too long for one page of the log, without a snapshot. */
Test(snapshots, a_stream_of_several_pages_is_loaded_whole) {
    const char *id = command_open(replica.base, "pages");
    double events = 0;

    write_up_to(id, 2 * LONG + 10);
    (void)first_command_ms(id, &events);
    cr_assert_eq(events, 2 * LONG + 10, "%g", events);
    cr_assert_eq(deposit(id).version, 2 * LONG + 12);
}
