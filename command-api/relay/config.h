/* The relay's configuration. */
#ifndef DAYBOOK_COMMAND_API_RELAY_CONFIG_H
#define DAYBOOK_COMMAND_API_RELAY_CONFIG_H

#include "common/config/auth_settings.h"
#include "common/config/config.h"
#include "common/config/kafka_settings.h"
#include "common/config/tracing_settings.h"

struct relay_config {
    const char *http_address;
    int64_t http_port;
    const char *write_database_url;
    const char *slot;
    const char *publication;
    const char *kafka_brokers;
    const char *topic;
    int64_t topic_partitions;
    int64_t topic_replication;
    int64_t in_flight_max;
    int64_t connect_timeout_ms;
    int64_t standby_retry_ms;
    int64_t drain_ms;
    int64_t fence_ms;
    const char *too_large;
    enum log_level log_level;
    struct kafka_settings kafka;
    struct auth_settings auth;
    struct tracing_settings tracing;
};

extern const struct config_spec relay_config_spec;

#endif
