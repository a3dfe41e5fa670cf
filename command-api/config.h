/* The command API's configuration. */
#ifndef DAYBOOK_COMMAND_API_CONFIG_H
#define DAYBOOK_COMMAND_API_CONFIG_H

#include "common/config/auth_settings.h"
#include "common/config/config.h"
#include "common/config/tracing_settings.h"

struct command_api_config {
    const char *http_address;
    int64_t http_port;
    int64_t http_threads;
    int64_t http_connections_max;
    int64_t http_body_bytes_max;
    int64_t http_idle_timeout_s;
    const char *write_database_url;
    int64_t shards;
    int64_t shard_queue_max;
    int64_t shard_batch_max;
    int64_t shard_streams_max;
    int64_t snapshot_every;
    int64_t connect_timeout_ms;
    int64_t statement_timeout_ms;
    int64_t outcome_wait_ms;
    int64_t drain_ms;
    enum log_level log_level;
    struct auth_settings auth;
    struct tracing_settings tracing;
};

extern const struct config_spec command_api_config_spec;

/* How many shards to run: as configured, or what fits the processors. */
size_t command_api_shards(const struct command_api_config *config);

#endif
