#include "topic.h"

#include <criterion/criterion.h>
#include <librdkafka/rdkafka.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/base/hash.h"
#include "environment.h"

enum { WAIT_MS = 15000, PARTITIONS = 6 };

static rd_kafka_t *client(rd_kafka_type_t type) {
    char text[256];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    (void)rd_kafka_conf_set(conf, "bootstrap.servers",
                            stack_environment("DAYBOOK_TEST_KAFKA_BROKERS"), text, sizeof(text));
    if (type == RD_KAFKA_CONSUMER) {
        (void)rd_kafka_conf_set(conf, "group.id", "topic-test", text, sizeof(text));
    }
    rd_kafka_t *kafka = rd_kafka_new(type, conf, text, sizeof(text));
    cr_assert_not_null(kafka, "%s", text);
    return kafka;
}

static void await(rd_kafka_queue_t *queue) {
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, WAIT_MS);

    cr_assert_not_null(event);
    cr_assert_eq(rd_kafka_event_error(event), RD_KAFKA_RESP_ERR_NO_ERROR, "%s",
                 rd_kafka_event_error_string(event));
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
}

void topic_delete(const char *topic) {
    rd_kafka_t *kafka = client(RD_KAFKA_PRODUCER);
    rd_kafka_DeleteTopic_t *deleted = rd_kafka_DeleteTopic_new(topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka);

    rd_kafka_DeleteTopics(kafka, &deleted, 1, NULL, queue);
    await(queue);
    rd_kafka_DeleteTopic_destroy(deleted);
    rd_kafka_destroy(kafka);
}

static rd_kafka_resp_err_t make(rd_kafka_t *kafka, const char *topic, int partitions) {
    rd_kafka_NewTopic_t *made = rd_kafka_NewTopic_new(topic, partitions, 1, NULL, 0);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka);
    size_t count = 0;

    rd_kafka_CreateTopics(kafka, &made, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, WAIT_MS);
    cr_assert_not_null(event);
    const rd_kafka_topic_result_t **results =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    const rd_kafka_resp_err_t error =
        count == 1 ? rd_kafka_topic_result_error(results[0]) : RD_KAFKA_RESP_ERR__FAIL;
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(queue);
    rd_kafka_NewTopic_destroy(made);
    return error;
}

void topic_make_anew(const char *topic, int partitions) {
    const double deadline = now_seconds() + WAIT_MS / 1000.0;

    topic_delete(topic);
    rd_kafka_t *kafka = client(RD_KAFKA_PRODUCER);
    /* Its name is free a moment later. */
    while (make(kafka, topic, partitions) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        cr_assert_lt(now_seconds(), deadline, "the topic can't be made");
    }
    rd_kafka_destroy(kafka);
}

void topic_set(const char *topic, const char *name, const char *value) {
    rd_kafka_t *kafka = client(RD_KAFKA_PRODUCER);
    rd_kafka_ConfigResource_t *resource =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka);

    (void)rd_kafka_ConfigResource_set_config(resource, name, value);
    rd_kafka_AlterConfigs(kafka, &resource, 1, NULL, queue);
    await(queue);
    rd_kafka_ConfigResource_destroy(resource);
    rd_kafka_destroy(kafka);
}

static void flush(rd_kafka_t *kafka) {
    cr_assert_eq(rd_kafka_flush(kafka, WAIT_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    rd_kafka_destroy(kafka);
}

void topic_append_foreign(const char *topic, int partition) {
    rd_kafka_t *kafka = client(RD_KAFKA_PRODUCER);

    cr_assert_eq(rd_kafka_producev(kafka, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                                   RD_KAFKA_V_KEY("k", 1), RD_KAFKA_V_END),
                 RD_KAFKA_RESP_ERR_NO_ERROR);
    flush(kafka);
}

void topic_append_event(const char *stream, int version, const char *payload) {
    rd_kafka_t *kafka = client(RD_KAFKA_PRODUCER);
    char number[16];

    (void)snprintf(number, sizeof(number), "%d", version);
    cr_assert_eq(
        rd_kafka_producev(kafka, RD_KAFKA_V_TOPIC("account-events"),
                          RD_KAFKA_V_PARTITION(hash_kafka_partition(str_from(stream), PARTITIONS)),
                          RD_KAFKA_V_KEY(stream, strlen(stream)),
                          RD_KAFKA_V_VALUE((void *)(uintptr_t)payload, strlen(payload)),
                          RD_KAFKA_V_HEADER("aggregate_type", "account", -1),
                          RD_KAFKA_V_HEADER("ce_type", "MoneyDeposited", -1),
                          RD_KAFKA_V_HEADER("ce_id", "01890000-0000-7000-8000-000000000000", -1),
                          RD_KAFKA_V_HEADER("ce_time", "2026-01-31T12:00:00.000001Z", -1),
                          RD_KAFKA_V_HEADER("version", number, -1),
                          RD_KAFKA_V_HEADER("position", "0", -1),
                          RD_KAFKA_V_HEADER("schema_version", "1", -1),
                          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END),
        RD_KAFKA_RESP_ERR_NO_ERROR);
    flush(kafka);
}

void topic_repeat_last(const char *topic, int partition) {
    rd_kafka_t *producer = client(RD_KAFKA_PRODUCER);
    rd_kafka_t *consumer = client(RD_KAFKA_CONSUMER);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_headers_t *headers = NULL;

    rd_kafka_topic_partition_list_add(list, topic, partition)->offset = RD_KAFKA_OFFSET_TAIL(1);
    (void)rd_kafka_assign(consumer, list);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, WAIT_MS);
    cr_assert_not_null(message);
    cr_assert_eq(message->err, RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert_eq(rd_kafka_message_headers(message, &headers), RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert_eq(
        rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
                          RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                          RD_KAFKA_V_KEY(message->key, message->key_len),
                          RD_KAFKA_V_VALUE(message->payload, message->len),
                          RD_KAFKA_V_HEADERS(rd_kafka_headers_copy(headers)), RD_KAFKA_V_END),
        RD_KAFKA_RESP_ERR_NO_ERROR);
    flush(producer);
    rd_kafka_message_destroy(message);
    rd_kafka_destroy(consumer);
}

int topic_led_by(const char *topic, int broker) {
    rd_kafka_t *kafka = client(RD_KAFKA_PRODUCER);
    rd_kafka_topic_t *handle = rd_kafka_topic_new(kafka, topic, NULL);
    const struct rd_kafka_metadata *metadata = NULL;
    int led = 0;

    cr_assert_eq(rd_kafka_metadata(kafka, 0, handle, &metadata, WAIT_MS),
                 RD_KAFKA_RESP_ERR_NO_ERROR);
    cr_assert_eq(metadata->topic_cnt, 1);
    for (int i = 0; i < metadata->topics[0].partition_cnt; i++) {
        led += metadata->topics[0].partitions[i].leader == broker ? 1 : 0;
    }
    rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(handle);
    rd_kafka_destroy(kafka);
    return led;
}
