#include "projector/config.h"

#define KEY(member) offsetof(struct projector_config, member)

static const struct config_key keys[] = {
    {"DAYBOOK_HTTP_ADDRESS", CONFIG_STRING, KEY(http_address), "127.0.0.1", 7, 15, NULL, false, "",
     "IPv4 address for /health, /ready and /metrics"},
    {"DAYBOOK_HTTP_PORT", CONFIG_INT, KEY(http_port), "8084", 0, 65535, NULL, false, "",
     "port for /health, /ready and /metrics; 0 takes any free one"},
    {"DAYBOOK_KAFKA_BROKERS", CONFIG_STRING, KEY(kafka_brokers), NULL, 1, 1024, NULL, false, "",
     "host:port, separated by commas"},
    {"DAYBOOK_TOPIC", CONFIG_STRING, KEY(topic), "account-events", 1, 200, NULL, false, "",
     "topic of the events"},
    {"DAYBOOK_TOPIC_PARTITIONS", CONFIG_INT, KEY(topic_partitions), "6", 1, 256, NULL, false, "",
     "its partitions; checked against the topic and Redis"},
    {"DAYBOOK_READ_DATABASE_URL", CONFIG_URL, KEY(read_database_url), NULL, 1, 1024,
     "postgresql:// postgres://", false, "", "read models, role that may write them"},
    {"DAYBOOK_REDIS_URL", CONFIG_URL, KEY(redis_url), NULL, 1, 1024, "redis:// rediss://", false,
     "", "read models in Redis"},
    {"DAYBOOK_PROJECTIONS", CONFIG_STRING, KEY(projections), "all", 1, 512, NULL, false, "",
     "names separated by commas, or all"},
    {"DAYBOOK_BATCH_EVENTS_MAX", CONFIG_INT, KEY(batch_events_max), "2000", 1, 8192, NULL, false,
     "events", "applied in one step at most"},
    {"DAYBOOK_PACE_MS", CONFIG_INT, KEY(pace_ms), "50", 0, 900, NULL, false, "ms",
     "while events keep coming, steps are so far apart where nobody waits for his own write"},
    {"DAYBOOK_SESSION_TIMEOUT_MS", CONFIG_INT, KEY(session_timeout_ms), "6000", 6000, 300000, NULL,
     false, "ms", "a replica silent for so long loses its partitions"},
    {"DAYBOOK_STALL_MS", CONFIG_INT, KEY(stall_ms), "30000", 1000, 3600000, NULL, false, "ms",
     "no progress for so long while there is a lag: not ready"},
    {"DAYBOOK_REBUILD_THREADS", CONFIG_INT, KEY(rebuild_threads), "2", 1, 32, NULL, false, "",
     "partitions that a rebuild reads at the same time"},
    {"DAYBOOK_CONNECT_TIMEOUT_MS", CONFIG_INT, KEY(connect_timeout_ms), "5000", 100, 60000, NULL,
     false, "ms", "longest wait for a connection"},
    {"DAYBOOK_STATEMENT_TIMEOUT_MS", CONFIG_INT, KEY(statement_timeout_ms), "30000", 100, 600000,
     NULL, false, "ms", "longest wait for the answer to a statement or script"},
    {"DAYBOOK_LOG_LEVEL", CONFIG_LEVEL, KEY(log_level), "info", 0, 0, NULL, false, "",
     "least severe level that is logged"},
    KAFKA_CONFIG_KEYS(KEY(kafka)),
    AUTH_CONFIG_KEYS(KEY(auth)),
    TRACING_CONFIG_KEYS(KEY(tracing)),
};

const struct config_spec projector_config_spec = {
    .program = "daybook-projector",
    .summary = "posts the events of the topic to the read models in PostgreSQL and Redis",
    .keys = keys,
    .key_count = ARRAY_LEN(keys),
    .struct_bytes = sizeof(struct projector_config),
};
