/* The relay between a feed and a publisher in memory. It runs on a thread of its own; the test
 * prepares both ends before, lets it run, and looks at them after it has stopped. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "command-api/relay/relay.h"
#include "common/adapters/change_feed_mem.h"
#include "common/adapters/publisher_mem.h"

static struct {
    struct change_feed *feed;
    struct publisher *publisher;
    struct stop *stop;
    struct metrics *metrics;
    struct health *health;
} fixture;

static void set_up(void) {
    struct err err;

    fixture.feed = change_feed_mem_new();
    fixture.publisher = publisher_mem_new(4);
    fixture.metrics = metrics_new();
    fixture.health = health_new("relay");
    cr_assert_eq(stop_new_quiet(&fixture.stop, &err), ERR_OK);
}

static void tear_down(void) {
    fixture.feed->ops->free(fixture.feed);
    fixture.publisher->ops->free(fixture.publisher);
    stop_free(fixture.stop);
    metrics_free(fixture.metrics);
    health_free(fixture.health);
}

TestSuite(relay, .init = set_up, .fini = tear_down, .timeout = 20);

static void *run_main(void *arg) {
    relay_run(arg);
    return NULL;
}

/* Runs until `published` events are acknowledged or skipped, or a limit has passed. */
static void run_until(uint64_t acknowledged, uint64_t skipped, int64_t limit_ms) {
    struct relay *relay = relay_new(&(struct relay_options){
        .feed = fixture.feed,
        .publisher = fixture.publisher,
        .partitions = 6,
        .standby_retry_ms = 10,
        .drain_ms = 0,
        .stop = fixture.stop,
        .metrics = fixture.metrics,
        .feed_health = health_component(fixture.health, "postgresql"),
        .publisher_health = health_component(fixture.health, "kafka"),
    });
    const struct metric_counter *published =
        metrics_counter(fixture.metrics, "daybook_relay_events_published_total", "", "");
    const struct metric_counter *skips =
        metrics_counter(fixture.metrics, "daybook_relay_events_skipped_total", "", "");
    const struct timespec pause = {.tv_nsec = 5000000};
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, run_main, relay), 0);
    for (int64_t waited = 0; waited < limit_ms; waited += 5) {
        if (metric_counter_value(published) >= acknowledged &&
            metric_counter_value(skips) >= skipped) {
            break;
        }
        (void)nanosleep(&pause, NULL);
    }
    stop_request(fixture.stop);
    (void)pthread_join(thread, NULL);
    cr_assert_geq(metric_counter_value(published), acknowledged);
    cr_assert_geq(metric_counter_value(skips), skipped);
    relay_free(relay);
}

static void add(size_t transactions) {
    static const char *const ids[] = {"a", "b", "c"};

    for (size_t i = 0; i < transactions; i++) {
        change_feed_mem_add(fixture.feed, ids, ARRAY_LEN(ids));
    }
}

static void expect_each_once_in_order(size_t transactions) {
    const struct published *records;
    const size_t count = publisher_mem_topic(fixture.publisher, &records);

    cr_assert_eq(count, 3 * transactions);
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(records[i].commit_lsn, 10 * (i / 3 + 1));
        cr_assert_eq(records[i].seq, i % 3);
    }
}

Test(relay, publishes_in_order_and_confirms_all) {
    add(50);
    run_until(150, 0, 5000);
    expect_each_once_in_order(50);
    cr_assert_eq(change_feed_mem_confirmed(fixture.feed), 500);
}

Test(relay, confirms_nothing_that_is_not_acknowledged) {
    add(2);
    publisher_mem_acknowledge(fixture.publisher, 4); /* all of the first, one of the second */
    run_until(4, 0, 5000);
    cr_assert_eq(change_feed_mem_confirmed(fixture.feed), 10);
}

Test(relay, skips_what_the_topic_has) {
    add(3);
    publisher_mem_fail_next(fixture.publisher, true); /* arrived, but nobody was told */
    run_until(5, 4, 5000);
    expect_each_once_in_order(3);
    cr_assert_eq(change_feed_mem_confirmed(fixture.feed), 30);
}

Test(relay, publishes_again_what_was_lost) {
    add(3);
    publisher_mem_fail_next(fixture.publisher, false);
    run_until(9, 0, 5000);
    expect_each_once_in_order(3);
    cr_assert_eq(change_feed_mem_confirmed(fixture.feed), 30);
}

Test(relay, begins_anew_when_the_feed_breaks) {
    add(3);
    change_feed_mem_break(fixture.feed);
    run_until(9, 0, 5000);
    expect_each_once_in_order(3);
}
