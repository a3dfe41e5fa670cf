/* The relay's place in the log against real servers: made at the first start, lost while it runs or
 * in a restore, moved on by others' log. Each test has relays, a slot and a topic of its own. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../support/environment.h"
#include "../support/relay_process.h"
#include "../support/shell.h"
#include "../support/topic.h"

enum { LIMIT_MS = 60000, PORT = 17984, RATE = 2000, URL_BYTES = 512, OUTPUT_BYTES = 8192 };

static struct relay_process first;
static struct relay_process second;
static char other[64]; /* a database of the test's own */

static void set_up(void) {
    (void)snprintf(other, sizeof(other), "%s", fresh_name("other"));
    first = relay_fresh("place", PORT);
    second = first;
    second.port++;
}

static void tear_down(void) {
    relay_signal(&first, SIGCONT);
    relay_signal(&first, SIGTERM);
    relay_signal(&second, SIGTERM);
    relay_drop_slot(first.slot);
    if (strcmp(relay_sql("SELECT count(*) FROM pg_database WHERE datname = '%s'", other), "1") ==
        0) {
        (void)relay_sql("DROP DATABASE %s WITH (FORCE)", other);
    }
}

/* The same server's address, with the test's database in it. */
static const char *url_in_other(const char *variable) {
    static char urls[4][URL_BYTES];
    static unsigned turn;
    char *url = urls[turn++ % 4];
    const char *whole = stack_environment(variable);
    const char *name = strstr(whole, "/daybook_write");

    cr_assert_not_null(name, "%s", whole);
    (void)snprintf(url, URL_BYTES, "%.*s/%s%s", (int)(name - whole), whole, other,
                   name + strlen("/daybook_write"));
    return url;
}

TestSuite(relay_places, .init = set_up, .fini = tear_down, .timeout = 240);

static double places_lost(void) {
    return relay_metric(&first, "daybook_relay_places_lost_total");
}

static void await_lost_place(double before) {
    const double until = now_seconds() + 30;

    while (places_lost() <= before) {
        cr_assert_lt(now_seconds(), until, "not noticed: %s", relay_ready(&first));
        pause_ms(20);
    }
}

/* --- the first start --- */

static void insert_backlog(const char *prefix, int events) {
    (void)relay_sql("INSERT INTO daybook.events (event_id, aggregate_type, stream_id, version,"
                    " event_type, schema_version, payload, recorded_at) SELECT gen_random_uuid(),"
                    " 'account', '%s-' || s, v, CASE v WHEN 1 THEN 'AccountCreated' ELSE"
                    " 'MoneyDeposited' END, 1, CASE v WHEN 1 THEN json_build_object('currency',"
                    " 'USD') ELSE json_build_object('amount_minor', 1, 'balance_minor', v - 1,"
                    " 'currency', 'USD') END, now() FROM generate_series(1, 10) v,"
                    " generate_series(1, %d) s",
                    prefix, events / 10);
}

Test(relay_places, ready_says_that_it_catches_up_and_why) {
    insert_backlog(fresh_id("backlog"), 60000);
    relay_start(&first, "DAYBOOK_IN_FLIGHT_MAX=100");
    cr_assert(relay_says(&first, "catching up from the events table: the slot is missing", 20000),
              "%s", relay_ready(&first));
    cr_assert_not_null(strstr(relay_ready(&first), "\"status\":\"degraded\""), "%s",
                       relay_ready(&first));
    relay_await_idle(&first, LIMIT_MS);
    cr_assert_null(strstr(relay_ready(&first), "catching up"));
    relay_expect_exact(&first, false);
}

/* When the slot is made it may be the other one that gets hold of it. */
Test(relay_places, of_two_relays_that_start_without_a_slot_one_catches_up) {
    const double until = now_seconds() + LIMIT_MS / 1000.0;

    insert_backlog(fresh_id("two"), 20000);
    struct relay_load *load = relay_load_start("two", RATE);
    relay_start(&first, "");
    relay_start(&second, "");
    const struct relay_process *holder = NULL;
    while (holder == NULL) {
        cr_assert_lt(now_seconds(), until, "%s", relay_ready(&first));
        pause_ms(50);
        if (strstr(relay_ready(&second), "standing by") != NULL &&
            strstr(relay_ready(&first), "\"status\":\"ready\"") != NULL) {
            holder = &first;
        } else if (strstr(relay_ready(&first), "standing by") != NULL &&
                   strstr(relay_ready(&second), "\"status\":\"ready\"") != NULL) {
            holder = &second;
        }
    }
    pause_ms(500);
    (void)relay_load_stop(load);
    relay_await_idle(holder, LIMIT_MS);
    cr_assert_eq(places_lost() + relay_metric(&second, "daybook_relay_places_lost_total"), 1);
    relay_expect_exact(holder, false);
}

/* --- while it runs --- */

/* It stands still for a moment, and its slot falls behind by more than it may. */
Test(relay_places, a_slot_that_is_invalidated_while_it_is_held_is_replaced) {
    relay_start(&first, "");
    relay_await_idle(&first, LIMIT_MS);
    const double before = places_lost();
    struct relay_load *load = relay_load_start("running", RATE);
    pause_ms(500);
    relay_signal(&first, SIGSTOP);
    (void)relay_sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
    (void)relay_sql("SELECT pg_reload_conf()");
    const double deadline = now_seconds() + 30;
    while (strcmp(relay_sql("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '%s'",
                            first.slot),
                  "lost") != 0) {
        cr_assert_lt(now_seconds(), deadline, "the slot is not invalidated");
        (void)relay_sql("SELECT pg_switch_wal()");
        (void)relay_sql("CHECKPOINT");
    }
    (void)relay_sql("ALTER SYSTEM RESET max_slot_wal_keep_size");
    (void)relay_sql("SELECT pg_reload_conf()");
    relay_signal(&first, SIGCONT);
    await_lost_place(before);
    (void)relay_load_stop(load);
    relay_await_idle(&first, LIMIT_MS);
    relay_expect_exact(&first, true);
}

static long long kept_from(void) {
    return strtoll(relay_sql("SELECT (confirmed_flush_lsn - '0/0')::bigint FROM"
                             " pg_replication_slots WHERE slot_name = '%s'",
                             first.slot),
                   NULL, 10);
}

static int run_in_other(char *output, const char *statement) {
    return shell(output, OUTPUT_BYTES, "psql -X -q -v ON_ERROR_STOP=1 -d '%s' -c \"%s\" 2>&1",
                 url_in_other("DAYBOOK_TEST_SUPERUSER_URL"), statement);
}

Test(relay_places, another_databases_log_moves_an_idle_slot_on) {
    char output[OUTPUT_BYTES];

    relay_start(&first, "");
    relay_await_idle(&first, LIMIT_MS);
    (void)relay_sql("CREATE DATABASE %s", other);
    const long long before = kept_from();
    cr_assert_eq(run_in_other(output, "CREATE TABLE t AS SELECT md5(n::text) FROM "
                                      "generate_series(1, 100000) n"),
                 0, "%s", output);
    const double deadline = now_seconds() + 20;
    while (kept_from() < before + 5000000) {
        cr_assert_lt(now_seconds(), deadline, "the slot stays behind");
        pause_ms(50);
    }
}

/* --- a restore --- */

/* Versions of the test's stream, each in a transaction of its own, into the test's database. */
static void append(int from, int to) {
    char output[OUTPUT_BYTES];

    cr_assert_eq(shell(output, sizeof(output),
                       "for v in $(seq %d %d); do echo \"INSERT INTO daybook.events (event_id,"
                       " aggregate_type, stream_id, version, event_type, schema_version, payload,"
                       " recorded_at) VALUES (gen_random_uuid(), 'account', 'restored', $v,"
                       " CASE $v WHEN 1 THEN 'AccountCreated' ELSE 'MoneyDeposited' END, 1,"
                       " '{}', now());\"; done | psql -X -q -v ON_ERROR_STOP=1 -d '%s' 2>&1",
                       from, to, url_in_other("DAYBOOK_TEST_SUPERUSER_URL")),
                 0, "%s", output);
}

static void make_other(void) {
    char output[OUTPUT_BYTES];
    char path[512];

    (void)relay_sql("CREATE DATABASE %s", other);
    /* pg_hba.conf lets the role into its own database alone. */
    (void)snprintf(path, sizeof(path), "%s", relay_sql("SHOW hba_file"));
    (void)relay_sql("COPY (SELECT 'host %s daybook_relay all scram-sha-256') TO PROGRAM 'cat >>%s'",
                    other, path);
    (void)relay_sql("SELECT pg_reload_conf()");
    cr_assert_eq(shell(output, sizeof(output),
                       "DAYBOOK_MIGRATE_URL='%s' scripts/migrate.sh write 2>&1",
                       url_in_other("DAYBOOK_TEST_SUPERUSER_URL")),
                 0, "%s", output);
}

/* To the moment of the dump. A database with a slot can't be dropped: the slot goes too. */
static void restore_other(const char *dump) {
    char output[OUTPUT_BYTES];

    relay_drop_slot(first.slot);
    (void)relay_sql("DROP DATABASE %s", other);
    (void)relay_sql("CREATE DATABASE %s", other);
    cr_assert_eq(shell(output, sizeof(output),
                       "psql -X -q -v ON_ERROR_STOP=1 -d '%s' -f '%s' 2>&1 >/dev/null",
                       url_in_other("DAYBOOK_TEST_SUPERUSER_URL"), dump),
                 0, "%s", output);
}

/* What Kafka has and the database lost stays in Kafka: nothing is missing there, verify names what
 * is too much; with a topic made anew all is as the table says. */
Test(relay_places, a_restored_database_is_published_and_verify_names_what_it_lost) {
    static char settings[URL_BYTES];
    static char dump[128];
    char output[OUTPUT_BYTES];
    const char *said = "";

    make_other();
    (void)snprintf(settings, sizeof(settings), "DAYBOOK_WRITE_DATABASE_URL='%s'",
                   url_in_other("DAYBOOK_TEST_RELAY_URL"));
    first.settings = settings;
    append(1, 10);
    relay_start(&first, "");
    relay_await_idle(&first, LIMIT_MS);
    append(11, 20);
    relay_await_idle(&first, LIMIT_MS);
    pause_ms(1500); /* what was published is written down twice a second */
    (void)snprintf(dump, sizeof(dump), "build/%s.sql", other);
    cr_assert_eq(shell(output, sizeof(output), "pg_dump -d '%s' -f '%s' 2>&1",
                       url_in_other("DAYBOOK_TEST_SUPERUSER_URL"), dump),
                 0, "%s", output);
    append(21, 25);
    relay_await_idle(&first, LIMIT_MS);
    relay_signal(&first, SIGTERM);
    restore_other(dump);
    append(21, 22); /* others than the ones that Kafka has */
    relay_start(&first, "");
    relay_await_idle(&first, LIMIT_MS);
    cr_assert_eq(places_lost(), 1);
    cr_assert_eq(relay_metric(&first, "daybook_relay_restores_noticed_total"), 1);
    cr_assert_leq(relay_metric(&first, "daybook_relay_caught_up_events_total"), 12,
                  "from the safe point");
    cr_assert_eq(relay_verify(&first, &said), 3, "%s", said);
    cr_assert_not_null(strstr(said, "is not in the table"), "%s", said);
    cr_assert_not_null(strstr(said, "restored version 25"), "%s", said);
    cr_assert_not_null(strstr(said, " 5 differences"), "%s", said);
    cr_assert_null(strstr(said, "is not in the topic"), "%s", said);
    relay_signal(&first, SIGTERM);
    topic_delete(first.topic);
    relay_start(&first, "");
    relay_await_idle(&first, LIMIT_MS);
    relay_expect_exact(&first, true);
    relay_signal(&first, SIGTERM);
    (void)remove(dump);
}
