/* What the publisher's contract leaves to the adapter: the topic, the records, the broker's
 * refusals. */
#include <criterion/criterion.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../support/environment.h"
#include "common/adapters/publisher_kafka.h"
#include "common/base/clock.h"

enum { WAIT_MS = 15000, SMALL_RECORD_BYTES = 2000, FENCE_MS = 3000 };

#define EVENT_ID "01900000-0000-7000-8000-000000000003"

static char topic[96];
static struct publisher *publisher;

static struct publisher *make(int32_t partitions) {
    return publisher_kafka_new(&(struct publisher_kafka_options){
        .brokers = stack_environment("DAYBOOK_TEST_KAFKA_BROKERS"),
        .topic = topic,
        .partitions = partitions,
        .replication = 1,
        .in_flight_max = 1000,
        .timeout_ms = 10000,
        .fence_ms = FENCE_MS,
    });
}

static void set_up(void) {
    struct err err = {0};

    (void)snprintf(topic, sizeof(topic), "%s", fresh_id("records"));
    publisher = make(2);
    cr_assert_eq(publisher->ops->open(publisher, &err), ERR_OK, "%s", err.message);
}

static void tear_down(void) {
    publisher->ops->free(publisher);
}

TestSuite(publisher_kafka, .init = set_up, .fini = tear_down, .timeout = 60);

/* --- steps --- */

static struct change change_of(struct str payload, uint64_t lsn) {
    struct change change = {
        .event = {.aggregate_type = STR("account"),
                  .stream_id = STR("acc-1"),
                  .version = 3,
                  .position = 99,
                  .event_type = STR("MoneyDeposited"),
                  .schema_version = 2,
                  .payload = payload,
                  .correlation_id = STR("corr-1"),
                  .command = STR("Deposit"),
                  .recorded_at_us = INT64_C(1769860800000001)},
        .commit_lsn = lsn,
        .seq = 4,
        .incarnation = 7,
    };

    cr_assert(uuid_parse(STR("01900000-0000-7000-8000-000000000003"), &change.event.event_id));
    return change;
}

static enum err_code publish(struct str payload, uint64_t lsn) {
    const struct change change = change_of(payload, lsn);

    return publisher->ops->publish(publisher, 1, &change, lsn, NULL);
}

static void count_delivery(void *arg, const struct delivery *delivery) {
    size_t *count = arg;

    cr_assert_geq(delivery->offset, 0);
    (*count)++;
}

/* Polls until `count` are delivered or the publisher breaks. */
static enum err_code deliver(size_t count, struct err *err) {
    const double deadline = now_seconds() + WAIT_MS / 1000.0;
    enum err_code code = ERR_OK;
    size_t delivered = 0;

    while (code == ERR_OK && delivered < count) {
        code = publisher->ops->poll(publisher, 50, count_delivery, &delivered, err);
        cr_assert_lt(now_seconds(), deadline);
    }
    return code;
}

static rd_kafka_t *client(rd_kafka_type_t type, const char *const (*settings)[2], size_t count) {
    char text[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    (void)rd_kafka_conf_set(conf, "bootstrap.servers",
                            stack_environment("DAYBOOK_TEST_KAFKA_BROKERS"), text, sizeof(text));
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(rd_kafka_conf_set(conf, settings[i][0], settings[i][1], text, sizeof(text)),
                     RD_KAFKA_CONF_OK, "%s", text);
    }
    rd_kafka_t *kafka = rd_kafka_new(type, conf, text, sizeof(text));
    cr_assert_not_null(kafka, "%s", text);
    return kafka;
}

/* The record at an offset of partition 1. */
static rd_kafka_message_t *read_record(rd_kafka_t *consumer, int64_t offset) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    const double deadline = now_seconds() + WAIT_MS / 1000.0;

    rd_kafka_topic_partition_list_add(list, topic, 1)->offset = offset;
    (void)rd_kafka_assign(consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
    for (;;) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 100);
        if (message != NULL && message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            return message;
        }
        if (message != NULL) {
            rd_kafka_message_destroy(message);
        }
        cr_assert_lt(now_seconds(), deadline, "no record at %lld", (long long)offset);
    }
}

static rd_kafka_t *make_consumer(void) {
    const char *const settings[][2] = {{"group.id", "publisher-test"},
                                       {"enable.auto.commit", "false"}};

    return client(RD_KAFKA_CONSUMER, settings, 2);
}

static struct str header(const rd_kafka_message_t *message, const char *name) {
    rd_kafka_headers_t *headers = NULL;
    const void *value = NULL;
    size_t len = 0;

    cr_assert_eq(rd_kafka_message_headers(message, &headers), RD_KAFKA_RESP_ERR_NO_ERROR);
    if (rd_kafka_header_get_last(headers, name, &value, &len) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return (struct str){0};
    }
    return str_of(value, len);
}

/* --- records --- */

Test(publisher_kafka, a_record_is_a_cloud_event_with_the_places_in_the_logs) {
    static const char *const wanted[][2] = {
        {"ce_specversion", "1.0"},
        {"ce_id", "01900000-0000-7000-8000-000000000003"},
        {"ce_source", "/daybook/command-api"},
        {"ce_type", "MoneyDeposited"},
        {"ce_subject", "acc-1"},
        {"ce_time", "2026-01-31T12:00:00.000001Z"},
        {"content-type", "application/json"},
        {"aggregate_type", "account"},
        {"version", "3"},
        {"position", "99"},
        {"schema_version", "2"},
        {"correlation_id", "corr-1"},
        {"command", "Deposit"},
        {"lsn", "18446744073709551600"},
        {"seq", "4"},
        {"incarnation", "7"},
    };
    static const char *const absent[] = {"causation_id", "actor", "traceparent"};
    const struct str payload = STR("{\"owner\":\"Gr\xc3\xbcn\"}");
    struct err err = {0};

    cr_assert_eq(publish(payload, UINT64_C(18446744073709551600)), ERR_OK);
    cr_assert_eq(deliver(1, &err), ERR_OK, "%s", err.message);
    rd_kafka_t *consumer = make_consumer();
    rd_kafka_message_t *message = read_record(consumer, 0);
    cr_assert(str_eq(str_of(message->key, message->key_len), STR("acc-1")));
    cr_assert(str_eq(str_of(message->payload, message->len), payload));
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        const struct str value = header(message, wanted[i][0]);
        cr_assert(str_eq(value, str_from(wanted[i][1])), "%s is %.*s", wanted[i][0],
                  STR_ARG(value));
    }
    for (size_t i = 0; i < ARRAY_LEN(absent); i++) {
        cr_assert_null(header(message, absent[i]).ptr, "%s", absent[i]);
    }
    rd_kafka_message_destroy(message);
    rd_kafka_destroy(consumer);
}

/* --- the topic --- */

/* One setting of the topic; with a value: sets it. */
static void configure(rd_kafka_t *kafka, const char *name, const char *value) {
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka);

    (void)rd_kafka_ConfigResource_set_config(resource, name, value);
    rd_kafka_AlterConfigs(kafka, &resource, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, WAIT_MS);
    cr_assert_not_null(event);
    cr_assert_eq(rd_kafka_event_error(event), RD_KAFKA_RESP_ERR_NO_ERROR, "%s",
                 rd_kafka_event_error_string(event));
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_ConfigResource_destroy(resource);
}

static void expect_setting(rd_kafka_t *kafka, const char *name, const char *wanted) {
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka);
    size_t count = 0;
    bool found = false;

    rd_kafka_DescribeConfigs(kafka, &resource, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, WAIT_MS);
    cr_assert_not_null(event);
    const rd_kafka_ConfigResource_t **described = rd_kafka_DescribeConfigs_result_resources(
        rd_kafka_event_DescribeConfigs_result(event), &count);
    cr_assert_eq(count, 1);
    const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(described[0], &count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rd_kafka_ConfigEntry_name(entries[i]), name) == 0) {
            cr_assert_str_eq(rd_kafka_ConfigEntry_value(entries[i]), wanted, "%s", name);
            found = true;
        }
    }
    cr_assert(found, "%s", name);
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_ConfigResource_destroy(resource);
}

Test(publisher_kafka, a_topic_that_is_made_keeps_its_records_for_ever) {
    rd_kafka_t *kafka = client(RD_KAFKA_PRODUCER, NULL, 0);

    expect_setting(kafka, "retention.ms", "-1");
    expect_setting(kafka, "retention.bytes", "-1");
    expect_setting(kafka, "cleanup.policy", "delete");
    rd_kafka_destroy(kafka);
}

Test(publisher_kafka, a_topic_with_other_partitions_is_refused_by_both_numbers) {
    struct publisher *other = make(3);
    struct err err = {0};

    cr_assert_eq(other->ops->open(other, &err), ERR_INVALID);
    cr_assert_not_null(strstr(err.message, "has 2 partitions, configured are 3"), "%s",
                       err.message);
    other->ops->free(other);
}

/* --- refusals --- */

/* The fence: whoever sends it, and whatever time it is at the sender's. */
Test(publisher_kafka, a_record_with_a_stamp_older_than_the_fence_is_refused_by_the_broker) {
    struct change change = change_of(STR("{}"), 10);
    struct publish_mark tails[2];
    struct err err = {0};

    change.held_at_us = clock_wall_us() - (FENCE_MS - 2000) * INT64_C(1000);
    cr_assert_eq(publisher->ops->publish(publisher, 1, &change, 0, &err), ERR_OK);
    cr_assert_eq(deliver(1, &err), ERR_OK, "%s", err.message);
    change.commit_lsn = 11;
    change.held_at_us = clock_wall_us() - (FENCE_MS + 500) * INT64_C(1000);
    cr_assert_eq(publisher->ops->publish(publisher, 1, &change, 0, &err), ERR_OK);
    cr_assert_eq(deliver(1, &err), ERR_UNAVAILABLE, "the publisher is broken");
    cr_assert_not_null(strstr(err.message, "Invalid timestamp"), "%s", err.message);
    publisher->ops->close(publisher);
    cr_assert_eq(publisher->ops->open(publisher, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(publisher->ops->read_tails(publisher, tails, 2, &err), ERR_OK);
    cr_assert_eq(tails[1].commit_lsn, 10);
}

Test(publisher_kafka, a_topic_that_is_there_gets_its_fence_and_keeps_its_settings) {
    rd_kafka_t *kafka = client(RD_KAFKA_PRODUCER, NULL, 0);
    struct err err = {0};

    configure(kafka, "max.message.bytes", "54321");
    expect_setting(kafka, "message.timestamp.before.max.ms", "9223372036854775807");
    publisher->ops->close(publisher);
    cr_assert_eq(publisher->ops->open(publisher, &err), ERR_OK, "%s", err.message);
    expect_setting(kafka, "message.timestamp.before.max.ms", "3000");
    expect_setting(kafka, "max.message.bytes", "54321");
    rd_kafka_destroy(kafka);
}

Test(publisher_kafka, a_record_over_the_clients_limit_is_refused_at_once) {
    static char large[1100000];

    memset(large, 'x', sizeof(large));
    cr_assert_eq(publish(str_of(large, sizeof(large)), 10), ERR_INVALID);
    cr_assert_eq(publish(STR("{}"), 11), ERR_OK, "others still pass");
    cr_assert_eq(deliver(1, NULL), ERR_OK);
}

/* What the broker refuses leaves no hole: nothing behind it in its partition may be appended, or
 * the partition's tail would say that it had been. */
Test(publisher_kafka, nothing_is_appended_behind_a_record_that_the_broker_refuses) {
    static char large[3 * SMALL_RECORD_BYTES];
    rd_kafka_t *kafka = client(RD_KAFKA_PRODUCER, NULL, 0);
    struct publish_mark tails[2];
    struct err err = {0};

    /* Not compressible: lz4 would make it fit. */
    uint64_t random = 1;
    for (size_t i = 0; i < sizeof(large); i++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        large[i] = (char)(random >> 56);
    }
    configure(kafka, "max.message.bytes", "2000");
    rd_kafka_destroy(kafka);
    cr_assert_eq(publish(STR("{}"), 10), ERR_OK);
    cr_assert_eq(deliver(1, &err), ERR_OK);
    cr_assert_eq(publish(str_of(large, sizeof(large)), 11), ERR_OK);
    for (uint64_t lsn = 12; lsn < 112; lsn++) {
        const enum err_code code = publish(STR("{}"), lsn);
        cr_assert(code == ERR_OK || code == ERR_UNAVAILABLE);
        pause_ms(1); /* so that they go out in batches of their own */
    }
    cr_assert_eq(deliver(1, &err), ERR_UNAVAILABLE, "the publisher is broken, and says so");
    cr_assert_neq(err.message[0], '\0');
    /* A client that went on would have done so by now: there is nothing else to wait for. */
    pause_ms(500);
    publisher->ops->close(publisher);
    cr_assert_eq(publisher->ops->open(publisher, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(publisher->ops->read_tails(publisher, tails, 2, &err), ERR_OK);
    cr_assert_eq(tails[1].commit_lsn, 10, "tail is %d", (int)tails[1].commit_lsn);
}

/* --- tails --- */

static void produce_in_transaction(const char *lsn, size_t count, bool commit) {
    const char *const settings[][2] = {{"transactional.id", topic}};
    rd_kafka_t *kafka = client(RD_KAFKA_PRODUCER, settings, 1);

    cr_assert_null(rd_kafka_init_transactions(kafka, WAIT_MS));
    for (size_t i = 0; i < count; i++) {
        cr_assert_null(rd_kafka_begin_transaction(kafka));
        cr_assert_eq(rd_kafka_producev(kafka, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(1),
                                       RD_KAFKA_V_HEADER("ce_id", EVENT_ID, -1),
                                       RD_KAFKA_V_HEADER("lsn", lsn, -1),
                                       RD_KAFKA_V_HEADER("seq", "1", -1), RD_KAFKA_V_END),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
        cr_assert_null(commit ? rd_kafka_commit_transaction(kafka, WAIT_MS)
                              : rd_kafka_abort_transaction(kafka, WAIT_MS));
    }
    rd_kafka_destroy(kafka);
}

Test(publisher_kafka, a_tail_is_found_behind_offsets_without_records) {
    struct publish_mark tails[2];
    struct err err = {0};

    produce_in_transaction("77", 1, true); /* a control record follows it */
    cr_assert_eq(publisher->ops->read_tails(publisher, tails, 2, &err), ERR_OK, "%s", err.message);
    cr_assert_not(tails[0].present);
    cr_assert(tails[1].present);
    cr_assert_eq(tails[1].commit_lsn, 77);
    cr_assert_eq(tails[1].seq, 1);
}

Test(publisher_kafka, a_foreign_record_at_the_tail_is_refused) {
    rd_kafka_t *kafka = client(RD_KAFKA_PRODUCER, NULL, 0);
    struct publish_mark tails[2];
    struct err err = {0};

    cr_assert_eq(rd_kafka_producev(kafka, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0),
                                   RD_KAFKA_V_KEY("k", 1), RD_KAFKA_V_END),
                 RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert_eq(rd_kafka_flush(kafka, WAIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_destroy(kafka);
    cr_assert_eq(publisher->ops->read_tails(publisher, tails, 2, &err), ERR_INVALID);
    cr_assert_not_null(strstr(err.message, "partition 0"), "%s", err.message);
}
