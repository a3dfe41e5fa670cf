/* The consumer's contract, in memory and on Kafka (topic and group of its own each time). */
#include <criterion/criterion.h>
#include <stdio.h>

#include "../support/environment.h"
#include "common/adapters/consumer_kafka.h"
#include "common/adapters/consumer_mem.h"
#include "common/adapters/publisher_kafka.h"

enum { PARTITIONS = 2, RECORDS = 10 };

static struct {
    struct event_consumer *consumer;
    int assigned;
    int revoked;
    int64_t begin; /* where partition 0 is begun */
} fixture;

static int64_t on_assigned(void *arg, int32_t partition) {
    (void)arg;
    fixture.assigned++;
    return partition == 0 ? fixture.begin : 0;
}

static void on_revoked(void *arg, int32_t partition) {
    (void)arg;
    (void)partition;
    fixture.revoked++;
}

static struct recorded_event event_of(int64_t version) {
    struct recorded_event event = {
        .aggregate_type = STR("account"),
        .stream_id = STR("a-1"),
        .version = version,
        .position = 100 + version,
        .event_type = STR("MoneyDeposited"),
        .schema_version = 1,
        .payload = STR("{\"x\":\"gr\xc3\xbcn\"}"),
        .correlation_id = STR("corr"),
        .recorded_at_us = INT64_C(1700000000000000) + version,
    };

    event.event_id.bytes[15] = (uint8_t)version;
    return event;
}

static void count_delivery(void *arg, const struct delivery *delivery) {
    size_t *count = arg;

    (void)delivery;
    (*count)++;
}

/* Ten records in partition 0, none in partition 1. */
static void fill_topic(const char *topic) {
    struct publisher *publisher = publisher_kafka_new(&(struct publisher_kafka_options){
        .brokers = stack_environment("DAYBOOK_TEST_KAFKA_BROKERS"),
        .topic = topic,
        .partitions = PARTITIONS,
        .replication = 1,
        .in_flight_max = 1000,
        .timeout_ms = 10000,
        .fence_ms = 5000,
    });
    struct err err = {0};
    size_t delivered = 0;

    cr_assert_eq(publisher->ops->open(publisher, &err), ERR_OK, "%s", err.message);
    for (int64_t i = 1; i <= RECORDS; i++) {
        const struct change change = {.event = event_of(i), .commit_lsn = (uint64_t)i};
        cr_assert_eq(publisher->ops->publish(publisher, 0, &change, 0, &err), ERR_OK);
    }
    while (delivered < RECORDS) {
        cr_assert_eq(publisher->ops->poll(publisher, 100, count_delivery, &delivered, &err), ERR_OK,
                     "%s", err.message);
    }
    publisher->ops->free(publisher);
}

static void set_up(bool memory) {
    static char topic[96];
    struct err err = {0};

    if (memory) {
        fixture.consumer = consumer_mem_new(PARTITIONS);
        for (int64_t i = 1; i <= RECORDS; i++) {
            const struct recorded_event event = event_of(i);
            consumer_mem_add(fixture.consumer, 0, &event);
        }
    } else {
        (void)snprintf(topic, sizeof(topic), "%s", fresh_id("consume"));
        fill_topic(topic);
        fixture.consumer = consumer_kafka_new(&(struct consumer_kafka_options){
            .brokers = stack_environment("DAYBOOK_TEST_KAFKA_BROKERS"),
            .topic = topic,
            .group = topic,
            .partitions = PARTITIONS,
            .session_timeout_ms = 6000,
            .timeout_ms = 10000,
        });
    }
    cr_assert_eq(fixture.consumer->ops->open(fixture.consumer, on_assigned, on_revoked, NULL, &err),
                 ERR_OK, "%s", err.message);
}

/* The next record must be the one at `offset`, whole. */
static void expect_record(int64_t offset) {
    const double deadline = now_seconds() + 30;
    const struct recorded_event wanted = event_of(offset + 1);
    struct consumed_record record;
    struct err err = {0};
    enum err_code code;

    do {
        cr_assert_lt(now_seconds(), deadline, "record %lld did not come", (long long)offset);
        code = fixture.consumer->ops->poll(fixture.consumer, 100, &record, &err);
    } while (code == ERR_TIMEOUT);
    cr_assert_eq(code, ERR_OK, "%s", err.message);
    cr_assert_null(record.defect);
    cr_assert_eq(record.partition, 0);
    cr_assert_eq(record.offset, offset);
    cr_assert_eq(record.event.version, wanted.version);
    cr_assert_eq(record.event.position, wanted.position);
    cr_assert_eq(record.event.recorded_at_us, wanted.recorded_at_us);
    cr_assert(str_eq(record.event.stream_id, wanted.stream_id));
    cr_assert(str_eq(record.event.event_type, wanted.event_type));
    cr_assert(str_eq(record.event.aggregate_type, wanted.aggregate_type));
    cr_assert(str_eq(record.event.payload, wanted.payload));
    cr_assert(str_eq(record.event.correlation_id, wanted.correlation_id));
    cr_assert_eq(record.event.actor.len, 0);
    cr_assert_eq(record.event.event_id.bytes[15], wanted.event_id.bytes[15]);
    fixture.consumer->ops->release(fixture.consumer, &record);
}

static void check(bool memory) {
    fixture.begin = 4;
    set_up(memory);
    for (int64_t offset = 4; offset < RECORDS; offset++) {
        expect_record(offset);
    }
    cr_assert(fixture.consumer->ops->joined(fixture.consumer));
    cr_assert_eq(fixture.assigned, PARTITIONS);
    cr_assert_eq(fixture.consumer->ops->end_offset(fixture.consumer, 0), RECORDS);
    cr_assert_eq(fixture.consumer->ops->reposition(fixture.consumer, 0, 2, NULL), ERR_OK);
    expect_record(2);
    expect_record(3);
    fixture.consumer->ops->close(fixture.consumer);
    cr_assert_eq(fixture.revoked, PARTITIONS);
    fixture.consumer->ops->free(fixture.consumer);
}

TestSuite(consumer_contract, .timeout = 90);

Test(consumer_contract, begins_where_it_is_told_and_goes_back_memory) {
    check(true);
}

Test(consumer_contract, begins_where_it_is_told_and_goes_back_kafka) {
    check(false);
}
