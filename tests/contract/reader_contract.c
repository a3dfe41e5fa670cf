/* The reader's contract, in memory, on Kafka (a topic of its own each time), and of a tap of a hub
 * on Kafka. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "../support/environment.h"
#include "common/adapters/publisher_kafka.h"
#include "common/adapters/reader_kafka.h"
#include "common/adapters/reader_mem.h"
#include "projector/reader_hub.h"

enum { PARTITIONS = 2, RECORDS = 10 };

enum kind { MEMORY, KAFKA, HUB };

static struct event_reader *reader;
static struct reader_hub *hub;
static char topic[96];

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
static void fill_topic(void) {
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

static struct event_reader *make_kafka(void *arg) {
    (void)arg;
    return reader_kafka_new(&(struct reader_kafka_options){
        .brokers = stack_environment("DAYBOOK_TEST_KAFKA_BROKERS"),
        .topic = topic,
        .partitions = PARTITIONS,
        .timeout_ms = 10000,
    });
}

static void set_up(enum kind kind) {
    struct err err = {0};

    if (kind == MEMORY) {
        reader = reader_mem_new(PARTITIONS);
        for (int64_t i = 1; i <= RECORDS; i++) {
            const struct recorded_event event = event_of(i);
            reader_mem_add(reader, 0, &event);
        }
    } else {
        (void)snprintf(topic, sizeof(topic), "%s", fresh_id("consume"));
        fill_topic();
        reader = kind == KAFKA ? make_kafka(NULL) : NULL;
    }
    if (kind == HUB) {
        const struct reader_hub_options options = {.make = make_kafka, .partitions = PARTITIONS};
        cr_assert_eq(reader_hub_start(&options, &hub, &err), ERR_OK, "%s", err.message);
        reader = reader_hub_tap(hub);
    }
    cr_assert_eq(reader->ops->open(reader, &err), ERR_OK, "%s", err.message);
}

/* The next record must be the one at `offset`, whole. */
static void expect_record(int64_t offset) {
    const double deadline = now_seconds() + 30;
    const struct recorded_event wanted = event_of(offset + 1);
    struct consumed_record record;
    struct err err = {0};
    size_t count = 0;

    do {
        cr_assert_lt(now_seconds(), deadline, "record %lld did not come", (long long)offset);
        cr_assert_eq(reader->ops->poll(reader, 100, &record, 1, &count, &err), ERR_OK, "%s",
                     err.message);
    } while (count == 0);
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
    reader->ops->release(reader, &record, 1);
}

static void start(int64_t offset) {
    struct err err = {0};

    cr_assert_eq(reader->ops->start(reader, 0, offset, &err), ERR_OK, "%s", err.message);
}

static void check(enum kind kind) {
    struct consumed_record record;
    struct err err = {0};
    int64_t first = -1;
    int64_t end = -1;
    size_t count = 9;

    set_up(kind);
    start(4);
    for (int64_t offset = 4; offset < RECORDS; offset++) {
        expect_record(offset);
    }
    cr_assert_eq(reader->ops->end_offset(reader, 0), RECORDS);
    cr_assert_eq(reader->ops->bounds(reader, 0, &first, &end, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(first, 0);
    cr_assert_eq(end, RECORDS);
    start(2); /* moved: nothing from before the move comes */
    expect_record(2);
    start(7);
    expect_record(7);
    reader->ops->stop(reader, 0);
    cr_assert_eq(reader->ops->poll(reader, 100, &record, 1, &count, &err), ERR_OK);
    cr_assert_eq(count, 0);
    reader->ops->free(reader);
    reader_hub_free(hub);
}

TestSuite(reader_contract, .timeout = 90);

Test(reader_contract, begins_where_it_is_told_and_moves_memory) {
    check(MEMORY);
}

Test(reader_contract, begins_where_it_is_told_and_moves_kafka) {
    check(KAFKA);
}

Test(reader_contract, begins_where_it_is_told_and_moves_hub) {
    check(HUB);
}
