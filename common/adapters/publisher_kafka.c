/*
 * Invariants
 *  1. message.timeout.ms is 0: a record waits for the broker as long as it takes; what bounds the
 *     wait is the number in flight. So a delivery report with an error means the producer is beyond
 *     repair (or the record can never be accepted).
 *  2. After the first failed delivery nothing more is reported as delivered: `broken` holds until
 *     the publisher is closed.
 */
#include "common/adapters/publisher_kafka.h"

#include <errno.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

enum { TEXT_BYTES = 256, TAIL_WAIT_MS = 15000, METADATA_WAIT_MS = 10000 };

struct publisher_kafka {
    struct publisher base;
    struct publisher_kafka_options options;
    rd_kafka_t *producer;
    rd_kafka_queue_t *queue; /* of delivery reports; ours for the descriptor */
    rd_kafka_topic_t *topic;
    int event_fd;
    publisher_delivered_fn *delivered; /* during poll */
    void *delivered_arg;
    bool broken;
    struct err why_broken;
};

static struct publisher_kafka *self_of(struct publisher *publisher) {
    return (struct publisher_kafka *)(void *)publisher;
}

/* --- callbacks --- */

static void on_delivery(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *opaque) {
    struct publisher_kafka *self = opaque;
    const uint64_t tag = (uint64_t)(uintptr_t)message->_private;

    (void)kafka;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR && !self->broken) {
        self->broken = true;
        (void)err_set(&self->why_broken, ERR_UNAVAILABLE, "kafka: a record was not delivered: %s",
                      rd_kafka_err2str(message->err));
    }
    if (self->delivered != NULL && !self->broken) {
        self->delivered(self->delivered_arg, tag, ERR_OK);
    }
}

static void on_error(rd_kafka_t *kafka, int error, const char *reason, void *opaque) {
    struct publisher_kafka *self = opaque;
    char text[TEXT_BYTES] = "";

    if (error == RD_KAFKA_RESP_ERR__FATAL) {
        const rd_kafka_resp_err_t fatal = rd_kafka_fatal_error(kafka, text, sizeof(text));
        self->broken = true;
        (void)err_set(&self->why_broken, ERR_UNAVAILABLE, "kafka: fatal: %s: %s",
                      rd_kafka_err2name(fatal), text);
        return;
    }
    log_warn(self->options.log, log_event("kafka.error"),
             log_cstr("name", rd_kafka_err2name((rd_kafka_resp_err_t)error)),
             log_cstr("reason", reason));
}

static void on_log(const rd_kafka_t *kafka, int level, const char *facility, const char *text) {
    struct publisher_kafka *self = rd_kafka_opaque(kafka);

    if (level <= 4) { /* syslog's warning */
        log_debug(self->options.log, log_event("kafka.log"), log_cstr("facility", facility),
                  log_cstr("text", text));
    }
}

/* --- opening --- */

static enum err_code set_all(rd_kafka_conf_t *conf, const char *const (*settings)[2], size_t count,
                             struct err *err) {
    char text[TEXT_BYTES];

    for (size_t i = 0; i < count; i++) {
        if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], text, sizeof(text)) !=
            RD_KAFKA_CONF_OK) {
            return err_set(err, ERR_INVALID, "kafka: %s", text);
        }
    }
    return ERR_OK;
}

static enum err_code make_producer(struct publisher_kafka *self, struct err *err) {
    char in_flight[16];
    char text[TEXT_BYTES];
    const char *const settings[][2] = {
        {"bootstrap.servers", self->options.brokers},
        {"client.id", "daybook-relay"},
        {"enable.idempotence", "true"},
        {"acks", "all"},
        {"linger.ms", "0"},
        {"message.timeout.ms", "0"},
        {"compression.type", "lz4"},
        {"socket.nagle.disable", "true"},
        {"queue.buffering.max.messages", in_flight},
        {"queue.buffering.max.kbytes", "262144"},
        {"reconnect.backoff.max.ms", "1000"},
        {"topic.metadata.refresh.interval.ms", "30000"},
        {"log_level", "4"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    (void)snprintf(in_flight, sizeof(in_flight), "%" PRId32, self->options.in_flight_max);
    const enum err_code code = set_all(conf, settings, ARRAY_LEN(settings), err);
    if (code != ERR_OK) {
        rd_kafka_conf_destroy(conf);
        return code;
    }
    rd_kafka_conf_set_opaque(conf, self);
    rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_log_cb(conf, on_log);
    self->producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
    if (self->producer == NULL) {
        rd_kafka_conf_destroy(conf);
        return err_set(err, ERR_INVALID, "kafka: %s", text);
    }
    self->queue = rd_kafka_queue_get_main(self->producer);
    rd_kafka_queue_io_event_enable(self->queue, self->event_fd, "\1\0\0\0\0\0\0\0", 8);
    return ERR_OK;
}

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

static enum err_code make_topic(struct publisher_kafka *self, struct err *err) {
    char text[TEXT_BYTES] = "";
    rd_kafka_NewTopic_t *topic =
        rd_kafka_NewTopic_new(self->options.topic, self->options.partitions,
                              self->options.replication, text, sizeof(text));

    if (topic == NULL) {
        return err_set(err, ERR_INVALID, "kafka: %s", text);
    }
    /* The topic is history: it never expires and is never compacted. */
    (void)rd_kafka_NewTopic_set_config(topic, "retention.ms", "-1");
    (void)rd_kafka_NewTopic_set_config(topic, "retention.bytes", "-1");
    (void)rd_kafka_NewTopic_set_config(topic, "cleanup.policy", "delete");
    rd_kafka_AdminOptions_t *admin =
        rd_kafka_AdminOptions_new(self->producer, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    (void)rd_kafka_AdminOptions_set_request_timeout(admin, (int)self->options.timeout_ms, text,
                                                    sizeof(text));
    rd_kafka_queue_t *queue = rd_kafka_queue_new(self->producer);
    rd_kafka_CreateTopics(self->producer, &topic, 1, admin, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, (int)self->options.timeout_ms + 1000);
    enum err_code code = ERR_OK;
    if (event == NULL) {
        code = err_set(err, ERR_UNAVAILABLE, "kafka: no answer to making the topic");
    } else {
        const rd_kafka_resp_err_t error = result_of_creation(event, err);
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR &&
            error != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) {
            code = ERR_UNAVAILABLE;
        } else {
            log_info(self->options.log, log_event("kafka.topic_made"),
                     log_cstr("topic", self->options.topic),
                     log_i64("partitions", self->options.partitions));
        }
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(admin);
    rd_kafka_NewTopic_destroy(topic);
    return code;
}

/* The topic's partition count as the broker tells it now; 0: there is no such topic. */
static enum err_code count_partitions(struct publisher_kafka *self, int32_t *count,
                                      struct err *err) {
    const struct rd_kafka_metadata *metadata = NULL;
    const rd_kafka_resp_err_t error =
        rd_kafka_metadata(self->producer, 1, NULL, &metadata, (int)self->options.timeout_ms);

    *count = 0;
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return err_set(err, ERR_UNAVAILABLE, "kafka: %s: %s", self->options.brokers,
                       rd_kafka_err2str(error));
    }
    for (int i = 0; i < metadata->topic_cnt; i++) {
        if (strcmp(metadata->topics[i].topic, self->options.topic) == 0) {
            *count = metadata->topics[i].partition_cnt;
        }
    }
    rd_kafka_metadata_destroy(metadata);
    return ERR_OK;
}

static enum err_code ensure_topic(struct publisher_kafka *self, struct err *err) {
    const int64_t deadline_us = clock_monotonic_us() + METADATA_WAIT_MS * INT64_C(1000);
    const struct timespec pause = {.tv_nsec = 50000000};
    bool made = false;

    for (;;) {
        int32_t count = 0;
        enum err_code code = count_partitions(self, &count, err);
        if (code != ERR_OK) {
            return code;
        }
        if (count == self->options.partitions) {
            return ERR_OK;
        }
        if (count > 0) {
            return err_set(err, ERR_INVALID,
                           "topic %s has %" PRId32 " partitions, configured are %" PRId32
                           ": a key's partition would change; set DAYBOOK_TOPIC_PARTITIONS to "
                           "what the topic has",
                           self->options.topic, count, self->options.partitions);
        }
        if (!made) {
            code = make_topic(self, err);
            if (code != ERR_OK) {
                return code;
            }
            made = true;
        }
        if (clock_monotonic_us() > deadline_us) {
            return err_set(err, ERR_UNAVAILABLE, "kafka: the new topic %s does not show up",
                           self->options.topic);
        }
        (void)nanosleep(&pause, NULL); /* the broker spreads the news */
    }
}

static void publisher_close(struct publisher *publisher) {
    struct publisher_kafka *self = self_of(publisher);

    if (self->topic != NULL) {
        rd_kafka_topic_destroy(self->topic);
        self->topic = NULL;
    }
    if (self->producer != NULL) {
        self->delivered = NULL;
        (void)rd_kafka_purge(self->producer, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
        (void)rd_kafka_poll(self->producer, 0);
        rd_kafka_queue_io_event_enable(self->queue, -1, NULL, 0);
        rd_kafka_queue_destroy(self->queue);
        rd_kafka_destroy_flags(self->producer, 0);
        self->producer = NULL;
    }
    self->broken = false;
}

static enum err_code publisher_open(struct publisher *publisher, struct err *err) {
    struct publisher_kafka *self = self_of(publisher);

    publisher_close(publisher);
    enum err_code code = make_producer(self, err);
    if (code == ERR_OK) {
        code = ensure_topic(self, err);
    }
    if (code == ERR_OK) {
        self->topic = rd_kafka_topic_new(self->producer, self->options.topic, NULL);
        if (self->topic == NULL) {
            code = err_set(err, ERR_INVALID, "kafka: %s", rd_kafka_err2str(rd_kafka_last_error()));
        }
    }
    if (code != ERR_OK) {
        publisher_close(publisher);
    }
    return code;
}

/* --- tails --- */

static bool header_u64(const rd_kafka_message_t *message, const char *name, uint64_t *out) {
    rd_kafka_headers_t *headers = NULL;
    const void *value = NULL;
    size_t len = 0;

    return rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR &&
           rd_kafka_header_get_last(headers, name, &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR &&
           value != NULL && str_to_u64(str_of(value, len), out);
}

static enum err_code make_tail_reader(struct publisher_kafka *self, rd_kafka_t **out,
                                      struct err *err) {
    static const char group[] = "daybook-relay-tail"; /* needed by the client; never joined */
    char text[TEXT_BYTES];
    const char *const settings[][2] = {
        {"bootstrap.servers", self->options.brokers},
        {"client.id", "daybook-relay-tail"},
        {"group.id", group},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        {"socket.nagle.disable", "true"},
        {"fetch.wait.max.ms", "50"},
        {"queued.max.messages.kbytes", "4096"},
        {"isolation.level", "read_uncommitted"},
        {"log_level", "3"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    const enum err_code code = set_all(conf, settings, ARRAY_LEN(settings), err);

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

/* Positions a reader at the last record of each partition that has one. */
static enum err_code assign_tails(struct publisher_kafka *self, rd_kafka_t *reader,
                                  int64_t *last_offsets, size_t count, size_t *waiting,
                                  struct err *err) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new((int)count);
    enum err_code code = ERR_OK;

    *waiting = 0;
    for (size_t p = 0; p < count && code == ERR_OK; p++) {
        int64_t low = 0;
        int64_t high = 0;
        const rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(
            reader, self->options.topic, (int32_t)p, &low, &high, (int)self->options.timeout_ms);
        last_offsets[p] = -1;
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
            code = err_set(err, ERR_UNAVAILABLE, "kafka: end of partition %zu: %s", p,
                           rd_kafka_err2str(error));
        } else if (high > low) {
            last_offsets[p] = high - 1;
            rd_kafka_topic_partition_list_add(list, self->options.topic, (int32_t)p)->offset =
                high - 1;
            (*waiting)++;
        }
    }
    if (code == ERR_OK && *waiting > 0 &&
        rd_kafka_assign(reader, list) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        code = err_set(err, ERR_UNAVAILABLE, "kafka: the ends can't be read");
    }
    rd_kafka_topic_partition_list_destroy(list);
    return code;
}

static enum err_code read_marks(rd_kafka_t *reader, const int64_t *last_offsets,
                                struct publish_mark *tails, size_t waiting, struct err *err) {
    const int64_t deadline_us = clock_monotonic_us() + TAIL_WAIT_MS * INT64_C(1000);
    enum err_code code = ERR_OK;

    while (waiting > 0 && code == ERR_OK) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(reader, 200);
        uint64_t lsn = 0;
        uint64_t seq = 0;
        if (clock_monotonic_us() > deadline_us) {
            code = err_set(err, ERR_TIMEOUT, "kafka: the ends were not read within %d ms",
                           TAIL_WAIT_MS);
        }
        if (message == NULL) {
            continue;
        }
        if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && code == ERR_OK &&
            message->offset == last_offsets[message->partition] &&
            !tails[message->partition].present) {
            if (!header_u64(message, "lsn", &lsn) || !header_u64(message, "seq", &seq)) {
                code = err_set(err, ERR_INVALID,
                               "the last record of partition %" PRId32
                               " is not from a relay: it has no lsn and seq",
                               message->partition);
            } else {
                tails[message->partition] = (struct publish_mark){lsn, (uint32_t)seq, true};
                waiting--;
            }
        }
        rd_kafka_message_destroy(message);
    }
    return code;
}

static enum err_code publisher_read_tails(struct publisher *publisher, struct publish_mark *tails,
                                          size_t count, struct err *err) {
    struct publisher_kafka *self = self_of(publisher);
    int64_t last_offsets[PUBLISHER_PARTITIONS_MAX];
    rd_kafka_t *reader = NULL;
    size_t waiting = 0;
    enum err_code code = make_tail_reader(self, &reader, err);

    if (code != ERR_OK) {
        return code;
    }
    memset(tails, 0, count * sizeof(tails[0]));
    code = assign_tails(self, reader, last_offsets, count, &waiting, err);
    if (code == ERR_OK) {
        code = read_marks(reader, last_offsets, tails, waiting, err);
    }
    rd_kafka_destroy(reader);
    return code;
}

/* --- publishing --- */

static void add_text(rd_kafka_headers_t *headers, const char *name, struct str value) {
    if (value.len > 0) {
        (void)rd_kafka_header_add(headers, name, -1, value.ptr, (ssize_t)value.len);
    }
}

static void add_number(rd_kafka_headers_t *headers, const char *name, int64_t value) {
    char text[24];
    const int len = snprintf(text, sizeof(text), "%" PRId64, value);

    add_text(headers, name, str_of(text, (size_t)len));
}

static rd_kafka_headers_t *make_headers(const struct change *change) {
    const struct recorded_event *event = &change->event;
    rd_kafka_headers_t *headers = rd_kafka_headers_new(20);
    char id[UUID_TEXT_BYTES];
    char time[CLOCK_RFC3339_BYTES];

    uuid_format(id, &event->event_id);
    add_text(headers, "ce_specversion", STR("1.0"));
    add_text(headers, "ce_id", str_from(id));
    add_text(headers, "ce_source", STR("/daybook/command-api"));
    add_text(headers, "ce_type", event->event_type);
    add_text(headers, "ce_subject", event->stream_id);
    add_text(headers, "ce_time", str_of(time, clock_format_rfc3339(time, event->recorded_at_us)));
    add_text(headers, "content-type", STR("application/json"));
    add_text(headers, "aggregate_type", event->aggregate_type);
    add_number(headers, "version", event->version);
    add_number(headers, "position", event->position);
    add_number(headers, "schema_version", event->schema_version);
    add_text(headers, "correlation_id", event->correlation_id);
    add_text(headers, "causation_id", event->causation_id);
    add_text(headers, "actor", event->actor);
    add_text(headers, "command", event->command);
    add_text(headers, "traceparent", event->traceparent);
    add_number(headers, "lsn", (int64_t)change->commit_lsn);
    add_number(headers, "seq", change->seq);
    return headers;
}

static enum err_code publisher_publish(struct publisher *publisher, int32_t partition,
                                       const struct change *change, uint64_t tag, struct err *err) {
    struct publisher_kafka *self = self_of(publisher);
    rd_kafka_headers_t *headers = make_headers(change);
    union {
        const char *in;
        void *out;
    } payload = {.in = change->event.payload.ptr};

    if (self->broken) {
        rd_kafka_headers_destroy(headers);
        return err_set(err, ERR_UNAVAILABLE, "%s", self->why_broken.message);
    }
    const rd_kafka_resp_err_t error = rd_kafka_producev(
        self->producer, RD_KAFKA_V_RKT(self->topic), RD_KAFKA_V_PARTITION(partition),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_KEY(change->event.stream_id.ptr, change->event.stream_id.len),
        RD_KAFKA_V_VALUE(payload.out, change->event.payload.len), RD_KAFKA_V_HEADERS(headers),
        RD_KAFKA_V_OPAQUE((void *)(uintptr_t)tag), RD_KAFKA_V_END);
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
        return ERR_OK;
    }
    rd_kafka_headers_destroy(headers);
    return err_set(err, error == RD_KAFKA_RESP_ERR__QUEUE_FULL ? ERR_LIMIT : ERR_UNAVAILABLE,
                   "kafka: %s", rd_kafka_err2str(error));
}

static enum err_code publisher_poll(struct publisher *publisher, int64_t wait_ms,
                                    publisher_delivered_fn *fn, void *arg, struct err *err) {
    struct publisher_kafka *self = self_of(publisher);
    uint64_t drained;

    if (self->producer == NULL) {
        return err_set(err, ERR_UNAVAILABLE, "the publisher is closed");
    }
    if (read(self->event_fd, &drained, sizeof(drained)) < 0) {
        /* Nothing was announced; there may still be something. */
    }
    self->delivered = fn;
    self->delivered_arg = arg;
    (void)rd_kafka_poll(self->producer, (int)wait_ms);
    self->delivered = NULL;
    return self->broken ? err_set(err, ERR_UNAVAILABLE, "%s", self->why_broken.message) : ERR_OK;
}

static int publisher_descriptor(const struct publisher *publisher) {
    const struct publisher_kafka *self = (const struct publisher_kafka *)(const void *)publisher;

    return self->producer != NULL ? self->event_fd : -1;
}

static void publisher_free(struct publisher *publisher) {
    struct publisher_kafka *self = self_of(publisher);

    publisher_close(publisher);
    if (self->event_fd >= 0) {
        (void)close(self->event_fd);
    }
    mem_free(self);
}

struct publisher *publisher_kafka_new(const struct publisher_kafka_options *options) {
    static const struct publisher_ops ops = {
        .open = publisher_open,
        .read_tails = publisher_read_tails,
        .publish = publisher_publish,
        .poll = publisher_poll,
        .descriptor = publisher_descriptor,
        .close = publisher_close,
        .free = publisher_free,
    };
    struct publisher_kafka *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    self->options = *options;
    self->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return &self->base;
}
