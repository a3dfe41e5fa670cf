/* The configuration of daybook-query-api; config.c has the table with defaults, limits and help. */
#ifndef DAYBOOK_QUERY_API_CONFIG_H
#define DAYBOOK_QUERY_API_CONFIG_H

#include "common/config/auth_settings.h"
#include "common/config/config.h"
#include "common/config/tracing_settings.h"

struct query_api_config {
    const char *http_address;
    int64_t http_port;
    int64_t http_threads;
    int64_t http_connections_max;
    int64_t http_idle_timeout_s;
    const char *read_database_url;
    const char *log_database_url;
    const char *redis_url;
    int64_t topic_partitions;
    int64_t redis_timeout_ms;
    int64_t redis_connect_timeout_ms;
    int64_t redis_in_flight_max;
    int64_t pg_threads;
    int64_t pg_queue_max;
    int64_t pg_connect_timeout_ms;
    int64_t pg_timeout_ms;
    int64_t log_threads;
    int64_t waiters_max;
    int64_t streams_max;
    int64_t drain_ms;
    enum log_level log_level;
    struct auth_settings auth;
    struct tracing_settings tracing;
};

extern const struct config_spec query_api_config_spec;

#endif
