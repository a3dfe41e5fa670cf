/* The publisher's contract, in memory and on Kafka (a topic of its own each time). */
#include <criterion/criterion.h>
#include <stdio.h>

#include "../support/environment.h"
#include "common/adapters/publisher_kafka.h"
#include "common/adapters/publisher_mem.h"

enum { PARTITIONS = 3, RECORDS = 300 };

struct seen {
    uint64_t tags[RECORDS];
    size_t count;
};

static struct publisher *make(bool memory) {
    static char topic[128];

    if (memory) {
        return publisher_mem_new(RECORDS);
    }
    (void)snprintf(topic, sizeof(topic), "%s", fresh_id("contract"));
    return publisher_kafka_new(&(struct publisher_kafka_options){
        .brokers = stack_environment("DAYBOOK_TEST_KAFKA_BROKERS"),
        .topic = topic,
        .partitions = PARTITIONS,
        .replication = 1,
        .in_flight_max = RECORDS,
        .timeout_ms = 10000,
    });
}

static struct change change_of(uint64_t lsn, uint32_t seq) {
    return (struct change){
        .event = {.aggregate_type = STR("account"),
                  .stream_id = STR("a-1"),
                  .version = (int64_t)(lsn + seq),
                  .event_type = STR("MoneyDeposited"),
                  .schema_version = 1,
                  .payload = STR("{\"x\":1}"),
                  .recorded_at_us = INT64_C(1700000000000000)},
        .commit_lsn = lsn,
        .seq = seq,
    };
}

static void see(void *arg, uint64_t tag, enum err_code code) {
    struct seen *seen = arg;

    cr_assert_eq(code, ERR_OK);
    cr_assert_lt(seen->count, RECORDS);
    seen->tags[seen->count++] = tag;
}

static void open_publisher(struct publisher *publisher) {
    struct err err = {0};

    cr_assert_eq(publisher->ops->open(publisher, &err), ERR_OK, "%s", err.message);
}

static void publish(struct publisher *publisher, int32_t partition, uint64_t lsn, uint32_t seq,
                    uint64_t tag) {
    const struct change change = change_of(lsn, seq);
    struct err err = {0};

    cr_assert_eq(publisher->ops->publish(publisher, partition, &change, tag, &err), ERR_OK, "%s",
                 err.message);
}

static void deliver(struct publisher *publisher, struct seen *seen, size_t count) {
    const double deadline = now_seconds() + 20;
    struct err err = {0};

    while (seen->count < count) {
        cr_assert_lt(now_seconds(), deadline, "%zu of %zu delivered", seen->count, count);
        cr_assert_eq(publisher->ops->poll(publisher, 100, see, seen, &err), ERR_OK, "%s",
                     err.message);
    }
}

static void read_tails(struct publisher *publisher, struct publish_mark *tails) {
    struct err err = {0};

    cr_assert_eq(publisher->ops->read_tails(publisher, tails, PARTITIONS, &err), ERR_OK, "%s",
                 err.message);
}

static void check_tails(struct publisher *publisher) {
    struct publish_mark tails[PARTITIONS];
    struct seen seen = {.count = 0};

    open_publisher(publisher);
    read_tails(publisher, tails);
    for (size_t p = 0; p < PARTITIONS; p++) {
        cr_assert_not(tails[p].present, "a new topic is empty");
    }
    publish(publisher, 0, 10, 0, 1);
    publish(publisher, 0, 10, 1, 1);
    publish(publisher, 2, 20, 0, 2);
    publish(publisher, 0, 30, 5, 3);
    deliver(publisher, &seen, 4);
    publisher->ops->close(publisher);
    open_publisher(publisher); /* as after a restart */
    read_tails(publisher, tails);
    cr_assert(tails[0].present && tails[0].commit_lsn == 30 && tails[0].seq == 5);
    cr_assert_not(tails[1].present);
    cr_assert(tails[2].present && tails[2].commit_lsn == 20 && tails[2].seq == 0);
    publisher->ops->free(publisher);
}

static void check_delivery(struct publisher *publisher) {
    const struct change change = change_of(1000, 0);
    struct seen seen = {.count = 0};
    struct err err = {0};

    open_publisher(publisher);
    for (uint64_t i = 0; i < RECORDS; i++) {
        publish(publisher, 1, i + 1, 0, i);
    }
    cr_assert_eq(publisher->ops->publish(publisher, 1, &change, RECORDS, &err), ERR_LIMIT,
                 "in flight is bounded");
    deliver(publisher, &seen, RECORDS);
    for (uint64_t i = 0; i < RECORDS; i++) {
        cr_assert_eq(seen.tags[i], i, "delivered out of order");
    }
    publisher->ops->free(publisher);
}

TestSuite(publisher_contract, .timeout = 60);

Test(publisher_contract, tails_are_the_last_records_memory) {
    check_tails(make(true));
}

Test(publisher_contract, tails_are_the_last_records_kafka) {
    check_tails(make(false));
}

Test(publisher_contract, each_record_is_reported_once_in_order_and_bounded_memory) {
    check_delivery(make(true));
}

Test(publisher_contract, each_record_is_reported_once_in_order_and_bounded_kafka) {
    check_delivery(make(false));
}

Test(publisher_contract, a_topic_with_other_partitions_is_refused_kafka) {
    struct publisher_kafka_options options = {
        .brokers = stack_environment("DAYBOOK_TEST_KAFKA_BROKERS"),
        .topic = "account-events",
        .partitions = 7,
        .replication = 1,
        .in_flight_max = RECORDS,
        .timeout_ms = 10000,
    };
    struct publisher *publisher = publisher_kafka_new(&options);
    struct err err = {0};

    cr_assert_eq(publisher->ops->open(publisher, &err), ERR_INVALID);
    cr_assert_neq(err.message[0], '\0');
    publisher->ops->free(publisher);
}
