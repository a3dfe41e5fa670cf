#include "common/adapters/reader_kafka.h"

#include <assert.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

enum {
    TEXT_BYTES = 256,
    TAKE_MAX = 4096,
    AHEAD_EVENTS = 4096,
    AHEAD_KIB_MAX = 32768, /* should events be large */
    FETCH_BYTES = 262144,
};

struct reader_kafka {
    struct event_reader base;
    struct reader_kafka_options options;
    rd_kafka_t *kafka;
    rd_kafka_topic_t *topic;
    rd_kafka_queue_t *queue;
    bool started[TOPIC_PARTITIONS_MAX];
    int64_t next[TOPIC_PARTITIONS_MAX]; /* of those started: offset not delivered yet */
    rd_kafka_message_t *taken[TAKE_MAX];
};

static struct reader_kafka *self_of(struct event_reader *reader) {
    return (struct reader_kafka *)(void *)reader;
}

static void on_log(const rd_kafka_t *kafka, int level, const char *facility, const char *text) {
    struct reader_kafka *self = rd_kafka_opaque(kafka);

    (void)level;
    log_debug(self->options.log, log_event("kafka.log"), log_cstr("facility", facility),
              log_cstr("text", text));
}

static void on_error(rd_kafka_t *kafka, int error, const char *reason, void *opaque) {
    struct reader_kafka *self = opaque;

    (void)kafka;
    log_warn(self->options.log, log_event("kafka.error"),
             log_cstr("name", rd_kafka_err2name((rd_kafka_resp_err_t)error)),
             log_cstr("reason", reason));
}

/* --- opening --- */

static enum err_code make_client(struct reader_kafka *self, struct err *err) {
    char events[24];
    char kib[24];
    char fetch[24];
    char text[TEXT_BYTES];
    const char *const settings[][2] = {
        {"bootstrap.servers", self->options.brokers},
        {"client.id", "daybook-projector"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        {"socket.nagle.disable", "true"},
        {"fetch.wait.max.ms", self->options.bulk ? "10" : "250"},
        {"fetch.min.bytes", "1"},
        {"fetch.error.backoff.ms", "50"},
        /* These are per partition, since partitions are started one by one. A message costs its
         * client about a kilobyte, of which "kbytes" count the value alone. */
        {"fetch.message.max.bytes", fetch},
        {"queued.min.messages", events},
        {"queued.max.messages.kbytes", kib},
        {"reconnect.backoff.ms", "50"},
        {"reconnect.backoff.max.ms", "1000"},
        {"topic.metadata.refresh.interval.ms", "30000"},
        {"log_level", "4"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    const int64_t ahead =
        self->options.ahead_events > 0 ? self->options.ahead_events : AHEAD_EVENTS;

    (void)snprintf(events, sizeof(events), "%" PRId64, ahead);
    (void)snprintf(fetch, sizeof(fetch), "%" PRId64,
                   self->options.fetch_bytes > 0 ? self->options.fetch_bytes : FETCH_BYTES);
    (void)snprintf(kib, sizeof(kib), "%" PRId64, ahead < AHEAD_KIB_MAX ? ahead : AHEAD_KIB_MAX);
    /* Known since librdkafka 2.2; see wake(). */
    (void)rd_kafka_conf_set(conf, "fetch.queue.backoff.ms", "10", text, sizeof(text));
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], text, sizeof(text)) !=
            RD_KAFKA_CONF_OK) {
            rd_kafka_conf_destroy(conf);
            return err_set(err, ERR_INVALID, "kafka: %s", text);
        }
    }
    const enum err_code code = kafka_security_set(conf, self->options.security, err);
    if (code != ERR_OK) {
        rd_kafka_conf_destroy(conf);
        return code;
    }
    rd_kafka_conf_set_opaque(conf, self);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    self->kafka = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof(text));
    if (self->kafka == NULL) {
        rd_kafka_conf_destroy(conf);
        return err_set(err, ERR_UNAVAILABLE, "kafka: %s", text);
    }
    self->topic = rd_kafka_topic_new(self->kafka, self->options.topic, NULL);
    self->queue = rd_kafka_queue_new(self->kafka);
    return self->topic != NULL ? ERR_OK
                               : err_set(err, ERR_INVALID, "kafka: topic: %s",
                                         rd_kafka_err2str(rd_kafka_last_error()));
}

static enum err_code check_topic(struct reader_kafka *self, struct err *err) {
    const struct rd_kafka_metadata *metadata = NULL;
    int32_t count = 0;
    const rd_kafka_resp_err_t error =
        rd_kafka_metadata(self->kafka, 0, self->topic, &metadata, (int)self->options.timeout_ms);

    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return err_set(err, ERR_UNAVAILABLE, "kafka: %s: %s", self->options.brokers,
                       rd_kafka_err2str(error));
    }
    if (metadata->topic_cnt == 1 && metadata->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        count = metadata->topics[0].partition_cnt;
    }
    rd_kafka_metadata_destroy(metadata);
    if (count == 0) {
        return err_set(err, ERR_UNAVAILABLE, "topic %s does not exist yet: the relay makes it",
                       self->options.topic);
    }
    if (count != self->options.partitions) {
        return err_set(err, ERR_INVALID,
                       "topic %s has %" PRId32 " partitions, DAYBOOK_TOPIC_PARTITIONS is %" PRId32,
                       self->options.topic, count, self->options.partitions);
    }
    return ERR_OK;
}

static void reader_stop(struct event_reader *reader, int32_t partition) {
    struct reader_kafka *self = self_of(reader);

    if (self->kafka != NULL && self->started[partition]) {
        (void)rd_kafka_consume_stop(self->topic, partition);
        self->started[partition] = false;
    }
}

static void reader_close(struct event_reader *reader) {
    struct reader_kafka *self = self_of(reader);

    if (self->kafka == NULL) {
        return;
    }
    for (int32_t p = 0; p < TOPIC_PARTITIONS_MAX; p++) {
        reader_stop(reader, p);
    }
    if (self->queue != NULL) {
        rd_kafka_queue_destroy(self->queue);
    }
    if (self->topic != NULL) {
        rd_kafka_topic_destroy(self->topic);
    }
    rd_kafka_destroy(self->kafka);
    self->queue = NULL;
    self->topic = NULL;
    self->kafka = NULL;
}

static enum err_code reader_open(struct event_reader *reader, struct err *err) {
    struct reader_kafka *self = self_of(reader);
    enum err_code code = make_client(self, err);

    if (code == ERR_OK) {
        code = check_topic(self, err);
    }
    if (code != ERR_OK) {
        reader_close(reader);
    }
    return code;
}

static enum err_code reader_start(struct event_reader *reader, int32_t partition, int64_t offset,
                                  struct err *err) {
    struct reader_kafka *self = self_of(reader);

    reader_stop(reader, partition);
    if (rd_kafka_consume_start_queue(self->topic, partition, offset, self->queue) != 0) {
        return err_set(err, ERR_UNAVAILABLE, "kafka: partition %" PRId32 ": %s", partition,
                       rd_kafka_err2str(rd_kafka_last_error()));
    }
    self->started[partition] = true;
    self->next[partition] = offset;
    return ERR_OK;
}

/* --- records --- */

/* Where each header goes; those of texts directly into the event. */
struct headers {
    struct str version, ce_id, ce_time, position, schema_version;
};

static struct str *pick(struct str name, const char *wanted, struct str *into) {
    return memcmp(name.ptr, wanted, name.len) == 0 ? into : NULL;
}

/* By length, since this is done a dozen times for each record. */
static struct str *place_of(struct str name, struct recorded_event *event,
                            struct headers *headers) {
    struct str *into = NULL;

    switch (name.len) {
    case 5:
        return name.ptr[0] == 'a' ? pick(name, "actor", &event->actor)
                                  : pick(name, "ce_id", &headers->ce_id);
    case 7:
        into = pick(name, "ce_time", &headers->ce_time);
        into = into != NULL ? into : pick(name, "ce_type", &event->event_type);
        into = into != NULL ? into : pick(name, "version", &headers->version);
        return into != NULL ? into : pick(name, "command", &event->command);
    case 8:
        return pick(name, "position", &headers->position);
    case 11:
        return pick(name, "traceparent", &event->traceparent);
    case 12:
        return pick(name, "causation_id", &event->causation_id);
    case 14:
        into = pick(name, "schema_version", &headers->schema_version);
        into = into != NULL ? into : pick(name, "aggregate_type", &event->aggregate_type);
        return into != NULL ? into : pick(name, "correlation_id", &event->correlation_id);
    default:
        return NULL;
    }
}

static void take_header(struct str name, struct str value, struct recorded_event *event,
                        struct headers *headers) {
    struct str *into = place_of(name, event, headers);

    if (into != NULL) {
        *into = value;
    }
}

/* Why the record can't be an event of ours; NULL: it is one. */
static const char *check_event(struct recorded_event *event, const struct headers *headers) {
    int64_t schema_version = 0;

    if (event->stream_id.len == 0) {
        return "no key";
    }
    if (!str_to_i64(headers->version, &event->version) || event->version < 1) {
        event->version = 0;
        return "no version";
    }
    if (!uuid_parse(headers->ce_id, &event->event_id)) {
        return "no ce_id";
    }
    if (!clock_parse_rfc3339(headers->ce_time, &event->recorded_at_us)) {
        return "no ce_time";
    }
    if (!str_to_i64(headers->position, &event->position) ||
        !str_to_i64(headers->schema_version, &schema_version) || schema_version < 1 ||
        schema_version > INT32_MAX) {
        return "no position or schema_version";
    }
    event->schema_version = (int32_t)schema_version;
    return event->aggregate_type.len == 0 || event->event_type.len == 0 ? "no type" : NULL;
}

static const char *read_event(const rd_kafka_message_t *message, struct recorded_event *event) {
    rd_kafka_headers_t *list = NULL;
    struct headers headers = {0};
    const char *name = NULL;
    const void *value = NULL;
    size_t len = 0;

    *event = (struct recorded_event){
        .stream_id = str_of(message->key, message->key_len),
        .payload = str_of(message->payload, message->len),
    };
    if (rd_kafka_message_headers(message, &list) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        for (size_t i = 0;
             rd_kafka_header_get_all(list, i, &name, &value, &len) == RD_KAFKA_RESP_ERR_NO_ERROR;
             i++) {
            take_header(str_from(name), str_of(value, value != NULL ? len : 0), event, &headers);
        }
    }
    return check_event(event, &headers);
}

/* The client mends by itself what passes; only what doesn't is the caller's. */
static bool is_lasting(rd_kafka_resp_err_t error) {
    return error == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
           error == RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE ||
           error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
           error == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
           error == RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION || error == RD_KAFKA_RESP_ERR__FATAL;
}

/*
 * Before librdkafka 2.2 a client whose queues are full looks at them again after a second, unless
 * something wakes it. A request does. So when all is delivered although there is more in the log,
 * we ask for a watermark, which costs a round trip at a time when there is nothing else to do.
 */
static void wake(struct reader_kafka *self, int64_t wait_ms) {
    int64_t low = 0;
    int64_t high = 0;

    for (int32_t p = 0; p < self->options.partitions; p++) {
        if (self->started[p] &&
            rd_kafka_get_watermark_offsets(self->kafka, self->options.topic, p, &low, &high) ==
                RD_KAFKA_RESP_ERR_NO_ERROR &&
            self->next[p] < high) {
            (void)rd_kafka_query_watermark_offsets(self->kafka, self->options.topic, p, &low, &high,
                                                   (int)wait_ms);
            return;
        }
    }
}

/* Up to `max` messages into self->taken: what is there, or what comes first in that time. */
static ssize_t take(struct reader_kafka *self, int64_t wait_ms, size_t max) {
    ssize_t taken = rd_kafka_consume_batch_queue(self->queue, 0, self->taken, max);

    if (taken != 0 || wait_ms == 0) {
        return taken;
    }
    wake(self, wait_ms);
    /* A batch waits until it is full or its time is up; so wait for the first alone. */
    taken = rd_kafka_consume_batch_queue(self->queue, (int)wait_ms, self->taken, 1);
    if (taken == 1 && max > 1) {
        const ssize_t more = rd_kafka_consume_batch_queue(self->queue, 0, self->taken + 1, max - 1);
        taken += more > 0 ? more : 0;
    }
    return taken;
}

static enum err_code reader_poll(struct event_reader *reader, int64_t wait_ms,
                                 struct consumed_record *out, size_t max, size_t *count,
                                 struct err *err) {
    struct reader_kafka *self = self_of(reader);
    enum err_code code = ERR_OK;

    *count = 0;
    (void)rd_kafka_poll(self->kafka, 0);
    const ssize_t taken = take(self, wait_ms, max < TAKE_MAX ? max : TAKE_MAX);
    for (ssize_t i = 0; i < taken; i++) {
        rd_kafka_message_t *message = self->taken[i];
        if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            if (is_lasting(message->err)) {
                code = err_set(err, ERR_UNAVAILABLE, "kafka: partition %" PRId32 ": %s",
                               message->partition, rd_kafka_message_errstr(message));
            }
            rd_kafka_message_destroy(message);
            continue;
        }
        struct consumed_record *record = &out[(*count)++];
        *record = (struct consumed_record){
            .partition = message->partition, .offset = message->offset, .handle = message};
        self->next[message->partition] = message->offset + 1;
        record->bytes = (int64_t)message->len;
        record->defect = read_event(message, &record->event);
    }
    return code;
}

static void reader_release(struct event_reader *reader, struct consumed_record *records,
                           size_t count) {
    (void)reader;
    for (size_t i = 0; i < count; i++) {
        if (records[i].handle != NULL) {
            rd_kafka_message_destroy(records[i].handle);
            records[i].handle = NULL;
        }
    }
}

static int64_t reader_end_offset(struct event_reader *reader, int32_t partition) {
    struct reader_kafka *self = self_of(reader);
    int64_t low = 0;
    int64_t high = 0;

    if (self->kafka == NULL ||
        rd_kafka_get_watermark_offsets(self->kafka, self->options.topic, partition, &low, &high) !=
            RD_KAFKA_RESP_ERR_NO_ERROR) {
        return -1;
    }
    return high;
}

static enum err_code reader_bounds(struct event_reader *reader, int32_t partition, int64_t *first,
                                   int64_t *end, struct err *err) {
    struct reader_kafka *self = self_of(reader);
    const rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(
        self->kafka, self->options.topic, partition, first, end, (int)self->options.timeout_ms);

    return error == RD_KAFKA_RESP_ERR_NO_ERROR
               ? ERR_OK
               : err_set(err, ERR_UNAVAILABLE, "kafka: partition %" PRId32 ": %s", partition,
                         rd_kafka_err2str(error));
}

static void reader_free(struct event_reader *reader) {
    reader_close(reader);
    mem_free(self_of(reader));
}

struct event_reader *reader_kafka_new(const struct reader_kafka_options *options) {
    static const struct event_reader_ops ops = {
        .open = reader_open,
        .start = reader_start,
        .stop = reader_stop,
        .poll = reader_poll,
        .release = reader_release,
        .end_offset = reader_end_offset,
        .bounds = reader_bounds,
        .close = reader_close,
        .free = reader_free,
    };
    struct reader_kafka *self = mem_zalloc(sizeof(*self));

    assert(options->partitions <= TOPIC_PARTITIONS_MAX);
    self->base.ops = &ops;
    self->options = *options;
    return &self->base;
}
