/* The reader on Kafka: librdkafka's simple consumer, which can start and stop each partition by
 * itself, all feeding one queue. */
#ifndef DAYBOOK_ADAPTERS_READER_KAFKA_H
#define DAYBOOK_ADAPTERS_READER_KAFKA_H

#include "common/adapters/kafka_security.h"
#include "common/base/log.h"
#include "common/ports/event_reader.h"

struct reader_kafka_options {
    const char *brokers;                   /* all strings are borrowed */
    const struct kafka_settings *security; /* borrowed; NULL: plain text */
    const char *topic;
    int32_t partitions;
    int64_t timeout_ms;   /* of requests */
    int64_t ahead_events; /* fetched ahead per partition, about; 0: AHEAD_EVENTS */
    int64_t fetch_bytes;  /* at once, of one partition; 0: FETCH_BYTES */
    bool bulk;            /* read to an end that is known: no long waits at the partitions' ends */
    struct log *log;
};

struct event_reader *reader_kafka_new(const struct reader_kafka_options *options);

#endif
