/* The relay's promises against real servers: what happens when its holder is stopped, its place in
 * the log is lost, or Kafka is in trouble. Each test has relays, a slot and a topic of its own; in
 * the end the topic is compared with the table, event by event. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../support/environment.h"
#include "../support/relay_process.h"
#include "../support/topic.h"

enum { LIMIT_MS = 60000, PORT = 17980, RATE = 2000 };

static struct relay_process first;
static struct relay_process second;

static void set_up(void) {
    first = relay_fresh("relay", PORT);
    second = first;
    second.port++;
}

static void tear_down(void) {
    stack_signal("kafka", SIGCONT);
    relay_signal(&first, SIGCONT);
    relay_signal(&second, SIGCONT);
    relay_signal(&first, SIGTERM);
    relay_signal(&second, SIGTERM);
    relay_drop_slot(first.slot);
}

static void await_lost_place(void) {
    const double until = now_seconds() + 30;
    while (relay_metric(&first, "daybook_relay_places_lost_total") < 1) {
        cr_assert_lt(now_seconds(), until, "not noticed: %s", relay_ready(&first));
        pause_ms(20);
    }
}

TestSuite(relay_faults, .init = set_up, .fini = tear_down, .timeout = 240);

static void start_first(const char *extra) {
    relay_start(&first, extra);
    relay_await_idle(&first, LIMIT_MS);
}

/* --- the fence --- */

/* Takes the slot from whoever holds it, as an administrator or a failover would. */
static void end_walsender(void) {
    (void)relay_sql("SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE"
                    " slot_name = '%s' AND active",
                    first.slot);
}

/* The broker stands still while the holder's queue fills, then the holder does: what it has in hand
 * is not in the topic, and the next holder publishes it. */
Test(relay_faults, a_holder_that_was_stopped_adds_nothing_after_a_take_over) {
    start_first("");
    relay_start(&second, "");
    cr_assert(relay_says(&second, "standing by", LIMIT_MS));
    struct relay_load *load = relay_load_start("fence", 4 * RATE);
    pause_ms(500);
    stack_signal("kafka", SIGSTOP);
    const double deadline = now_seconds() + 10;
    while (relay_metric(&first, "daybook_relay_in_flight") < 500) {
        cr_assert_lt(now_seconds(), deadline, "nothing waits for the broker");
        pause_ms(10);
    }
    relay_signal(&first, SIGSTOP);
    stack_signal("kafka", SIGCONT);
    const double begin = now_seconds();
    end_walsender();
    cr_assert(relay_says(&second, "taking over", LIMIT_MS), "it waits for the fence");
    (void)relay_load_stop(load);
    relay_await_idle(&second, LIMIT_MS);
    (void)fprintf(stderr, "taken over from a stopped holder in %.1f s\n", now_seconds() - begin);
    relay_signal(&first, SIGCONT);
    cr_assert(relay_says(&first, "standing by", LIMIT_MS), "%s", relay_ready(&first));
    cr_assert_geq(relay_metric(&first, "daybook_relay_in_flight"), 0);
    relay_expect_exact(&second, false);
}

Test(relay_faults, a_stopped_holder_loses_the_slot_within_seconds) {
    start_first("");
    relay_start(&second, "");
    cr_assert(relay_says(&second, "standing by", LIMIT_MS));
    struct relay_load *load = relay_load_start("stopped", RATE);
    pause_ms(300);
    const double begin = now_seconds();
    relay_signal(&first, SIGSTOP);
    cr_assert(relay_says(&second, "\"status\":\"ready\"", 30000));
    (void)fprintf(stderr, "a stopped holder was replaced in %.1f s\n", now_seconds() - begin);
    relay_signal(&first, SIGCONT);
    cr_assert(relay_says(&first, "standing by", LIMIT_MS));
    (void)relay_load_stop(load);
    relay_await_idle(&second, LIMIT_MS);
    relay_expect_exact(&second, false);
}

Test(relay_faults, a_killed_holder_is_replaced_at_once) {
    start_first("");
    relay_start(&second, "");
    cr_assert(relay_says(&second, "standing by", LIMIT_MS));
    struct relay_load *load = relay_load_start("killed", RATE);
    pause_ms(300);
    const double begin = now_seconds();
    relay_signal(&first, SIGKILL);
    cr_assert(relay_says(&second, "\"status\":\"ready\"", LIMIT_MS));
    const double took = now_seconds() - begin;
    (void)fprintf(stderr, "a killed holder was replaced in %.1f s\n", took);
    cr_assert_lt(took, 3.0);
    (void)relay_load_stop(load);
    relay_await_idle(&second, LIMIT_MS);
    relay_expect_exact(&second, false);
}

/* --- the place in the log --- */

Test(relay_faults, a_slot_dropped_under_load_is_noticed_and_mended) {
    start_first("");
    struct relay_load *load = relay_load_start("dropped", RATE);
    pause_ms(1500);
    const double lost = relay_metric(&first, "daybook_relay_places_lost_total");
    relay_drop_slot(first.slot);
    const double deadline = now_seconds() + 30;
    while (relay_metric(&first, "daybook_relay_places_lost_total") <= lost) {
        cr_assert_lt(now_seconds(), deadline, "not noticed");
        pause_ms(20);
    }
    pause_ms(500);
    (void)relay_load_stop(load);
    relay_await_idle(&first, LIMIT_MS);
    /* Not the whole table again: what was known to be in the topic was left out. */
    const double total = strtod(relay_sql("SELECT count(*) FROM daybook.events"), NULL);
    cr_assert_lt(relay_metric(&first, "daybook_relay_caught_up_events_total"), total + 4000);
    relay_expect_exact(&first, true);
}

Test(relay_faults, an_invalidated_slot_is_replaced) {
    start_first("");
    relay_signal(&first, SIGTERM);
    (void)relay_sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'");
    (void)relay_sql("SELECT pg_reload_conf()");
    struct relay_load *load = relay_load_start("invalid", RATE);
    const double deadline = now_seconds() + 60;
    while (strcmp(relay_sql("SELECT wal_status FROM pg_replication_slots WHERE slot_name = '%s'",
                            first.slot),
                  "lost") != 0) {
        cr_assert_lt(now_seconds(), deadline, "the slot is not invalidated");
        /* Other slots of this server must not suffer: they are advanced by their holders. */
        (void)relay_sql("SELECT pg_switch_wal()");
        (void)relay_sql("CHECKPOINT");
    }
    (void)relay_sql("ALTER SYSTEM RESET max_slot_wal_keep_size");
    (void)relay_sql("SELECT pg_reload_conf()");
    relay_start(&first, "");
    await_lost_place();
    (void)relay_load_stop(load);
    relay_await_idle(&first, LIMIT_MS);
    relay_expect_exact(&first, true);
}

/* The slot is ahead of what Kafka has: its topic was deleted. */
Test(relay_faults, a_topic_that_lost_its_records_is_filled_again) {
    start_first("");
    struct relay_load *load = relay_load_start("topic", RATE);
    pause_ms(1500);
    (void)relay_load_stop(load);
    relay_await_idle(&first, LIMIT_MS);
    pause_ms(1000); /* what was published is written down twice a second */
    relay_signal(&first, SIGTERM);
    topic_delete(first.topic);
    relay_start(&first, "");
    await_lost_place();
    relay_await_idle(&first, LIMIT_MS);
    relay_expect_exact(&first, true);
}

/* Between two events: the producer does not notice, the offsets tell. */
Test(relay_faults, a_topic_made_anew_while_nothing_is_published_is_filled_again) {
    start_first("");
    const double lost = relay_metric(&first, "daybook_relay_places_lost_total");
    relay_signal(&first, SIGSTOP);
    topic_make_anew(first.topic, 6);
    relay_signal(&first, SIGCONT);
    struct relay_load *load = relay_load_start("anew", RATE);
    const double deadline = now_seconds() + 30;
    while (relay_metric(&first, "daybook_relay_places_lost_total") <= lost) {
        cr_assert_lt(now_seconds(), deadline, "not noticed");
        pause_ms(20);
    }
    (void)relay_load_stop(load);
    relay_await_idle(&first, LIMIT_MS);
    relay_expect_exact(&first, true);
}

/* A restored database: its row is of before, the topic has seen more. */
Test(relay_faults, a_database_restored_to_an_earlier_moment_is_noticed) {
    start_first("");
    struct relay_load *load = relay_load_start("restored", RATE);
    pause_ms(1500);
    (void)relay_load_stop(load);
    relay_await_idle(&first, LIMIT_MS);
    relay_signal(&first, SIGTERM);
    (void)relay_sql("UPDATE daybook.relay_state SET incarnation = incarnation - 1,"
                    " published_below = '3', offsets = '{0,0}' WHERE slot = '%s'",
                    first.slot);
    relay_start(&first, "");
    await_lost_place();
    relay_await_idle(&first, LIMIT_MS);
    relay_expect_exact(&first, true);
}

/* --- Kafka --- */

Test(relay_faults, a_broker_that_is_away_is_waited_for) {
    start_first("DAYBOOK_IN_FLIGHT_MAX=3000");
    struct relay_load *load = relay_load_start("broker", RATE);
    pause_ms(500);
    cr_assert(stack("kill", "kafka"));
    cr_assert(relay_says(&first, "not_ready", LIMIT_MS));
    pause_ms(3000); /* longer than the fence: what is in flight is refused and sent anew */
    cr_assert_leq(relay_metric(&first, "daybook_relay_in_flight"), 3000);
    cr_assert(stack("start", "kafka"));
    relay_await_idle(&first, LIMIT_MS);
    (void)relay_load_stop(load);
    relay_await_idle(&first, LIMIT_MS);
    relay_expect_exact(&first, false);
}

static void insert_large(const char *id, int bytes) {
    (void)relay_sql("INSERT INTO daybook.events (event_id, aggregate_type, stream_id, version,"
                    " event_type, schema_version, payload, recorded_at) SELECT gen_random_uuid(),"
                    " 'account', '%s', 1, 'AccountCreated', 1, json_build_object('currency', 'USD',"
                    " 'owner', string_agg(md5(n::text), '')), now() FROM generate_series(1, %d) n",
                    id, bytes / 32);
}

/* The stack's own relay must take it: below the default limit, over this topic's. */
Test(relay_faults, a_record_over_the_topics_limit_is_named_and_waits_for_a_larger_one) {
    start_first("");
    topic_set(first.topic, "max.message.bytes", "20000");
    relay_signal(&first, SIGTERM);
    relay_start(&first, "");
    relay_await_idle(&first, LIMIT_MS);
    const char *id = fresh_id("large");
    insert_large(id, 64000);
    cr_assert(relay_says(&first, "max.message.bytes", 20000), "%s", relay_ready(&first));
    cr_assert_not_null(strstr(relay_ready(&first), id), "%s", relay_ready(&first));
    cr_assert_eq(relay_metric(&first, "daybook_relay_blocked"), 1);
    topic_set(first.topic, "max.message.bytes", "200000");
    relay_await_idle(&first, LIMIT_MS);
    cr_assert_eq(relay_metric(&first, "daybook_relay_blocked"), 0);
    relay_expect_exact(&first, false);
}

Test(relay_faults, a_record_over_the_topics_limit_goes_out_as_a_reference_when_chosen) {
    const char *output = "";

    start_first("");
    topic_set(first.topic, "max.message.bytes", "20000");
    relay_signal(&first, SIGTERM);
    relay_start(&first, "DAYBOOK_TOO_LARGE=reference");
    relay_await_idle(&first, LIMIT_MS);
    insert_large(fresh_id("referred"), 64000);
    struct relay_load *load = relay_load_start("others", RATE);
    pause_ms(500);
    (void)relay_load_stop(load);
    relay_await_idle(&first, LIMIT_MS);
    cr_assert_eq(relay_metric(&first, "daybook_relay_payloads_left_out_total"), 1);
    cr_assert_eq(relay_verify(&first, &output), 3, "%s", output);
    cr_assert_not_null(strstr(output, "without its payload"), "%s", output);
    cr_assert_not_null(strstr(output, " 1 differences"), "%s", output);
}

/* --- the operator's commands --- */

Test(relay_faults, status_and_verify_say_what_is_the_matter) {
    const char *output = "";

    start_first("");
    struct relay_load *load = relay_load_start("verify", RATE);
    pause_ms(500);
    (void)relay_load_stop(load);
    relay_await_idle(&first, LIMIT_MS);
    cr_assert_eq(relay_command(&first, "status", &output), 0, "%s", output);
    cr_assert_not_null(strstr(output, "held by pid"), "%s", output);
    cr_assert_not_null(strstr(output, "partition"), "%s", output);
    relay_signal(&first, SIGTERM);
    cr_assert_eq(relay_command(&first, "status", &output), 1, "nobody holds the slot: %s", output);
    topic_repeat_last(first.topic, 1);
    topic_append_foreign(first.topic, 0);
    cr_assert_eq(relay_verify(&first, &output), 3, "%s", output);
    cr_assert_not_null(strstr(output, "is there twice"), "%s", output);
    cr_assert_not_null(strstr(output, "is no event"), "%s", output);
    cr_assert_not_null(strstr(output, " 2 differences"), "%s", output);
}
