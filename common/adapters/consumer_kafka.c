#include "common/adapters/consumer_kafka.h"

#include <assert.h>
#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

enum { TEXT_BYTES = 256 };

struct consumer_kafka {
    struct event_consumer base;
    struct consumer_kafka_options options;
    rd_kafka_t *kafka;
    consumer_assigned_fn *assigned;
    consumer_revoked_fn *revoked;
    void *arg;
    bool joined;
    bool mine[CONSUMER_PARTITIONS_MAX];
    int64_t begin[CONSUMER_PARTITIONS_MAX]; /* where each would be begun if assigned again now */
};

static struct consumer_kafka *self_of(struct event_consumer *consumer) {
    return (struct consumer_kafka *)(void *)consumer;
}

/* --- assignment --- */

static enum err_code assign_mine(struct consumer_kafka *self, struct err *err) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);

    for (int32_t p = 0; p < CONSUMER_PARTITIONS_MAX; p++) {
        if (self->mine[p]) {
            rd_kafka_topic_partition_list_add(list, self->options.topic, p)->offset =
                self->begin[p];
        }
    }
    const rd_kafka_resp_err_t error = rd_kafka_assign(self->kafka, list);
    rd_kafka_topic_partition_list_destroy(list);
    return error == RD_KAFKA_RESP_ERR_NO_ERROR
               ? ERR_OK
               : err_set(err, ERR_UNAVAILABLE, "kafka: assign: %s", rd_kafka_err2str(error));
}

static void on_rebalance(rd_kafka_t *kafka, rd_kafka_resp_err_t what,
                         rd_kafka_topic_partition_list_t *list, void *opaque) {
    struct consumer_kafka *self = opaque;
    struct err err = {0};

    if (what == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        self->joined = true;
        for (int i = 0; i < list->cnt; i++) {
            const int32_t p = list->elems[i].partition;
            self->begin[p] = self->assigned(self->arg, p);
            self->mine[p] = true;
        }
        if (assign_mine(self, &err) != ERR_OK) {
            log_error(self->options.log, log_event("kafka.assign_failed"), log_err(&err));
        }
        return;
    }
    for (int32_t p = 0; p < CONSUMER_PARTITIONS_MAX; p++) {
        if (self->mine[p]) {
            self->revoked(self->arg, p);
            self->mine[p] = false;
        }
    }
    (void)rd_kafka_assign(kafka, NULL);
}

static void on_log(const rd_kafka_t *kafka, int level, const char *facility, const char *text) {
    struct consumer_kafka *self = rd_kafka_opaque(kafka);

    (void)level;
    log_debug(self->options.log, log_event("kafka.log"), log_cstr("facility", facility),
              log_cstr("text", text));
}

static void on_error(rd_kafka_t *kafka, int error, const char *reason, void *opaque) {
    struct consumer_kafka *self = opaque;

    (void)kafka;
    log_warn(self->options.log, log_event("kafka.error"),
             log_cstr("name", rd_kafka_err2name((rd_kafka_resp_err_t)error)),
             log_cstr("reason", reason));
}

/* --- opening --- */

static enum err_code make_client(struct consumer_kafka *self, struct err *err) {
    char session[24];
    char heartbeat[24];
    char text[TEXT_BYTES];
    const char *const settings[][2] = {
        {"bootstrap.servers", self->options.brokers},
        {"group.id", self->options.group},
        {"client.id", "daybook-projector"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},
        /* cooperative-sticky has known faults before librdkafka 2.10. */
        {"partition.assignment.strategy", "range"},
        {"session.timeout.ms", session},
        {"heartbeat.interval.ms", heartbeat},
        {"socket.nagle.disable", "true"},
        {"fetch.wait.max.ms", "100"},
        {"fetch.min.bytes", "1"},
        {"fetch.error.backoff.ms", "50"},
        {"queued.min.messages", "20000"},
        {"queued.max.messages.kbytes", "32768"},
        {"reconnect.backoff.max.ms", "1000"},
        {"topic.metadata.refresh.interval.ms", "30000"},
        {"log_level", "4"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    (void)snprintf(session, sizeof(session), "%" PRId64, self->options.session_timeout_ms);
    (void)snprintf(heartbeat, sizeof(heartbeat), "%" PRId64, self->options.session_timeout_ms / 4);
    for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
        if (rd_kafka_conf_set(conf, settings[i][0], settings[i][1], text, sizeof(text)) !=
            RD_KAFKA_CONF_OK) {
            rd_kafka_conf_destroy(conf);
            return err_set(err, ERR_INVALID, "kafka: %s", text);
        }
    }
    rd_kafka_conf_set_opaque(conf, self);
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    rd_kafka_conf_set_log_cb(conf, on_log);
    rd_kafka_conf_set_error_cb(conf, on_error);
    self->kafka = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof(text));
    if (self->kafka == NULL) {
        rd_kafka_conf_destroy(conf);
        return err_set(err, ERR_UNAVAILABLE, "kafka: %s", text);
    }
    (void)rd_kafka_poll_set_consumer(self->kafka);
    return ERR_OK;
}

static enum err_code check_topic(struct consumer_kafka *self, struct err *err) {
    const struct rd_kafka_metadata *metadata = NULL;
    int32_t count = 0;
    const rd_kafka_resp_err_t error =
        rd_kafka_metadata(self->kafka, 1, NULL, &metadata, (int)self->options.timeout_ms);

    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return err_set(err, ERR_UNAVAILABLE, "kafka: %s: %s", self->options.brokers,
                       rd_kafka_err2str(error));
    }
    for (int i = 0; i < metadata->topic_cnt; i++) {
        if (strcmp(metadata->topics[i].topic, self->options.topic) == 0) {
            count = metadata->topics[i].partition_cnt;
        }
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

static void consumer_close(struct event_consumer *consumer) {
    struct consumer_kafka *self = self_of(consumer);

    if (self->kafka != NULL) {
        (void)rd_kafka_consumer_close(self->kafka); /* calls on_rebalance for what is ours */
        rd_kafka_destroy(self->kafka);
        self->kafka = NULL;
    }
    memset(self->mine, 0, sizeof(self->mine));
    self->joined = false;
}

static enum err_code consumer_open(struct event_consumer *consumer, consumer_assigned_fn *assigned,
                                   consumer_revoked_fn *revoked, void *arg, struct err *err) {
    struct consumer_kafka *self = self_of(consumer);

    self->assigned = assigned;
    self->revoked = revoked;
    self->arg = arg;
    enum err_code code = make_client(self, err);
    if (code == ERR_OK) {
        code = check_topic(self, err);
    }
    if (code == ERR_OK) {
        rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
        rd_kafka_topic_partition_list_add(list, self->options.topic, RD_KAFKA_PARTITION_UA);
        const rd_kafka_resp_err_t error = rd_kafka_subscribe(self->kafka, list);
        rd_kafka_topic_partition_list_destroy(list);
        if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
            code = err_set(err, ERR_UNAVAILABLE, "kafka: subscribe: %s", rd_kafka_err2str(error));
        }
    }
    if (code != ERR_OK) {
        consumer_close(consumer);
    }
    return code;
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
static const char *read_event(const rd_kafka_message_t *message, struct recorded_event *event) {
    rd_kafka_headers_t *headers = NULL;
    int64_t schema_version = 0;

    (void)rd_kafka_message_headers(message, &headers);
    *event = (struct recorded_event){
        .aggregate_type = header(headers, "aggregate_type"),
        .stream_id = str_of(message->key, message->key_len),
        .event_type = header(headers, "ce_type"),
        .payload = str_of(message->payload, message->len),
        .correlation_id = header(headers, "correlation_id"),
        .causation_id = header(headers, "causation_id"),
        .actor = header(headers, "actor"),
        .traceparent = header(headers, "traceparent"),
        .command = header(headers, "command"),
    };
    if (event->stream_id.len == 0) {
        return "no key";
    }
    if (!str_to_i64(header(headers, "version"), &event->version) || event->version < 1) {
        event->version = 0;
        return "no version";
    }
    if (!uuid_parse(header(headers, "ce_id"), &event->event_id)) {
        return "no ce_id";
    }
    if (!clock_parse_rfc3339(header(headers, "ce_time"), &event->recorded_at_us)) {
        return "no ce_time";
    }
    if (!str_to_i64(header(headers, "position"), &event->position) ||
        !str_to_i64(header(headers, "schema_version"), &schema_version) || schema_version < 1 ||
        schema_version > INT32_MAX) {
        return "no position or schema_version";
    }
    event->schema_version = (int32_t)schema_version;
    return event->aggregate_type.len == 0 || event->event_type.len == 0 ? "no type" : NULL;
}

static enum err_code consumer_poll(struct event_consumer *consumer, int64_t wait_ms,
                                   struct consumed_record *out, struct err *err) {
    struct consumer_kafka *self = self_of(consumer);
    rd_kafka_message_t *message = rd_kafka_consumer_poll(self->kafka, (int)wait_ms);

    if (message == NULL) {
        return ERR_TIMEOUT;
    }
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        const rd_kafka_resp_err_t error = message->err;
        const enum err_code code =
            err_set(err, ERR_UNAVAILABLE, "kafka: %s", rd_kafka_message_errstr(message));
        rd_kafka_message_destroy(message);
        /* The client reconnects by itself; only what it can't mend ends this consumer. */
        if (error == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET ||
            error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
            error == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC || error == RD_KAFKA_RESP_ERR__FATAL ||
            error == RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED) {
            return code;
        }
        return ERR_TIMEOUT;
    }
    *out = (struct consumed_record){
        .partition = message->partition, .offset = message->offset, .handle = message};
    out->bytes = (int64_t)message->len;
    out->defect = read_event(message, &out->event);
    return ERR_OK;
}

static void consumer_release(struct event_consumer *consumer, struct consumed_record *record) {
    (void)consumer;
    rd_kafka_message_destroy(record->handle);
    record->handle = NULL;
}

static bool consumer_joined(const struct event_consumer *consumer) {
    return ((const struct consumer_kafka *)(const void *)consumer)->joined;
}

static enum err_code consumer_reposition(struct event_consumer *consumer, int32_t partition,
                                         int64_t offset, struct err *err) {
    struct consumer_kafka *self = self_of(consumer);

    if (!self->mine[partition]) {
        return ERR_OK; /* lost in the meantime */
    }
    self->begin[partition] = offset;
    return assign_mine(self, err);
}

static void consumer_commit_hint(struct event_consumer *consumer, int32_t partition, int64_t next) {
    struct consumer_kafka *self = self_of(consumer);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

    self->begin[partition] = next;
    rd_kafka_topic_partition_list_add(list, self->options.topic, partition)->offset = next;
    (void)rd_kafka_commit(self->kafka, list, 1);
    rd_kafka_topic_partition_list_destroy(list);
}

static int64_t consumer_end_offset(struct event_consumer *consumer, int32_t partition) {
    struct consumer_kafka *self = self_of(consumer);
    int64_t low = 0;
    int64_t high = 0;

    if (self->kafka == NULL ||
        rd_kafka_get_watermark_offsets(self->kafka, self->options.topic, partition, &low, &high) !=
            RD_KAFKA_RESP_ERR_NO_ERROR) {
        return -1;
    }
    return high;
}

static void consumer_free(struct event_consumer *consumer) {
    consumer_close(consumer);
    mem_free(self_of(consumer));
}

struct event_consumer *consumer_kafka_new(const struct consumer_kafka_options *options) {
    static const struct event_consumer_ops ops = {
        .open = consumer_open,
        .poll = consumer_poll,
        .release = consumer_release,
        .joined = consumer_joined,
        .reposition = consumer_reposition,
        .commit_hint = consumer_commit_hint,
        .end_offset = consumer_end_offset,
        .close = consumer_close,
        .free = consumer_free,
    };
    struct consumer_kafka *self = mem_zalloc(sizeof(*self));

    assert(options->partitions <= CONSUMER_PARTITIONS_MAX);
    self->base.ops = &ops;
    self->options = *options;
    return &self->base;
}
