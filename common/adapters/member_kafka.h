/* The group member on Kafka: a consumer that subscribes and never fetches. */
#ifndef DAYBOOK_ADAPTERS_MEMBER_KAFKA_H
#define DAYBOOK_ADAPTERS_MEMBER_KAFKA_H

#include "common/adapters/kafka_security.h"
#include "common/base/log.h"
#include "common/ports/group_member.h"

struct member_kafka_options {
    const char *brokers;                   /* all strings are borrowed */
    const struct kafka_settings *security; /* borrowed; NULL: plain text */
    const char *topic;
    const char *group;
    int64_t session_timeout_ms;
    struct log *log;
};

struct group_member *member_kafka_new(const struct member_kafka_options *options);

#endif
