#include "common/adapters/kafka_topic.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"

/* The broker refuses records whose timestamp lies further back (Kafka 3.6). */
#define FENCE_SETTING "message.timestamp.before.max.ms"

enum { TEXT_BYTES = 256, TAIL_WAIT_MS = 15000, TOPIC_WAIT_MS = 10000 };

enum err_code kafka_conf_set_all(rd_kafka_conf_t *conf, const char *const (*settings)[2],
                                 size_t count, struct err *err) {
    char text[TEXT_BYTES];

    for (size_t i = 0; i < count; i++) {
        if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], text, sizeof(text)) !=
            RD_KAFKA_CONF_OK) {
            return err_set(err, ERR_INVALID, "kafka: %s", text);
        }
    }
    return ERR_OK;
}

/* --- existence --- */

static rd_kafka_resp_err_t result_of_creation(rd_kafka_event_t *event, struct err *err) {
    size_t count = 0;
    const rd_kafka_CreateTopics_result_t *result = rd_kafka_event_CreateTopics_result(event);

    if (result == NULL || rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        (void)err_set(err, ERR_UNAVAILABLE, "kafka: the topic can't be made: %s",
                      rd_kafka_event_error_string(event));
        return RD_KAFKA_RESP_ERR__FAIL;
    }
    const rd_kafka_topic_result_t **topics = rd_kafka_CreateTopics_result_topics(result, &count);
    if (count != 1) {
        return RD_KAFKA_RESP_ERR__FAIL;
    }
    const rd_kafka_resp_err_t error = rd_kafka_topic_result_error(topics[0]);
    const char *why = rd_kafka_topic_result_error_string(topics[0]);
    (void)err_set(err, ERR_UNAVAILABLE, "kafka: the topic can't be made: %s",
                  why != NULL ? why : rd_kafka_err2str(error));
    return error;
}

static enum err_code make_topic(const struct kafka_topic *topic, rd_kafka_t *client,
                                struct err *err) {
    char text[TEXT_BYTES] = "";
    rd_kafka_NewTopic_t *made = rd_kafka_NewTopic_new(topic->name, topic->partitions,
                                                      topic->replication, text, sizeof(text));

    if (made == NULL) {
        return err_set(err, ERR_INVALID, "kafka: %s", text);
    }
    /* The topic is history: it never expires and is never compacted. */
    (void)rd_kafka_NewTopic_set_config(made, "retention.ms", "-1");
    (void)rd_kafka_NewTopic_set_config(made, "retention.bytes", "-1");
    (void)rd_kafka_NewTopic_set_config(made, "cleanup.policy", "delete");
    char fence_ms[24];
    (void)snprintf(fence_ms, sizeof(fence_ms), "%" PRId64, topic->fence_ms);
    if (topic->fence_ms > 0) {
        (void)rd_kafka_NewTopic_set_config(made, FENCE_SETTING, fence_ms);
    }
    rd_kafka_AdminOptions_t *admin =
        rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    (void)rd_kafka_AdminOptions_set_request_timeout(admin, (int)topic->timeout_ms, text,
                                                    sizeof(text));
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    rd_kafka_CreateTopics(client, &made, 1, admin, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, (int)topic->timeout_ms + 1000);
    enum err_code code = ERR_OK;
    if (event == NULL) {
        code = err_set(err, ERR_UNAVAILABLE, "kafka: no answer to making the topic");
    } else {
        const rd_kafka_resp_err_t error = result_of_creation(event, err);
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR &&
            error != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) {
            code = ERR_UNAVAILABLE;
        } else if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
            log_info(topic->log, log_event("kafka.topic_made"), log_cstr("topic", topic->name),
                     log_i64("partitions", topic->partitions));
        }
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(admin);
    rd_kafka_NewTopic_destroy(made);
    return code;
}

/* The topic's partition count as the broker tells it now; 0: there is no such topic. */
static enum err_code count_partitions(const struct kafka_topic *topic, rd_kafka_t *client,
                                      int32_t *count, struct err *err) {
    const struct rd_kafka_metadata *metadata = NULL;
    const rd_kafka_resp_err_t error =
        rd_kafka_metadata(client, 1, NULL, &metadata, (int)topic->timeout_ms);

    *count = 0;
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return err_set(err, ERR_UNAVAILABLE, "kafka: %s: %s", topic->brokers,
                       rd_kafka_err2str(error));
    }
    for (int i = 0; i < metadata->topic_cnt; i++) {
        if (strcmp(metadata->topics[i].topic, topic->name) == 0) {
            *count = metadata->topics[i].partition_cnt;
        }
    }
    rd_kafka_metadata_destroy(metadata);
    return ERR_OK;
}

enum err_code kafka_topic_check(const struct kafka_topic *topic, rd_kafka_t *client,
                                struct err *err) {
    int32_t count = 0;
    const enum err_code code = count_partitions(topic, client, &count, err);

    if (code != ERR_OK || count == topic->partitions) {
        return code;
    }
    if (count == 0) {
        return err_set(err, ERR_NOT_FOUND, "topic %s does not exist", topic->name);
    }
    return err_set(err, ERR_INVALID,
                   "topic %s has %" PRId32 " partitions, configured are %" PRId32
                   ": a key's partition would change; set DAYBOOK_TOPIC_PARTITIONS to what the "
                   "topic has",
                   topic->name, count, topic->partitions);
}

static enum err_code ensure_exists(const struct kafka_topic *topic, rd_kafka_t *client,
                                   struct err *err) {
    const int64_t deadline_us = clock_monotonic_us() + TOPIC_WAIT_MS * INT64_C(1000);
    const struct timespec pause = {.tv_nsec = 50000000};
    enum err_code code = kafka_topic_check(topic, client, err);

    if (code == ERR_NOT_FOUND) {
        const enum err_code made = make_topic(topic, client, err);
        if (made != ERR_OK) {
            return made;
        }
    }
    while (code == ERR_NOT_FOUND) {
        if (clock_monotonic_us() > deadline_us) {
            return err_set(err, ERR_UNAVAILABLE, "kafka: the new topic %s does not show up",
                           topic->name);
        }
        (void)nanosleep(&pause, NULL); /* the broker spreads the news */
        code = kafka_topic_check(topic, client, err);
    }
    return code;
}

/* --- settings --- */

struct topic_settings {
    int64_t record_max;
    int64_t before_max_ms;
    bool stamps; /* message.timestamp.type is LogAppendTime */
};

static rd_kafka_event_t *await_admin(rd_kafka_queue_t *queue, const struct kafka_topic *topic,
                                     const char *what, struct err *err) {
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, (int)topic->timeout_ms + 1000);

    if (event == NULL) {
        (void)err_set(err, ERR_UNAVAILABLE, "kafka: %s: no answer", what);
        return NULL;
    }
    if (rd_kafka_event_error(event) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        (void)err_set(err, ERR_UNAVAILABLE, "kafka: %s: %s", what,
                      rd_kafka_event_error_string(event));
        rd_kafka_event_destroy(event);
        return NULL;
    }
    return event;
}

/* Settings that are the topic's own are copied to `own`: altering replaces them all. */
static void note_setting(const rd_kafka_ConfigEntry_t *entry, rd_kafka_ConfigResource_t *own,
                         struct topic_settings *out) {
    const char *name = rd_kafka_ConfigEntry_name(entry);
    const char *value = rd_kafka_ConfigEntry_value(entry);

    if (value == NULL) {
        return;
    }
    if (strcmp(name, "max.message.bytes") == 0) {
        out->record_max = strtoll(value, NULL, 10);
    } else if (strcmp(name, FENCE_SETTING) == 0) {
        out->before_max_ms = strtoll(value, NULL, 10);
    } else if (strcmp(name, "message.timestamp.type") == 0) {
        out->stamps = strcmp(value, "LogAppendTime") == 0;
    }
    if (rd_kafka_ConfigEntry_source(entry) == RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG) {
        (void)rd_kafka_ConfigResource_set_config(own, name, value);
    }
}

static enum err_code read_settings(const struct kafka_topic *topic, rd_kafka_t *client,
                                   rd_kafka_ConfigResource_t *own, struct topic_settings *out,
                                   struct err *err) {
    rd_kafka_ConfigResource_t *asked =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic->name);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    size_t count = 0;
    enum err_code code = ERR_UNAVAILABLE;

    *out = (struct topic_settings){.before_max_ms = -1};
    rd_kafka_DescribeConfigs(client, &asked, 1, NULL, queue);
    rd_kafka_event_t *event = await_admin(queue, topic, "the topic's settings", err);
    const rd_kafka_ConfigResource_t **found =
        event != NULL ? rd_kafka_DescribeConfigs_result_resources(
                            rd_kafka_event_DescribeConfigs_result(event), &count)
                      : NULL;
    if (found != NULL && count == 1 &&
        rd_kafka_ConfigResource_error(found[0]) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        const rd_kafka_ConfigEntry_t **entries = rd_kafka_ConfigResource_configs(found[0], &count);
        for (size_t i = 0; i < count; i++) {
            note_setting(entries[i], own, out);
        }
        code = ERR_OK;
    } else if (event != NULL) {
        code = err_set(err, ERR_UNAVAILABLE, "kafka: the topic's settings can't be read");
    }
    if (event != NULL) {
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_ConfigResource_destroy(asked);
    return code;
}

static enum err_code set_fence(const struct kafka_topic *topic, rd_kafka_t *client,
                               rd_kafka_ConfigResource_t *own, struct err *err) {
    char fence_ms[24];
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client);
    size_t count = 0;
    enum err_code code = ERR_UNAVAILABLE;

    (void)snprintf(fence_ms, sizeof(fence_ms), "%" PRId64, topic->fence_ms);
    (void)rd_kafka_ConfigResource_set_config(own, FENCE_SETTING, fence_ms);
    rd_kafka_AlterConfigs(client, &own, 1, NULL, queue);
    rd_kafka_event_t *event = await_admin(queue, topic, "the topic's fence", err);
    if (event != NULL) {
        const rd_kafka_ConfigResource_t **altered = rd_kafka_AlterConfigs_result_resources(
            rd_kafka_event_AlterConfigs_result(event), &count);
        code = ERR_OK;
        if (count != 1 || rd_kafka_ConfigResource_error(altered[0]) != RD_KAFKA_RESP_ERR_NO_ERROR) {
            code = err_set(err, ERR_INVALID,
                           "topic %s: %s can't be set to %s, set it by hand: it is what keeps a "
                           "relay that was stopped from adding records later",
                           topic->name, FENCE_SETTING, fence_ms);
        } else {
            log_info(topic->log, log_event("kafka.fence_set"), log_cstr("topic", topic->name),
                     log_i64("ms", topic->fence_ms));
        }
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    return code;
}

enum err_code kafka_topic_ensure(const struct kafka_topic *topic, rd_kafka_t *client,
                                 int64_t *record_max, struct err *err) {
    struct topic_settings settings;
    enum err_code code = ensure_exists(topic, client, err);

    if (code != ERR_OK) {
        return code;
    }
    rd_kafka_ConfigResource_t *own =
        rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, topic->name);
    code = read_settings(topic, client, own, &settings, err);
    *record_max = settings.record_max;
    if (code == ERR_OK && settings.stamps) {
        code = err_set(err, ERR_INVALID,
                       "topic %s has message.timestamp.type=LogAppendTime: the relay's stamps are "
                       "what keeps one that was stopped from adding records later; set CreateTime",
                       topic->name);
    } else if (code == ERR_OK && topic->fence_ms > 0 && settings.before_max_ms != topic->fence_ms) {
        code = set_fence(topic, client, own, err);
    }
    rd_kafka_ConfigResource_destroy(own);
    return code;
}

/* --- tails --- */

/* One partition whose last record is looked for. */
struct tail {
    int64_t low, high; /* offsets: first, and one behind the last */
    int64_t from;      /* where reading began */
    bool done;
};

static bool header_u64(const rd_kafka_message_t *message, const char *name, uint64_t *out) {
    rd_kafka_headers_t *headers = NULL;
    const void *value = NULL;
    size_t len = 0;

    return rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR &&
           rd_kafka_header_get_last(headers, name, &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR &&
           value != NULL && str_to_u64(str_of(value, len), out);
}

static enum err_code make_reader(const struct kafka_topic *topic, rd_kafka_t **out,
                                 struct err *err) {
    static const char group[] = "daybook-relay-tail"; /* needed by the client; never joined */
    char text[TEXT_BYTES];
    const char *const settings[][2] = {
        {"bootstrap.servers", topic->brokers},
        {"client.id", "daybook-relay-tail"},
        {"group.id", group},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "true"},
        {"auto.offset.reset", "error"},
        {"socket.nagle.disable", "true"},
        {"fetch.wait.max.ms", "50"},
        {"queued.max.messages.kbytes", "4096"},
        {"isolation.level", "read_uncommitted"},
        {"log_level", "0"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    enum err_code code = kafka_conf_set_all(conf, settings, ARRAY_LEN(settings), err);

    if (code == ERR_OK) {
        code = kafka_security_set(conf, topic->security, err);
    }
    if (code != ERR_OK) {
        rd_kafka_conf_destroy(conf);
        return code;
    }
    *out = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof(text));
    if (*out == NULL) {
        rd_kafka_conf_destroy(conf);
        return err_set(err, ERR_UNAVAILABLE, "kafka: %s", text);
    }
    (void)rd_kafka_poll_set_consumer(*out);
    return ERR_OK;
}

/* Positions a reader at the last offset of each partition that has records. */
static enum err_code assign_ends(const struct kafka_topic *topic, rd_kafka_t *reader,
                                 struct tail *tails, size_t count, size_t *waiting,
                                 struct err *err) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
    enum err_code code = ERR_OK;

    *waiting = 0;
    for (size_t p = 0; p < count && code == ERR_OK; p++) {
        struct tail *tail = &tails[p];
        const rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(
            reader, topic->name, (int32_t)p, &tail->low, &tail->high, (int)topic->timeout_ms);
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
            code = err_set(err, ERR_UNAVAILABLE, "kafka: end of partition %zu: %s", p,
                           rd_kafka_err2str(error));
        } else if (tail->high > tail->low) {
            tail->from = tail->high - 1;
            rd_kafka_topic_partition_list_add(list, topic->name, (int32_t)p)->offset = tail->from;
            (*waiting)++;
        } else {
            tail->done = true;
        }
    }
    if (code == ERR_OK && *waiting > 0 &&
        rd_kafka_assign(reader, list) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        code = err_set(err, ERR_UNAVAILABLE, "kafka: the ends can't be read");
    }
    rd_kafka_topic_partition_list_destroy(list);
    return code;
}

/* There was no record from `from` to the end: reads from eight times as far back. */
static enum err_code step_back(const struct kafka_topic *topic, rd_kafka_t *reader,
                               int32_t partition, struct tail *tail, struct err *err) {
    const int64_t distance = (tail->high - tail->from) * 8;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

    tail->from = tail->high - tail->low > distance ? tail->high - distance : tail->low;
    rd_kafka_topic_partition_list_add(list, topic->name, partition)->offset = tail->from;
    rd_kafka_error_t *error = rd_kafka_seek_partitions(reader, list, (int)topic->timeout_ms);
    rd_kafka_topic_partition_list_destroy(list);
    if (error != NULL) {
        (void)err_set(err, ERR_UNAVAILABLE, "kafka: end of partition %" PRId32 ": %s", partition,
                      rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
        return ERR_UNAVAILABLE;
    }
    return ERR_OK;
}

static bool header_id(const rd_kafka_message_t *message, struct uuid *out) {
    rd_kafka_headers_t *headers = NULL;
    const void *value = NULL;
    size_t len = 0;

    return rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR &&
           rd_kafka_header_get_last(headers, "ce_id", &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR &&
           value != NULL && uuid_parse(str_of(value, len), out);
}

static enum err_code note_record(const rd_kafka_message_t *message, struct tail *tail,
                                 struct publish_mark *mark, struct err *err) {
    uint64_t incarnation = 0; /* records of before had none */
    uint64_t lsn = 0;
    uint64_t seq = 0;
    struct uuid id = {{0}};

    (void)header_u64(message, "incarnation", &incarnation);
    if (!header_u64(message, "lsn", &lsn) || !header_u64(message, "seq", &seq) ||
        seq > UINT32_MAX || !header_id(message, &id)) {
        return err_set(err, ERR_INVALID,
                       "record %" PRId64 " of partition %" PRId32
                       " is not from a relay: it has no lsn, seq and ce_id",
                       message->offset, message->partition);
    }
    *mark = (struct publish_mark){.incarnation = incarnation,
                                  .commit_lsn = lsn,
                                  .seq = (uint32_t)seq,
                                  .present = true,
                                  .offset = message->offset,
                                  .event_id = id};
    tail->done = message->offset >= tail->high - 1;
    return ERR_OK;
}

static enum err_code note_message(const struct kafka_topic *topic, rd_kafka_t *reader,
                                  const rd_kafka_message_t *message, struct tail *tail,
                                  struct publish_mark *mark, struct err *err) {
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        return note_record(message, tail, mark, err);
    }
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        if (!mark->present && tail->from > tail->low) {
            return step_back(topic, reader, message->partition, tail, err);
        }
        tail->done = true;
        return ERR_OK;
    }
    return err_set(err, ERR_UNAVAILABLE, "kafka: end of partition %" PRId32 ": %s",
                   message->partition, rd_kafka_message_errstr(message));
}

static enum err_code read_ends(const struct kafka_topic *topic, rd_kafka_t *reader,
                               struct tail *tails, struct publish_mark *marks, size_t count,
                               size_t waiting, struct err *err) {
    const int64_t deadline_us = clock_monotonic_us() + TAIL_WAIT_MS * INT64_C(1000);
    enum err_code code = ERR_OK;

    while (waiting > 0 && code == ERR_OK) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(reader, 200);
        if (message != NULL) {
            struct tail *tail = message->partition >= 0 && (size_t)message->partition < count
                                    ? &tails[message->partition]
                                    : NULL;
            if (tail != NULL && !tail->done) {
                code = note_message(topic, reader, message, tail, &marks[message->partition], err);
                waiting -= tail->done ? 1 : 0;
            }
            rd_kafka_message_destroy(message);
        }
        if (code == ERR_OK && waiting > 0 && clock_monotonic_us() > deadline_us) {
            code = err_set(err, ERR_TIMEOUT, "kafka: the ends were not read within %d ms",
                           TAIL_WAIT_MS);
        }
    }
    return code;
}

enum err_code kafka_topic_read_tails(const struct kafka_topic *topic, struct publish_mark *marks,
                                     size_t count, struct err *err) {
    struct tail tails[PUBLISHER_PARTITIONS_MAX] = {{0}};
    rd_kafka_t *reader = NULL;
    size_t waiting = 0;

    assert(count <= PUBLISHER_PARTITIONS_MAX);
    enum err_code code = make_reader(topic, &reader, err);
    if (code != ERR_OK) {
        return code;
    }
    memset(marks, 0, count * sizeof(marks[0]));
    code = assign_ends(topic, reader, tails, count, &waiting, err);
    if (code == ERR_OK) {
        code = read_ends(topic, reader, tails, marks, count, waiting, err);
    }
    for (size_t p = 0; p < count; p++) {
        marks[p].end = tails[p].high;
    }
    rd_kafka_destroy(reader);
    return code;
}

enum err_code kafka_topic_look(const struct kafka_topic *topic, struct publish_mark *tails,
                               size_t count, struct err *err) {
    rd_kafka_t *reader = NULL;
    enum err_code code = make_reader(topic, &reader, err);

    if (code == ERR_OK) {
        code = kafka_topic_check(topic, reader, err);
        rd_kafka_destroy(reader);
    }
    return code == ERR_OK ? kafka_topic_read_tails(topic, tails, count, err) : code;
}
