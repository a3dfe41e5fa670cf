/* The topic as a scan: all partitions from their first record, each in its order. */
#ifndef DAYBOOK_ADAPTERS_EVENT_SCAN_KAFKA_H
#define DAYBOOK_ADAPTERS_EVENT_SCAN_KAFKA_H

#include "common/adapters/kafka_security.h"
#include "common/ports/event_scan.h"

struct event_scan_kafka_options {
    const char *brokers;                   /* both are borrowed */
    const struct kafka_settings *security; /* borrowed; NULL: plain text */
    const char *topic;
    int32_t partitions;
    int64_t timeout_ms; /* per request */
};

/* ERR_INVALID: the topic has another number of partitions. */
MUST_CHECK enum err_code event_scan_kafka_open(const struct event_scan_kafka_options *options,
                                               struct event_scan **out, struct err *err);

#endif
