/* The consumer on Kafka: a group member with librdkafka. Offsets come from the sinks through the
 * assigned callback; the group's committed offsets are only hints. */
#ifndef DAYBOOK_ADAPTERS_CONSUMER_KAFKA_H
#define DAYBOOK_ADAPTERS_CONSUMER_KAFKA_H

#include "common/base/log.h"
#include "common/ports/event_consumer.h"

struct consumer_kafka_options {
    const char *brokers; /* all strings are borrowed */
    const char *topic;
    const char *group;
    int32_t partitions;
    int64_t session_timeout_ms;
    int64_t timeout_ms; /* for requests while opening */
    struct log *log;
};

struct event_consumer *consumer_kafka_new(const struct consumer_kafka_options *options);

#endif
