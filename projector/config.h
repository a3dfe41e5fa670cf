/* The projector's configuration. */
#ifndef DAYBOOK_PROJECTOR_CONFIG_H
#define DAYBOOK_PROJECTOR_CONFIG_H

#include "common/config/auth_settings.h"
#include "common/config/config.h"
#include "common/config/kafka_settings.h"
#include "common/config/tracing_settings.h"

struct projector_config {
    const char *http_address;
    int64_t http_port;
    const char *kafka_brokers;
    const char *topic;
    int64_t topic_partitions;
    const char *read_database_url;
    const char *redis_url;
    const char *projections;
    int64_t batch_events_max;
    int64_t pace_ms;
    int64_t session_timeout_ms;
    int64_t stall_ms;
    int64_t rebuild_threads;
    int64_t connect_timeout_ms;
    int64_t statement_timeout_ms;
    enum log_level log_level;
    struct kafka_settings kafka;
    struct auth_settings auth;
    struct tracing_settings tracing;
};

extern const struct config_spec projector_config_spec;

#endif
