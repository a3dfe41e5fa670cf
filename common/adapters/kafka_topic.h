/*
 * What the publisher asks of a topic besides appending: that it exists as configured, and how each
 * of its partitions ends.
 */
#ifndef DAYBOOK_ADAPTERS_KAFKA_TOPIC_H
#define DAYBOOK_ADAPTERS_KAFKA_TOPIC_H

#include <librdkafka/rdkafka.h>

#include "common/adapters/kafka_security.h"
#include "common/base/log.h"
#include "common/ports/publisher.h"

struct kafka_topic {
    const char *brokers;                   /* all borrowed */
    const struct kafka_settings *security; /* borrowed; NULL: plain text */
    const char *name;
    int32_t partitions;
    int32_t replication; /* when it is made */
    int64_t fence_ms;    /* records stamped further back than this are to be refused; 0: none are */
    int64_t timeout_ms;  /* per request */
    struct log *log;
};

/* Sets name, value pairs. ERR_INVALID: librdkafka refuses one. */
MUST_CHECK enum err_code kafka_conf_set_all(rd_kafka_conf_t *conf, const char *const (*settings)[2],
                                            size_t count, struct err *err);

/*
 * Makes the topic when it is missing: records never expire and are never compacted. Sees to it that
 * the broker refuses records that are stamped further back than fence_ms. ERR_INVALID: it has
 * another number of partitions, or stamps records itself. `client` is any producer. *record_max:
 * the largest record that the topic takes.
 */
MUST_CHECK enum err_code kafka_topic_ensure(const struct kafka_topic *topic, rd_kafka_t *client,
                                            int64_t *record_max, struct err *err);

/* That the topic is there with its number of partitions: ERR_NOT_FOUND, ERR_INVALID. */
MUST_CHECK enum err_code kafka_topic_check(const struct kafka_topic *topic, rd_kafka_t *client,
                                           struct err *err);

/*
 * The marks (headers incarnation, lsn and seq) of the last record of each partition. Offsets need
 * not be contiguous: where the end holds no record, it looks further back, to the partition's
 * begin. ERR_INVALID: a last record is not from a relay. ERR_TIMEOUT, ERR_UNAVAILABLE: not now.
 */
MUST_CHECK enum err_code kafka_topic_read_tails(const struct kafka_topic *topic,
                                                struct publish_mark *tails, size_t count,
                                                struct err *err);
/* The same without a client, and with kafka_topic_check before. */
MUST_CHECK enum err_code kafka_topic_look(const struct kafka_topic *topic,
                                          struct publish_mark *tails, size_t count,
                                          struct err *err);

#endif
