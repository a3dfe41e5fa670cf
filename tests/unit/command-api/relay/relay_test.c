/* The relay between a feed and a publisher in memory. It runs on a thread of its own; the test
 * prepares both ends before, lets it run, and looks at them after it has stopped. */
#include "command-api/relay/relay.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/change_feed_mem.h"
#include "common/adapters/publisher_mem.h"
#include "common/base/clock.h"
#include "common/base/hash.h"

enum { PARTITIONS = 6, LIMIT_MS = 5000, FENCE_MS = 100 };

static struct {
    struct change_feed *feed;
    struct publisher *publisher;
    struct stop *stop;
    struct metrics *metrics;
    struct health *health;
    struct relay *relay;
    pthread_t thread;
    bool refer;
} fixture;

static void set_up_relay(void) {
    fixture.metrics = metrics_new();
    fixture.health = health_new("relay");
    cr_assert_eq(stop_new_quiet(&fixture.stop, NULL), ERR_OK);
    fixture.relay = relay_new(&(struct relay_options){
        .feed = fixture.feed,
        .publisher = fixture.publisher,
        .partitions = PARTITIONS,
        .standby_retry_ms = 5,
        .retry_first_ms = 2,
        .retry_cap_ms = 10,
        .drain_ms = 0,
        .fence_ms = FENCE_MS,
        .settle_ms = 1,
        .refer_too_large = fixture.refer,
        .stop = fixture.stop,
        .metrics = fixture.metrics,
        .feed_health = health_component(fixture.health, "postgresql"),
        .publisher_health = health_component(fixture.health, "kafka"),
    });
}

/* The ends stay. */
static void tear_down_relay(void) {
    relay_free(fixture.relay);
    stop_free(fixture.stop);
    metrics_free(fixture.metrics);
    health_free(fixture.health);
}

static void set_up(void) {
    fixture.feed = change_feed_mem_new();
    fixture.publisher = publisher_mem_new(4);
    set_up_relay();
}

static void tear_down(void) {
    tear_down_relay();
    fixture.feed->ops->free(fixture.feed);
    fixture.publisher->ops->free(fixture.publisher);
}

TestSuite(relay, .init = set_up, .fini = tear_down, .timeout = 30);

/* --- running --- */

static void *run_main(void *arg) {
    relay_run(arg);
    return NULL;
}

static void start(void) {
    cr_assert_eq(pthread_create(&fixture.thread, NULL, run_main, fixture.relay), 0);
}

static void finish(void) {
    stop_request(fixture.stop);
    (void)pthread_join(fixture.thread, NULL);
}

static uint64_t counter(const char *name, const char *labels) {
    return metric_counter_value(metrics_counter(fixture.metrics, name, labels, ""));
}
static uint64_t published(void) {
    return counter("daybook_relay_events_published_total", "");
}
static uint64_t skipped(void) {
    return counter("daybook_relay_events_skipped_total", "");
}
static uint64_t kafka_failures(void) {
    return counter("daybook_relay_reconnects_total", "to=\"kafka\"");
}
static uint64_t postgresql_failures(void) {
    return counter("daybook_relay_reconnects_total", "to=\"postgresql\"");
}
static uint64_t confirmed(void) {
    return change_feed_mem_confirmed(fixture.feed);
}
static uint64_t confirms(void) {
    return change_feed_mem_confirms(fixture.feed);
}

/* Waits, within a limit, until a number has been reached. */
static void await_at_least(uint64_t (*number)(void), uint64_t wanted) {
    const struct timespec pause = {.tv_nsec = 1000000};

    for (int waited_ms = 0; number() < wanted && waited_ms < LIMIT_MS; waited_ms++) {
        (void)nanosleep(&pause, NULL);
    }
    const uint64_t reached = number();
    if (reached < wanted) {
        finish();
    }
    cr_assert_geq(reached, wanted);
}

static void run_until(uint64_t (*number)(void), uint64_t wanted) {
    start();
    await_at_least(number, wanted);
    finish();
}

/* What /ready says. */
static bool health_says(const char *text) {
    struct buf buf;

    buf_init(&buf, 4096);
    health_render(fixture.health, &buf);
    const bool found = strstr(buf_str(&buf).ptr, text) != NULL;
    buf_release(&buf);
    return found;
}

/* --- what is published --- */

static void add(size_t transactions) {
    static const char *const ids[] = {"a", "b", "c"};

    for (size_t i = 0; i < transactions; i++) {
        change_feed_mem_add(fixture.feed, ids, ARRAY_LEN(ids));
    }
}

/* In each partition every change of its streams, once, in the order of the log. */
static void expect_each_once_in_order(size_t transactions) {
    struct publish_mark last[PARTITIONS] = {{0}};
    const struct published *records;
    const size_t count = publisher_mem_topic(fixture.publisher, &records);

    cr_assert_eq(count, 3 * transactions, "%zu records", count);
    for (size_t i = 0; i < count; i++) {
        const struct published *r = &records[i];
        struct publish_mark *mark = &last[r->partition];
        cr_assert(!mark->present || r->commit_lsn > mark->commit_lsn ||
                      (r->commit_lsn == mark->commit_lsn && r->seq > mark->seq),
                  "record %zu is out of order or there twice", i);
        *mark = (struct publish_mark){.commit_lsn = r->commit_lsn, .seq = r->seq, .present = true};
    }
}

Test(relay, publishes_in_order_and_confirms_all) {
    add(50);
    run_until(confirmed, 500);
    expect_each_once_in_order(50);
    cr_assert_eq(published(), 150);
    cr_assert_eq(confirmed(), 500);
}

Test(relay, confirms_nothing_that_is_not_acknowledged) {
    add(2);
    publisher_mem_acknowledge(fixture.publisher, 4); /* all of the first, one of the second */
    run_until(published, 4);
    cr_assert_eq(confirmed(), 10);
}

Test(relay, skips_what_the_topic_has) {
    add(3);
    publisher_mem_fail_next(fixture.publisher, true); /* arrived, but nobody was told */
    run_until(confirmed, 30);
    expect_each_once_in_order(3);
    cr_assert_eq(skipped(), 4);
    cr_assert_eq(published(), 5);
}

Test(relay, publishes_again_what_was_lost) {
    add(3);
    publisher_mem_fail_next(fixture.publisher, false);
    run_until(confirmed, 30);
    expect_each_once_in_order(3);
    cr_assert_eq(kafka_failures(), 1);
    cr_assert_eq(postgresql_failures(), 0);
}

Test(relay, begins_anew_when_the_feed_breaks) {
    add(3);
    change_feed_mem_break(fixture.feed);
    run_until(confirmed, 30);
    expect_each_once_in_order(3);
    cr_assert_eq(postgresql_failures(), 1);
    cr_assert_eq(kafka_failures(), 0);
}

Test(relay, loses_and_repeats_nothing_whatever_fails) {
    for (uint64_t seed = 1; seed <= 12; seed++) {
        tear_down();
        set_up();
        add(100);
        publisher_mem_disturb(fixture.publisher, seed, 12);
        change_feed_mem_disturb(fixture.feed, seed + 100, 8);
        run_until(confirmed, 1000);
        expect_each_once_in_order(100);
        cr_assert_geq(kafka_failures() + postgresql_failures(), 4, "seed %d", (int)seed);
    }
}

/* --- positions --- */

Test(relay, lets_the_log_of_others_be_forgotten_when_nothing_is_in_flight) {
    add(1);
    const uint64_t position = change_feed_mem_add_foreign(fixture.feed);
    run_until(confirmed, position);
    cr_assert_eq(confirmed(), position);
}

Test(relay, keeps_the_log_of_others_while_something_is_in_flight) {
    add(2);
    (void)change_feed_mem_add_foreign(fixture.feed);
    publisher_mem_acknowledge(fixture.publisher, 3);
    start();
    await_at_least(published, 3);
    await_at_least(confirms, confirms() + 3);
    finish();
    cr_assert_eq(confirmed(), 10);
}

Test(relay, tells_the_feed_that_it_lives_while_it_holds_back) {
    add(50);
    publisher_mem_acknowledge(fixture.publisher, 0);
    start();
    await_at_least(confirms, 5);
    finish();
    cr_assert_eq(confirmed(), 0);
    cr_assert_eq(postgresql_failures(), 0);
}

/* What would become too old on its way is not given away: the fence would refuse it. */
Test(relay, gives_nothing_more_to_a_partition_that_is_late) {
    static const char *const ids[] = {"a"};
    struct metric_gauge *in_flight =
        metrics_gauge(fixture.metrics, "daybook_relay_in_flight", "", "");

    change_feed_mem_add(fixture.feed, ids, 1);
    change_feed_mem_add_later(fixture.feed, FENCE_MS);
    change_feed_mem_add(fixture.feed, ids, 1);
    publisher_mem_acknowledge(fixture.publisher, 0);
    start();
    const int64_t until_us = clock_monotonic_us() + 3 * FENCE_MS * INT64_C(1000);
    await_at_least(confirms, 5);
    while (clock_monotonic_us() < until_us) {
        (void)stop_wait_ms(fixture.stop, 10);
    }
    finish();
    cr_assert_eq(metric_gauge_value(in_flight), 1, "the second one waits");
}

/* One slow leader is not hidden by the others. */
Test(relay, a_partition_is_late_for_itself) {
    static const char *const ids[] = {"a", "b"};
    struct metric_gauge *in_flight =
        metrics_gauge(fixture.metrics, "daybook_relay_in_flight", "", "");

    cr_assert_neq(hash_kafka_partition(STR("a"), PARTITIONS),
                  hash_kafka_partition(STR("b"), PARTITIONS));
    change_feed_mem_add(fixture.feed, ids, 1);
    change_feed_mem_add_later(fixture.feed, FENCE_MS);
    change_feed_mem_add(fixture.feed, ids + 1, 1);
    change_feed_mem_add(fixture.feed, ids, 1);
    publisher_mem_acknowledge(fixture.publisher, 0);
    start();
    const int64_t until_us = clock_monotonic_us() + 3 * FENCE_MS * INT64_C(1000);
    while (clock_monotonic_us() < until_us) {
        (void)stop_wait_ms(fixture.stop, 10);
    }
    finish();
    cr_assert_eq(metric_gauge_value(in_flight), 2, "the other one is given its own");
}

/* --- who may publish --- */

Test(relay, stands_by_while_another_holds_the_feed_and_takes_over) {
    add(3);
    change_feed_mem_hold(fixture.feed, true);
    start();
    for (int i = 0; i < LIMIT_MS && !health_says("standing by: another relay is active"); i++) {
        (void)stop_wait_ms(fixture.stop, 1);
    }
    const bool stood_by = health_says("\"status\":\"degraded\",\"service\":\"relay\"");
    cr_expect_eq(published(), 0);
    change_feed_mem_hold(fixture.feed, false);
    await_at_least(confirmed, 30);
    const bool ready = health_says("\"status\":\"ready\"");
    finish();
    cr_assert(stood_by);
    cr_assert(ready);
    expect_each_once_in_order(3);
    cr_assert_eq(postgresql_failures(), 0, "standing by is no failure");
}
Test(relay, says_that_nothing_of_it_is_on_its_way_only_when_that_is_so) {
    add(2);
    run_until(confirmed, 20);
    cr_assert_eq(change_feed_mem_releases(fixture.feed), 1);
    tear_down();
    set_up();
    add(2);
    publisher_mem_acknowledge(fixture.publisher, 3);
    run_until(published, 3);
    cr_assert_eq(change_feed_mem_releases(fixture.feed), 0);
}

/* What an earlier holder may still send has to be refused first. */
Test(relay, waits_for_the_fence_when_the_holder_before_may_be_alive) {
    add(3);
    change_feed_mem_predecessor(fixture.feed, false);
    const int64_t began_us = clock_monotonic_us();
    start();
    for (int i = 0; i < LIMIT_MS && !health_says("taking over"); i++) {
        (void)stop_wait_ms(fixture.stop, 1);
    }
    const bool said = health_says("taking over");
    await_at_least(confirmed, 30);
    finish();
    cr_assert(said);
    cr_assert_gt(clock_monotonic_us() - began_us, (FENCE_MS + 1000) * 1000);
    expect_each_once_in_order(3);
}

/* --- the place in the log --- */

Test(relay, publishes_all_again_in_a_new_incarnation_when_the_place_is_lost) {
    const struct published *records;

    add(3);
    run_until(confirmed, 30);
    tear_down_relay();
    change_feed_mem_lose_place(fixture.feed);
    set_up_relay();
    run_until(published, 9);
    cr_assert_eq(publisher_mem_topic(fixture.publisher, &records), 18);
    cr_assert_eq(records[8].incarnation, 0);
    cr_assert_eq(records[9].incarnation, 1);
    cr_assert_eq(skipped(), 0);
    cr_assert_eq(postgresql_failures(), 1);
}

/* --- what the topic can't take --- */

Test(relay, names_a_record_that_is_too_large_and_goes_on_when_it_fits) {
    add(2);
    publisher_mem_refuse(fixture.publisher, 1);
    start();
    await_at_least(kafka_failures, 3);
    const bool named = health_says("too large");
    const bool blocked =
        metric_gauge_value(metrics_gauge(fixture.metrics, "daybook_relay_blocked", "", "")) == 1;
    publisher_mem_refuse(fixture.publisher, 0);
    await_at_least(confirmed, 20);
    const bool ready = health_says("\"status\":\"ready\"");
    finish();
    cr_assert(named);
    cr_assert(blocked);
    cr_assert(ready);
    expect_each_once_in_order(2);
}

/* They were queued a moment ago, and each try ends with the one that is too large. */
Test(relay, publishes_what_comes_before_a_record_that_is_too_large) {
    add(1);
    change_feed_mem_payload(fixture.feed, "{\"larger\": true}");
    add(1);
    publisher_mem_refuse(fixture.publisher, 10);
    publisher_mem_delay(fixture.publisher, 3);
    start();
    await_at_least(confirmed, 10);
    await_at_least(kafka_failures, 2);
    const bool named = health_says("too large");
    publisher_mem_refuse(fixture.publisher, 0);
    await_at_least(confirmed, 20);
    finish();
    cr_assert(named);
    expect_each_once_in_order(2);
}

/* From the table nothing is confirmed before its end: beginning anew would publish all of it again
 * at each try. */
Test(relay, waits_in_its_place_for_a_record_that_is_too_large_while_catching_up) {
    add(2);
    change_feed_mem_payload(fixture.feed, "{\"larger\": true}");
    add(1);
    change_feed_mem_lose_place(fixture.feed);
    publisher_mem_refuse(fixture.publisher, 10);
    publisher_mem_delay(fixture.publisher, 3);
    start();
    await_at_least(kafka_failures, 5);
    const bool named = health_says("too large");
    const uint64_t proofs = confirms();
    await_at_least(kafka_failures, kafka_failures() + 2);
    const bool proven = confirms() > proofs;
    publisher_mem_refuse(fixture.publisher, 0);
    await_at_least(confirmed, 30);
    const bool ready = health_says("\"status\":\"ready\"");
    finish();
    cr_assert(named);
    cr_assert(proven, "the feed is held meanwhile");
    cr_assert(ready);
    expect_each_once_in_order(3);
    cr_assert_eq(postgresql_failures(), 1, "the lost place");
}

Test(relay, leaves_the_payload_out_when_that_was_chosen) {
    fixture.refer = true;
    tear_down_relay();
    set_up_relay();
    add(2);
    publisher_mem_refuse(fixture.publisher, 1);
    run_until(confirmed, 20);
    expect_each_once_in_order(2);
    cr_assert_eq(counter("daybook_relay_payloads_left_out_total", ""), 6);
    cr_assert_eq(kafka_failures(), 0);
}
