/* The publisher's contract, run against every adapter. */
#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>

#include "../support/environment.h"
#include "common/adapters/publisher_kafka.h"
#include "common/adapters/publisher_mem.h"

enum adapter { MEMORY, KAFKA };
enum { PARTITIONS = 3, IN_FLIGHT_MAX = 100, DELIVERIES_MAX = 1000 };

TestSuite(publisher_contract, .timeout = 60);

static struct publisher *make(enum adapter adapter) {
    static char topic[96];

    if (adapter == MEMORY) {
        return publisher_mem_new(IN_FLIGHT_MAX);
    }
    (void)snprintf(topic, sizeof(topic), "%s", fresh_id("contract"));
    return publisher_kafka_new(&(struct publisher_kafka_options){
        .brokers = stack_environment("DAYBOOK_TEST_KAFKA_BROKERS"),
        .topic = topic,
        .partitions = PARTITIONS,
        .replication = 1,
        .in_flight_max = IN_FLIGHT_MAX,
        .timeout_ms = 10000,
        .fence_ms = 5000,
    });
}

#define EACH_ADAPTER(name)                          \
    static void check_##name(struct publisher *p);  \
    Test(publisher_contract, name##_memory) {       \
        struct publisher *publisher = make(MEMORY); \
        check_##name(publisher);                    \
        publisher->ops->free(publisher);            \
    }                                               \
    Test(publisher_contract, name##_kafka) {        \
        struct publisher *publisher = make(KAFKA);  \
        check_##name(publisher);                    \
        publisher->ops->free(publisher);            \
    }                                               \
    static void check_##name(struct publisher *p)

/* --- steps --- */

static struct change change_of(uint64_t commit_lsn, uint32_t seq) {
    return (struct change){
        .event = {.aggregate_type = STR("account"),
                  .stream_id = STR("s"),
                  .version = (int64_t)commit_lsn + seq,
                  .event_type = STR("MoneyDeposited"),
                  .schema_version = 1,
                  .payload = STR("{\"amount_minor\":1}")},
        .incarnation = 3,
        .commit_lsn = commit_lsn,
        .seq = seq,
    };
}

static void open_it(struct publisher *p) {
    struct err err = {0};

    cr_assert_eq(p->ops->open(p, &err), ERR_OK, "%s", err.message);
}

static enum err_code publish(struct publisher *p, int32_t partition, uint64_t lsn, uint32_t seq,
                             uint64_t tag) {
    const struct change change = change_of(lsn, seq);
    struct err err = {0};

    return p->ops->publish(p, partition, &change, tag, &err);
}

struct deliveries {
    uint64_t tags[DELIVERIES_MAX];
    size_t count;
};

static void note(void *arg, const struct delivery *delivery) {
    struct deliveries *deliveries = arg;

    cr_assert_lt(deliveries->count, DELIVERIES_MAX);
    cr_assert(delivery->partition >= 0 && delivery->partition < PARTITIONS);
    cr_assert_geq(delivery->offset, 0);
    deliveries->tags[deliveries->count++] = delivery->tag;
}

static void poll_until(struct publisher *p, struct deliveries *deliveries, size_t count) {
    const double deadline = now_seconds() + 15;
    struct err err = {0};

    while (deliveries->count < count) {
        cr_assert_eq(p->ops->poll(p, 50, note, deliveries, &err), ERR_OK, "%s", err.message);
        cr_assert_lt(now_seconds(), deadline, "%zu of %zu", deliveries->count, count);
    }
}

static void read_tails(struct publisher *p, struct publish_mark tails[PARTITIONS]) {
    struct err err = {0};

    cr_assert_eq(p->ops->read_tails(p, tails, PARTITIONS, &err), ERR_OK, "%s", err.message);
}

static void expect_tail(const struct publish_mark *tail, uint64_t lsn, uint32_t seq) {
    cr_assert(tail->present);
    cr_assert_eq(tail->commit_lsn, lsn);
    cr_assert_eq(tail->seq, seq);
    cr_assert_eq(tail->incarnation, 3);
}

static bool readable_within(int fd, int wait_ms) {
    struct pollfd poller = {.fd = fd, .events = POLLIN};

    return fd >= 0 && poll(&poller, 1, wait_ms) == 1;
}

/* --- the contract --- */

EACH_ADAPTER(an_empty_topic_has_no_tails) {
    struct publish_mark tails[PARTITIONS];

    open_it(p);
    read_tails(p, tails);
    for (size_t i = 0; i < PARTITIONS; i++) {
        cr_assert_not(tails[i].present);
    }
    cr_assert(p->ops->reachable(p, NULL));
}

EACH_ADAPTER(each_record_is_delivered_once_and_in_order) {
    struct deliveries deliveries = {0};
    struct err err = {0};

    open_it(p);
    for (uint64_t i = 0; i < 50; i++) {
        cr_assert_eq(publish(p, 1, 100, (uint32_t)i, 1000 + i), ERR_OK);
    }
    poll_until(p, &deliveries, 50);
    cr_assert_eq(p->ops->poll(p, 50, note, &deliveries, &err), ERR_OK);
    cr_assert_eq(deliveries.count, 50);
    for (uint64_t i = 0; i < 50; i++) {
        cr_assert_eq(deliveries.tags[i], 1000 + i);
    }
}

EACH_ADAPTER(the_tails_are_the_last_of_each_partition) {
    struct deliveries deliveries = {0};
    struct publish_mark tails[PARTITIONS];

    open_it(p);
    cr_assert_eq(publish(p, 0, 100, 0, 1), ERR_OK);
    cr_assert_eq(publish(p, 0, 100, 1, 2), ERR_OK);
    cr_assert_eq(publish(p, 2, UINT64_C(0xfedcba9876543210) >> 1, 7, 3), ERR_OK);
    poll_until(p, &deliveries, 3);
    read_tails(p, tails);
    expect_tail(&tails[0], 100, 1);
    cr_assert_eq(tails[0].offset, 1);
    cr_assert_not(tails[1].present);
    expect_tail(&tails[2], UINT64_C(0xfedcba9876543210) >> 1, 7);
}

EACH_ADAPTER(a_topic_outlives_its_publisher) {
    struct deliveries deliveries = {0};
    struct publish_mark tails[PARTITIONS];

    open_it(p);
    cr_assert_eq(publish(p, 0, 100, 0, 1), ERR_OK);
    poll_until(p, &deliveries, 1);
    p->ops->close(p);
    open_it(p);
    read_tails(p, tails);
    expect_tail(&tails[0], 100, 0);
    cr_assert_eq(publish(p, 0, 110, 0, 2), ERR_OK);
    poll_until(p, &deliveries, 2);
    read_tails(p, tails);
    expect_tail(&tails[0], 110, 0);
}

EACH_ADAPTER(what_is_in_flight_is_bounded_and_poll_makes_room) {
    struct deliveries deliveries = {0};
    size_t taken = 0;

    open_it(p);
    while (publish(p, 0, 100, (uint32_t)taken, taken) == ERR_OK) {
        taken++;
        cr_assert_leq(taken, IN_FLIGHT_MAX);
    }
    cr_assert_eq(taken, IN_FLIGHT_MAX);
    cr_assert_eq(publish(p, 0, 200, 0, 0), ERR_LIMIT);
    poll_until(p, &deliveries, taken);
    cr_assert_eq(publish(p, 0, 200, 0, taken), ERR_OK);
    poll_until(p, &deliveries, taken + 1);
}

EACH_ADAPTER(the_descriptor_tells_of_deliveries) {
    struct deliveries deliveries = {0};
    const double deadline = now_seconds() + 15;
    struct err err = {0};

    open_it(p);
    cr_assert_eq(publish(p, 0, 100, 0, 1), ERR_OK);
    while (deliveries.count == 0) {
        cr_assert(readable_within(p->ops->descriptor(p), 15000));
        cr_assert_eq(p->ops->poll(p, 0, note, &deliveries, &err), ERR_OK);
        cr_assert_lt(now_seconds(), deadline);
    }
}

EACH_ADAPTER(a_closed_publisher_reports_nothing_of_before) {
    struct deliveries deliveries = {0};
    struct err err = {0};

    open_it(p);
    cr_assert_eq(publish(p, 0, 100, 0, 1), ERR_OK);
    p->ops->close(p);
    cr_assert_eq(p->ops->descriptor(p), -1);
    cr_assert_not(p->ops->reachable(p, &err));
    open_it(p);
    cr_assert_eq(publish(p, 1, 110, 0, 2), ERR_OK);
    poll_until(p, &deliveries, 1);
    cr_assert_eq(deliveries.tags[0], 2);
}
