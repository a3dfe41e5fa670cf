/*
 * The publisher on Kafka: idempotent producer, acks=all, records as the design's CloudEvents binary
 * mode (CloudEvents 1.0, Kafka protocol binding section 3.2). A record without its payload has
 * ce_dataref, the path of the event at the log's API, instead (CloudEvents extension "dataref").
 */
#ifndef DAYBOOK_ADAPTERS_PUBLISHER_KAFKA_H
#define DAYBOOK_ADAPTERS_PUBLISHER_KAFKA_H

#include "common/adapters/kafka_security.h"
#include "common/base/log.h"
#include "common/ports/publisher.h"

struct publisher_kafka_options {
    const char *brokers;                   /* all strings are borrowed */
    const struct kafka_settings *security; /* borrowed; NULL: plain text */
    const char *topic;
    int32_t partitions;
    int32_t replication;
    int32_t in_flight_max; /* records */
    int64_t timeout_ms;    /* for requests at opening */
    int64_t fence_ms;      /* records stamped (held_at_us) further back than this are refused */
    struct log *log;
};

struct publisher *publisher_kafka_new(const struct publisher_kafka_options *options);

#endif
