/*
 * Invariants
 *  1. message.timeout.ms is 0: a record waits for the broker as long as it takes; what bounds the
 *     wait is the number in flight. So a delivery report with an error means the producer is beyond
 *     repair (or the record can never be accepted).
 *  2. After the first failed delivery nothing more is reported as delivered: `broken` holds until
 *     the publisher is closed.
 *  3. A record that the broker refuses leaves no hole: enable.gapless.guarantee makes the failure
 *     fatal, so nothing behind it is appended. Otherwise the partition's tail would tell the next
 *     run that the refused record is in the topic.
 *  4. A record's timestamp is the moment for which it was last proven that its relay held the feed.
 *     The topic refuses those that lie further back than the fence's length, so a relay that was
 *     stopped cannot append what it had in hand when it is resumed later: the first refusal breaks
 *     the publisher (2, 3).
 *  5. Batches are no larger than a record may be, so that the broker refuses none for its size.
 *  6. One request is on its way to a broker at a time. With several, librdkafka's idempotent
 *     producer can append a batch twice when a partition's leader changes under them
 *     (confluentinc/librdkafka issue 4953). It costs little: a broker takes the requests of a
 *     connection one after the other anyway, and what comes meanwhile makes the next batch larger.
 */
#include "common/adapters/publisher_kafka.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/adapters/kafka_topic.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

enum { TEXT_BYTES = 256, REACH_WAIT_MS = 100 };
/* librdkafka's own least and default; Kafka's default. */
#define RECORD_BYTES_LEAST INT64_C(1000)
#define BATCH_BYTES_MAX INT64_C(1000000)
#define RECORD_BYTES_DEFAULT INT64_C(1048588)
/* What Kafka puts around a record alone in its batch (61 and at most 21), and around a header. */
enum { RECORD_FRAME_BYTES = 100, HEADER_FRAME_BYTES = 10 };
/* While no broker answers, one is asked this often. */
#define REACH_INTERVAL_US INT64_C(1000000)

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
    bool out_of_reach; /* no broker answers */
    int64_t reached_for_at_us;
    struct err why_out_of_reach;
    int64_t record_max; /* bytes, with everything around it */
};

static struct publisher_kafka *self_of(struct publisher *publisher) {
    return (struct publisher_kafka *)(void *)publisher;
}

/* --- callbacks --- */

static void note_reached(struct publisher_kafka *self) {
    if (self->out_of_reach) {
        self->out_of_reach = false;
        log_info(self->options.log, log_event("kafka.reachable"));
    }
}

static void on_delivery(rd_kafka_t *kafka, const rd_kafka_message_t *message, void *opaque) {
    struct publisher_kafka *self = opaque;
    const struct delivery delivery = {(uint64_t)(uintptr_t)message->_private, message->partition,
                                      message->offset};

    (void)kafka;
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR && !self->broken) {
        self->broken = true;
        (void)err_set(&self->why_broken, ERR_UNAVAILABLE, "kafka: a record was not delivered: %s",
                      rd_kafka_err2str(message->err));
    }
    if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        note_reached(self);
    }
    if (self->delivered != NULL && !self->broken) {
        self->delivered(self->delivered_arg, &delivery);
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
    if (error == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN && !self->out_of_reach) {
        self->out_of_reach = true;
        self->reached_for_at_us = clock_monotonic_us();
        (void)err_set(&self->why_out_of_reach, ERR_UNAVAILABLE, "kafka: %s", reason);
        log_warn(self->options.log, log_event("kafka.out_of_reach"), log_cstr("reason", reason));
        return;
    }
    /* librdkafka tells of every try to connect: once is enough. */
    log_write(self->options.log, self->out_of_reach ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN,
              LOG_FIELDS(log_event("kafka.error"),
                         log_cstr("name", rd_kafka_err2name((rd_kafka_resp_err_t)error)),
                         log_cstr("reason", reason)));
}

static void on_log(const rd_kafka_t *kafka, int level, const char *facility, const char *text) {
    struct publisher_kafka *self = rd_kafka_opaque(kafka);

    if (level <= 4) { /* syslog's warning */
        log_debug(self->options.log, log_event("kafka.log"), log_cstr("facility", facility),
                  log_cstr("text", text));
    }
}

/* --- opening --- */

static enum err_code make_producer(struct publisher_kafka *self, struct err *err) {
    char in_flight[16];
    char record_max[24];
    char batch_max[24];
    char text[TEXT_BYTES];
    const char *const settings[][2] = {
        {"bootstrap.servers", self->options.brokers},
        {"client.id", "daybook-relay"},
        {"enable.idempotence", "true"},
        {"enable.gapless.guarantee", "true"},
        {"acks", "all"},
        {"max.in.flight.requests.per.connection", "1"},
        {"linger.ms", "0"},
        {"message.timeout.ms", "0"},
        {"compression.type", "lz4"},
        {"message.max.bytes", record_max},
        {"batch.size", batch_max},
        {"socket.nagle.disable", "true"},
        {"queue.buffering.max.messages", in_flight},
        {"queue.buffering.max.kbytes", "262144"},
        {"reconnect.backoff.max.ms", "1000"},
        {"topic.metadata.refresh.interval.ms", "30000"},
        {"log_level", "4"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    (void)snprintf(in_flight, sizeof(in_flight), "%" PRId32, self->options.in_flight_max);
    (void)snprintf(record_max, sizeof(record_max), "%" PRId64,
                   self->record_max > RECORD_BYTES_LEAST ? self->record_max : RECORD_BYTES_LEAST);
    (void)snprintf(batch_max, sizeof(batch_max), "%" PRId64,
                   self->record_max < BATCH_BYTES_MAX ? self->record_max : BATCH_BYTES_MAX);
    enum err_code code = kafka_conf_set_all(conf, settings, ARRAY_LEN(settings), err);
    if (code == ERR_OK) {
        code = kafka_security_set(conf, self->options.security, err);
    }
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

static struct kafka_topic topic_of(const struct publisher_kafka *self) {
    return (struct kafka_topic){
        .brokers = self->options.brokers,
        .security = self->options.security,
        .name = self->options.topic,
        .partitions = self->options.partitions,
        .replication = self->options.replication,
        .timeout_ms = self->options.timeout_ms,
        .fence_ms = self->options.fence_ms,
        .log = self->options.log,
    };
}

static void end_producer(struct publisher_kafka *self) {
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
}

static void publisher_close(struct publisher *publisher) {
    struct publisher_kafka *self = self_of(publisher);

    end_producer(self);
    self->broken = false;
    self->out_of_reach = false;
}

static enum err_code publisher_open(struct publisher *publisher, struct err *err) {
    struct publisher_kafka *self = self_of(publisher);
    const struct kafka_topic topic = topic_of(self);
    int64_t record_max = 0;

    publisher_close(publisher);
    enum err_code code = make_producer(self, err);
    if (code == ERR_OK) {
        code = kafka_topic_ensure(&topic, self->producer, &record_max, err);
    }
    if (code == ERR_OK && record_max != self->record_max) {
        end_producer(self);
        self->record_max = record_max;
        code = make_producer(self, err);
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

static enum err_code publisher_read_tails(struct publisher *publisher, struct publish_mark *tails,
                                          size_t count, struct err *err) {
    const struct kafka_topic topic = topic_of(self_of(publisher));

    return kafka_topic_read_tails(&topic, tails, count, err);
}

/* --- publishing --- */

/* The headers of a record in the making. */
struct headers {
    rd_kafka_headers_t *list;
    size_t bytes; /* at most what they take in the record */
};

static void add_text(struct headers *headers, struct str name, struct str value) {
    if (value.len > 0) {
        (void)rd_kafka_header_add(headers->list, name.ptr, (ssize_t)name.len, value.ptr,
                                  (ssize_t)value.len);
        headers->bytes += name.len + value.len + HEADER_FRAME_BYTES;
    }
}

static void add_number(struct headers *headers, struct str name, uint64_t value) {
    char text[24];
    char *at = text + sizeof(text);

    do {
        *--at = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    add_text(headers, name, str_of(at, (size_t)(text + sizeof(text) - at)));
}

static void add_reference(struct headers *headers, const char *id) {
    char path[UUID_TEXT_BYTES + 16];
    const int len = snprintf(path, sizeof(path), "/events/%s", id);

    add_text(headers, STR("ce_dataref"), str_of(path, (size_t)len));
}

static struct headers make_headers(const struct change *change) {
    const struct recorded_event *event = &change->event;
    struct headers headers = {.list = rd_kafka_headers_new(20)};
    char id[UUID_TEXT_BYTES];
    char time[CLOCK_RFC3339_BYTES];

    uuid_format(id, &event->event_id);
    add_text(&headers, STR("ce_specversion"), STR("1.0"));
    add_text(&headers, STR("ce_id"), str_of(id, UUID_TEXT_BYTES - 1));
    add_text(&headers, STR("ce_source"), STR("/daybook/command-api"));
    add_text(&headers, STR("ce_type"), event->event_type);
    add_text(&headers, STR("ce_subject"), event->stream_id);
    add_text(&headers, STR("ce_time"),
             str_of(time, clock_format_rfc3339(time, event->recorded_at_us)));
    if (change->without_payload) {
        add_reference(&headers, id);
    }
    add_text(&headers, STR("content-type"), STR("application/json"));
    add_text(&headers, STR("aggregate_type"), event->aggregate_type);
    add_number(&headers, STR("version"), (uint64_t)event->version);
    add_number(&headers, STR("position"), (uint64_t)event->position);
    add_number(&headers, STR("schema_version"), (uint64_t)event->schema_version);
    add_text(&headers, STR("correlation_id"), event->correlation_id);
    add_text(&headers, STR("causation_id"), event->causation_id);
    add_text(&headers, STR("actor"), event->actor);
    add_text(&headers, STR("command"), event->command);
    add_text(&headers, STR("traceparent"), event->traceparent);
    add_number(&headers, STR("incarnation"), change->incarnation);
    add_number(&headers, STR("lsn"), change->commit_lsn);
    add_number(&headers, STR("seq"), change->seq);
    return headers;
}

static enum err_code refuse_size(const struct publisher_kafka *self, const struct change *change,
                                 size_t bytes, struct err *err) {
    return err_set(err, ERR_INVALID,
                   "kafka: version %" PRId64 " of %.*s needs %zu bytes, the topic takes %" PRId64
                   ": raise its max.message.bytes, or set DAYBOOK_TOO_LARGE=reference",
                   change->event.version, STR_ARG(change->event.stream_id), bytes,
                   self->record_max);
}

static enum err_code publisher_publish(struct publisher *publisher, int32_t partition,
                                       const struct change *change, uint64_t tag, struct err *err) {
    struct publisher_kafka *self = self_of(publisher);
    union {
        const char *in;
        void *out;
    } payload = {.in = change->event.payload.ptr};
    const size_t payload_len = change->without_payload ? 0 : change->event.payload.len;

    if (self->broken) {
        return err_set(err, ERR_UNAVAILABLE, "%s", self->why_broken.message);
    }
    const struct headers headers = make_headers(change);
    const size_t bytes =
        payload_len + change->event.stream_id.len + headers.bytes + RECORD_FRAME_BYTES;
    if (bytes > (size_t)self->record_max) {
        rd_kafka_headers_destroy(headers.list);
        return refuse_size(self, change, bytes, err);
    }
    const rd_kafka_resp_err_t error = rd_kafka_producev(
        self->producer, RD_KAFKA_V_RKT(self->topic), RD_KAFKA_V_PARTITION(partition),
        RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
        RD_KAFKA_V_KEY(change->event.stream_id.ptr, change->event.stream_id.len),
        RD_KAFKA_V_VALUE(change->without_payload ? NULL : payload.out, payload_len),
        RD_KAFKA_V_TIMESTAMP(change->held_at_us / 1000), RD_KAFKA_V_HEADERS(headers.list),
        RD_KAFKA_V_OPAQUE((void *)(uintptr_t)tag), RD_KAFKA_V_END);
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
        return ERR_OK;
    }
    rd_kafka_headers_destroy(headers.list);
    if (error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE) {
        return refuse_size(self, change, bytes, err);
    }
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

static bool publisher_reachable(struct publisher *publisher, struct err *why) {
    struct publisher_kafka *self = self_of(publisher);
    const struct rd_kafka_metadata *metadata = NULL;

    if (self->producer == NULL) {
        (void)err_set(why, ERR_UNAVAILABLE, "the publisher is closed");
        return false;
    }
    /* With nothing to send librdkafka does not connect by itself: asking makes it try. */
    if (self->out_of_reach && clock_monotonic_us() - self->reached_for_at_us > REACH_INTERVAL_US) {
        if (rd_kafka_metadata(self->producer, 0, self->topic, &metadata, REACH_WAIT_MS) ==
            RD_KAFKA_RESP_ERR_NO_ERROR) {
            rd_kafka_metadata_destroy(metadata);
            note_reached(self);
        }
        self->reached_for_at_us = clock_monotonic_us();
    }
    if (self->out_of_reach) {
        (void)err_set(why, ERR_UNAVAILABLE, "%s", self->why_out_of_reach.message);
    }
    return !self->out_of_reach;
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
        .reachable = publisher_reachable,
        .descriptor = publisher_descriptor,
        .close = publisher_close,
        .free = publisher_free,
    };
    struct publisher_kafka *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    self->options = *options;
    self->record_max = RECORD_BYTES_DEFAULT;
    self->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return &self->base;
}
