#include "common/adapters/event_scan_kafka.h"

#include <inttypes.h>
#include <librdkafka/rdkafka.h>

#include "common/adapters/kafka_topic.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

enum { TEXT_BYTES = 256, POLL_MS = 200, SILENCE_MS = 30000 };

struct event_scan_kafka {
    struct event_scan base;
    struct event_scan_kafka_options options;
    rd_kafka_t *reader;
    rd_kafka_message_t *message;
    int64_t low[PUBLISHER_PARTITIONS_MAX];
    int64_t ends[PUBLISHER_PARTITIONS_MAX];  /* to read up to */
    int64_t nexts[PUBLISHER_PARTITIONS_MAX]; /* read up to */
};

static struct event_scan_kafka *self_of(struct event_scan *scan) {
    return (struct event_scan_kafka *)(void *)scan;
}

/* --- records --- */

static struct str header(const rd_kafka_headers_t *headers, const char *name) {
    const void *value = NULL;
    size_t len = 0;

    if (headers == NULL ||
        rd_kafka_header_get_last(headers, name, &value, &len) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return (struct str){0};
    }
    return str_of(value, value != NULL ? len : 0);
}

/* Why the record can't be an event of ours; NULL: it is one. */
static const char *read_numbers(const rd_kafka_headers_t *headers, struct scanned_event *out) {
    struct recorded_event *event = &out->event;
    int64_t schema_version = 0;

    if (!str_to_i64(header(headers, "version"), &event->version) || event->version < 1) {
        return "no version";
    }
    if (!uuid_parse(header(headers, "ce_id"), &event->event_id)) {
        return "no ce_id";
    }
    if (!clock_parse_rfc3339(header(headers, "ce_time"), &event->recorded_at_us)) {
        return "no ce_time";
    }
    if (!str_to_i64(header(headers, "position"), &event->position)) {
        return "no position";
    }
    if (!str_to_i64(header(headers, "schema_version"), &schema_version) || schema_version < 1 ||
        schema_version > INT32_MAX) {
        return "no schema_version";
    }
    event->schema_version = (int32_t)schema_version;
    const struct str incarnation = header(headers, "incarnation"); /* earlier records had none */
    return incarnation.len > 0 && !str_to_u64(incarnation, &out->incarnation) ? "no incarnation"
                                                                              : NULL;
}

static void read_record(const rd_kafka_message_t *message, struct scanned_event *out) {
    rd_kafka_headers_t *headers = NULL;

    (void)rd_kafka_message_headers(message, &headers);
    *out = (struct scanned_event){
        .event = {.aggregate_type = header(headers, "aggregate_type"),
                  .stream_id = str_of(message->key, message->key_len),
                  .event_type = header(headers, "ce_type"),
                  .payload = str_of(message->payload, message->len),
                  .correlation_id = header(headers, "correlation_id"),
                  .causation_id = header(headers, "causation_id"),
                  .actor = header(headers, "actor"),
                  .traceparent = header(headers, "traceparent"),
                  .command = header(headers, "command")},
        .partition = message->partition,
        .offset = message->offset,
        .without_payload = header(headers, "ce_dataref").len > 0,
    };
    out->defect = message->key_len == 0 ? "no key" : read_numbers(headers, out);
}

/* --- reading --- */

static enum err_code look_for_more(struct event_scan_kafka *self, bool *more, struct err *err) {
    *more = false;
    for (int32_t p = 0; p < self->options.partitions; p++) {
        const rd_kafka_resp_err_t error =
            rd_kafka_query_watermark_offsets(self->reader, self->options.topic, p, &self->low[p],
                                             &self->ends[p], (int)self->options.timeout_ms);
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
            return err_set(err, ERR_UNAVAILABLE, "kafka: end of partition %" PRId32 ": %s", p,
                           rd_kafka_err2str(error));
        }
        self->nexts[p] = self->nexts[p] > self->low[p] ? self->nexts[p] : self->low[p];
        *more = *more || self->nexts[p] < self->ends[p];
    }
    return ERR_OK;
}

static bool has_more(const struct event_scan_kafka *self) {
    for (int32_t p = 0; p < self->options.partitions; p++) {
        if (self->nexts[p] < self->ends[p]) {
            return true;
        }
    }
    return false;
}

/* The partition's end: offsets without records may lie before it. */
static void note_end(struct event_scan_kafka *self, const rd_kafka_message_t *message) {
    int64_t *next = &self->nexts[message->partition];

    *next = message->offset > *next ? message->offset : *next;
}

static enum err_code scan_next(struct event_scan *scan, struct scanned_event *out, bool *found,
                               struct err *err) {
    struct event_scan_kafka *self = self_of(scan);
    int64_t deadline_us = clock_monotonic_us() + SILENCE_MS * INT64_C(1000);

    *found = false;
    if (!has_more(self)) {
        bool more = false;
        const enum err_code code = look_for_more(self, &more, err);
        if (code != ERR_OK || !more) {
            return code;
        }
    }
    while (has_more(self)) {
        if (self->message != NULL) {
            rd_kafka_message_destroy(self->message);
        }
        self->message = rd_kafka_consumer_poll(self->reader, POLL_MS);
        if (self->message != NULL && self->message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
            self->nexts[self->message->partition] = self->message->offset + 1;
            read_record(self->message, out);
            *found = true;
            return ERR_OK;
        }
        if (self->message != NULL && self->message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
            note_end(self, self->message);
        } else if (clock_monotonic_us() > deadline_us) {
            return err_set(err, ERR_TIMEOUT, "kafka: %s",
                           self->message != NULL ? rd_kafka_message_errstr(self->message)
                                                 : "no record came");
        }
    }
    return ERR_OK;
}

static uint64_t scan_expected(const struct event_scan *scan) {
    const struct event_scan_kafka *self = (const struct event_scan_kafka *)(const void *)scan;
    uint64_t sum = 0;

    for (int32_t p = 0; p < self->options.partitions; p++) {
        sum += (uint64_t)(self->ends[p] - self->low[p]);
    }
    return sum;
}

static void scan_free(struct event_scan *scan) {
    struct event_scan_kafka *self = self_of(scan);

    if (self->message != NULL) {
        rd_kafka_message_destroy(self->message);
    }
    if (self->reader != NULL) {
        rd_kafka_destroy(self->reader);
    }
    mem_free(self);
}

static enum err_code make_reader(struct event_scan_kafka *self, struct err *err) {
    char text[TEXT_BYTES];
    const char *const settings[][2] = {
        {"bootstrap.servers", self->options.brokers},
        {"client.id", "daybook-relay-verify"},
        {"group.id", "daybook-relay-verify"}, /* needed by the client; never joined */
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"enable.partition.eof", "true"},
        {"auto.offset.reset", "error"},
        {"socket.nagle.disable", "true"},
        {"fetch.wait.max.ms", "50"},
        {"queued.max.messages.kbytes", "32768"},
        {"isolation.level", "read_uncommitted"},
        {"log_level", "0"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    enum err_code code = kafka_conf_set_all(conf, settings, ARRAY_LEN(settings), err);

    if (code == ERR_OK) {
        code = kafka_security_set(conf, self->options.security, err);
    }
    if (code == ERR_OK) {
        self->reader = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof(text));
    }
    if (self->reader == NULL) {
        rd_kafka_conf_destroy(conf);
        return code != ERR_OK ? code : err_set(err, ERR_UNAVAILABLE, "kafka: %s", text);
    }
    (void)rd_kafka_poll_set_consumer(self->reader);
    return ERR_OK;
}

static enum err_code assign_all(struct event_scan_kafka *self, struct err *err) {
    rd_kafka_topic_partition_list_t *list =
        rd_kafka_topic_partition_list_new(self->options.partitions);

    for (int32_t p = 0; p < self->options.partitions; p++) {
        rd_kafka_topic_partition_list_add(list, self->options.topic, p)->offset =
            RD_KAFKA_OFFSET_BEGINNING;
    }
    const rd_kafka_resp_err_t error = rd_kafka_assign(self->reader, list);
    rd_kafka_topic_partition_list_destroy(list);
    return error == RD_KAFKA_RESP_ERR_NO_ERROR
               ? ERR_OK
               : err_set(err, ERR_UNAVAILABLE, "kafka: %s", rd_kafka_err2str(error));
}

enum err_code event_scan_kafka_open(const struct event_scan_kafka_options *options,
                                    struct event_scan **out, struct err *err) {
    static const struct event_scan_ops ops = {
        .next = scan_next,
        .expected = scan_expected,
        .free = scan_free,
    };
    struct event_scan_kafka *self = mem_zalloc(sizeof(*self));
    const struct kafka_topic topic = {.brokers = options->brokers,
                                      .security = options->security,
                                      .name = options->topic,
                                      .partitions = options->partitions,
                                      .timeout_ms = options->timeout_ms};
    bool more = false;

    self->base.ops = &ops;
    self->options = *options;
    enum err_code code = make_reader(self, err);
    if (code == ERR_OK) {
        code = kafka_topic_check(&topic, self->reader, err);
    }
    if (code == ERR_OK) {
        code = look_for_more(self, &more, err);
    }
    if (code == ERR_OK) {
        code = assign_all(self, err);
    }
    if (code == ERR_OK) {
        *out = &self->base;
    } else {
        scan_free(&self->base);
    }
    return code;
}
