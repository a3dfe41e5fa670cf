#include "common/adapters/member_kafka.h"

#include <inttypes.h>
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"

enum { TEXT_BYTES = 256 };

struct member_kafka {
    struct group_member base;
    struct member_kafka_options options;
    rd_kafka_t *kafka;
    member_assigned_fn *assigned;
    void *arg;
    bool joined;
    bool mine[TOPIC_PARTITIONS_MAX];
};

static struct member_kafka *self_of(struct group_member *member) {
    return (struct member_kafka *)(void *)member;
}

static void tell(struct member_kafka *self) {
    self->assigned(self->arg, self->mine);
}

/* Nothing is fetched through this client: whatever the share is, it assigns nothing to itself. */
static void on_rebalance(rd_kafka_t *kafka, rd_kafka_resp_err_t what,
                         rd_kafka_topic_partition_list_t *list, void *opaque) {
    struct member_kafka *self = opaque;
    rd_kafka_topic_partition_list_t *none = rd_kafka_topic_partition_list_new(0);

    if (what == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        memset(self->mine, 0, sizeof(self->mine));
        for (int i = 0; i < list->cnt; i++) {
            if (list->elems[i].partition < TOPIC_PARTITIONS_MAX) {
                self->mine[list->elems[i].partition] = true;
            }
        }
        self->joined = true;
        (void)rd_kafka_assign(kafka, none);
        tell(self);
    } else {
        /* The new share follows: what stays ours isn't to be interrupted. */
        if (rd_kafka_assignment_lost(kafka)) {
            memset(self->mine, 0, sizeof(self->mine));
            self->joined = false;
            tell(self);
        }
        (void)rd_kafka_assign(kafka, NULL);
    }
    rd_kafka_topic_partition_list_destroy(none);
}

static void on_log(const rd_kafka_t *kafka, int level, const char *facility, const char *text) {
    struct member_kafka *self = rd_kafka_opaque(kafka);

    (void)level;
    log_debug(self->options.log, log_event("kafka.log"), log_cstr("facility", facility),
              log_cstr("text", text));
}

static void on_error(rd_kafka_t *kafka, int error, const char *reason, void *opaque) {
    struct member_kafka *self = opaque;

    (void)kafka;
    log_warn(self->options.log, log_event("kafka.error"),
             log_cstr("name", rd_kafka_err2name((rd_kafka_resp_err_t)error)),
             log_cstr("reason", reason));
}

static enum err_code make_client(struct member_kafka *self, struct err *err) {
    char session[24];
    char heartbeat[24];
    char text[TEXT_BYTES];
    const char *const settings[][2] = {
        {"bootstrap.servers", self->options.brokers},
        {"group.id", self->options.group},
        {"client.id", "daybook-projector"},
        {"enable.auto.commit", "false"},
        {"enable.auto.offset.store", "false"},
        /* cooperative-sticky has known faults before librdkafka 2.10. */
        {"partition.assignment.strategy", "range"},
        {"session.timeout.ms", session},
        {"heartbeat.interval.ms", heartbeat},
        {"socket.nagle.disable", "true"},
        {"reconnect.backoff.max.ms", "1000"},
        {"log_level", "4"},
    };
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    (void)snprintf(session, sizeof(session), "%" PRId64, self->options.session_timeout_ms);
    /* A member learns of a rebalance by its heartbeat: the more often, the sooner it ends. */
    const int64_t beat_ms = self->options.session_timeout_ms / 12;
    (void)snprintf(heartbeat, sizeof(heartbeat), "%" PRId64, beat_ms < 500 ? beat_ms : 500);
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

static void member_close(struct group_member *member) {
    struct member_kafka *self = self_of(member);

    if (self->kafka != NULL) {
        (void)rd_kafka_consumer_close(self->kafka);
        rd_kafka_destroy(self->kafka);
        self->kafka = NULL;
        memset(self->mine, 0, sizeof(self->mine));
        self->joined = false;
        tell(self);
    }
}

static enum err_code member_open(struct group_member *member, member_assigned_fn *assigned,
                                 void *arg, struct err *err) {
    struct member_kafka *self = self_of(member);

    self->assigned = assigned;
    self->arg = arg;
    const enum err_code code = make_client(self, err);
    if (code != ERR_OK) {
        return code;
    }
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, self->options.topic, RD_KAFKA_PARTITION_UA);
    const rd_kafka_resp_err_t error = rd_kafka_subscribe(self->kafka, list);
    rd_kafka_topic_partition_list_destroy(list);
    if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
        member_close(member);
        return err_set(err, ERR_UNAVAILABLE, "kafka: subscribe: %s", rd_kafka_err2str(error));
    }
    return ERR_OK;
}

static enum err_code member_poll(struct group_member *member, int64_t wait_ms, struct err *err) {
    struct member_kafka *self = self_of(member);
    rd_kafka_message_t *message = rd_kafka_consumer_poll(self->kafka, (int)wait_ms);
    enum err_code code = ERR_OK;

    if (message == NULL) {
        return ERR_OK;
    }
    if (message->err == RD_KAFKA_RESP_ERR__FATAL ||
        message->err == RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED) {
        code = err_set(err, ERR_UNAVAILABLE, "kafka: %s", rd_kafka_message_errstr(message));
    }
    rd_kafka_message_destroy(message);
    return code;
}

static bool member_joined(const struct group_member *member) {
    return ((const struct member_kafka *)(const void *)member)->joined;
}

static void member_commit_hint(struct group_member *member, int32_t partition, int64_t next) {
    struct member_kafka *self = self_of(member);

    if (self->kafka == NULL) {
        return;
    }
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, self->options.topic, partition)->offset = next;
    (void)rd_kafka_commit(self->kafka, list, 1);
    rd_kafka_topic_partition_list_destroy(list);
}

static void member_free(struct group_member *member) {
    member_close(member);
    mem_free(self_of(member));
}

struct group_member *member_kafka_new(const struct member_kafka_options *options) {
    static const struct group_member_ops ops = {
        .open = member_open,
        .poll = member_poll,
        .joined = member_joined,
        .commit_hint = member_commit_hint,
        .close = member_close,
        .free = member_free,
    };
    struct member_kafka *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    self->options = *options;
    return &self->base;
}
