#include "command-api/config.h"

#include <unistd.h>

#define KEY(member) offsetof(struct command_api_config, member)

static const struct config_key keys[] = {
    {"DAYBOOK_HTTP_ADDRESS", CONFIG_STRING, KEY(http_address), "127.0.0.1", 7, 15, NULL, false, "",
     "IPv4 address to listen on"},
    {"DAYBOOK_HTTP_PORT", CONFIG_INT, KEY(http_port), "8081", 0, 65535, NULL, false, "",
     "port to listen on; 0 takes any free one"},
    {"DAYBOOK_HTTP_THREADS", CONFIG_INT, KEY(http_threads), "1", 1, 64, NULL, false, "",
     "threads that parse and answer requests"},
    {"DAYBOOK_HTTP_CONNECTIONS_MAX", CONFIG_INT, KEY(http_connections_max), "8192", 1, 100000, NULL,
     false, "", "connections at a time; at the limit idle ones are closed, further ones get 503"},
    {"DAYBOOK_HTTP_BODY_BYTES_MAX", CONFIG_INT, KEY(http_body_bytes_max), "16384", 256, 1048576,
     NULL, false, "bytes", "largest request body"},
    {"DAYBOOK_HTTP_IDLE_TIMEOUT_S", CONFIG_INT, KEY(http_idle_timeout_s), "75", 1, 3600, NULL,
     false, "s",
     "the longest a client may take for its next request, the rest of it, or the answer"},
    {"DAYBOOK_WRITE_DATABASE_URL", CONFIG_URL, KEY(write_database_url), NULL, 1, 1024,
     "postgresql:// postgres://", false, "", "event store, role with INSERT and SELECT on events"},
    {"DAYBOOK_SHARDS", CONFIG_INT, KEY(shards), "0", 0, 64, NULL, false, "",
     "threads that decide and append, each with one database connection; 0: a quarter of the "
     "processors, at least one"},
    {"DAYBOOK_SHARD_QUEUE_MAX", CONFIG_INT, KEY(shard_queue_max), "1024", 1, 1000000, NULL, false,
     "commands", "commands waiting per shard; one more is answered 503"},
    {"DAYBOOK_SHARD_BATCH_MAX", CONFIG_INT, KEY(shard_batch_max), "512", 1, 1024, NULL, false,
     "commands", "commands appended in one transaction"},
    {"DAYBOOK_SHARD_STREAMS_MAX", CONFIG_INT, KEY(shard_streams_max), "50000", 2049, 10000000, NULL,
     false, "streams", "aggregate states kept in memory per shard"},
    {"DAYBOOK_SNAPSHOT_EVERY", CONFIG_INT, KEY(snapshot_every), "200", 0, 1000000, NULL, false,
     "events", "a stream's state is kept beside the log after so many further events; 0: never"},
    {"DAYBOOK_CONNECT_TIMEOUT_MS", CONFIG_INT, KEY(connect_timeout_ms), "2000", 10, 60000, NULL,
     false, "ms", "longest wait for a database connection"},
    {"DAYBOOK_STATEMENT_TIMEOUT_MS", CONFIG_INT, KEY(statement_timeout_ms), "5000", 10, 600000,
     NULL, false, "ms", "longest wait for the answer to a statement"},
    {"DAYBOOK_OUTCOME_WAIT_MS", CONFIG_INT, KEY(outcome_wait_ms), "5000", 0, 600000, NULL, false,
     "ms", "how long to find out what became of a commit whose connection died"},
    {"DAYBOOK_DRAIN_MS", CONFIG_INT, KEY(drain_ms), "10000", 0, 600000, NULL, false, "ms",
     "at SIGTERM: longest wait for commands in hand"},
    {"DAYBOOK_LOG_LEVEL", CONFIG_LEVEL, KEY(log_level), "info", 0, 0, NULL, false, "",
     "least severe level that is logged"},
    AUTH_CONFIG_KEYS(KEY(auth)),
    TRACING_CONFIG_KEYS(KEY(tracing)),
};

const struct config_spec command_api_config_spec = {
    .program = "daybook-command-api",
    .summary = "validates commands and appends their events to PostgreSQL",
    .keys = keys,
    .key_count = ARRAY_LEN(keys),
    .struct_bytes = sizeof(struct command_api_config),
};

/* Fewer shards make larger batches, and PostgreSQL works in parallel with the shard that waits for
 * it: one shard keeps about four processors busy, its own side included. */
enum { PROCESSORS_PER_SHARD = 4 };

size_t command_api_shards(const struct command_api_config *config) {
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);

    if (config->shards > 0) {
        return (size_t)config->shards;
    }
    return processors > PROCESSORS_PER_SHARD ? (size_t)processors / PROCESSORS_PER_SHARD : 1;
}
