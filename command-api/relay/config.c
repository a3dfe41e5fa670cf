#include "command-api/relay/config.h"

#define KEY(member) offsetof(struct relay_config, member)

static const struct config_key keys[] = {
    {"DAYBOOK_HTTP_ADDRESS", CONFIG_STRING, KEY(http_address), "127.0.0.1", 7, 15, NULL, false, "",
     "IPv4 address for /health, /ready and /metrics"},
    {"DAYBOOK_HTTP_PORT", CONFIG_INT, KEY(http_port), "8083", 0, 65535, NULL, false, "",
     "port for /health, /ready and /metrics; 0 takes any free one"},
    {"DAYBOOK_WRITE_DATABASE_URL", CONFIG_URL, KEY(write_database_url), NULL, 1, 1024,
     "postgresql:// postgres://", false, "",
     "event store, role with REPLICATION and SELECT on events"},
    {"DAYBOOK_SLOT", CONFIG_STRING, KEY(slot), "daybook_relay", 1, 50, NULL, false, "",
     "replication slot; made when missing"},
    {"DAYBOOK_PUBLICATION", CONFIG_STRING, KEY(publication), "daybook_events", 1, 63, NULL, false,
     "", "publication of the events table; made by the migrations"},
    {"DAYBOOK_KAFKA_BROKERS", CONFIG_STRING, KEY(kafka_brokers), NULL, 1, 1024, NULL, false, "",
     "host:port, separated by commas"},
    {"DAYBOOK_TOPIC", CONFIG_STRING, KEY(topic), "account-events", 1, 200, NULL, false, "",
     "topic for the events; made when missing"},
    {"DAYBOOK_TOPIC_PARTITIONS", CONFIG_INT, KEY(topic_partitions), "6", 1, 256, NULL, false, "",
     "its partitions; must be what an existing topic has"},
    {"DAYBOOK_TOPIC_REPLICATION", CONFIG_INT, KEY(topic_replication), "1", 1, 32, NULL, false, "",
     "replicas of each partition, when the topic is made"},
    {"DAYBOOK_IN_FLIGHT_MAX", CONFIG_INT, KEY(in_flight_max), "50000", 100, 1000000, NULL, false,
     "records", "published and not yet acknowledged; reading waits beyond"},
    {"DAYBOOK_CONNECT_TIMEOUT_MS", CONFIG_INT, KEY(connect_timeout_ms), "5000", 100, 60000, NULL,
     false, "ms", "longest wait for a connection or an answer while starting"},
    {"DAYBOOK_STANDBY_RETRY_MS", CONFIG_INT, KEY(standby_retry_ms), "500", 10, 60000, NULL, false,
     "ms", "how often a relay that stands by tries to take over"},
    {"DAYBOOK_DRAIN_MS", CONFIG_INT, KEY(drain_ms), "5000", 0, 600000, NULL, false, "ms",
     "at SIGTERM: longest wait for acknowledgements"},
    {"DAYBOOK_FENCE_MS", CONFIG_INT, KEY(fence_ms), "5000", 500, 600000, NULL, false, "ms",
     "the topic refuses records stamped further back; how long taking over from a relay that may be "
     "alive takes"},
    {"DAYBOOK_TOO_LARGE", CONFIG_STRING, KEY(too_large), "wait", 4, 9, "wait reference", false, "",
     "a record over the topic's limit: wait until the limit is raised, or publish it without its "
     "payload, with a reference"},
    {"DAYBOOK_LOG_LEVEL", CONFIG_LEVEL, KEY(log_level), "info", 0, 0, NULL, false, "",
     "least severe level that is logged"},
    KAFKA_CONFIG_KEYS(KEY(kafka)),
    AUTH_CONFIG_KEYS(KEY(auth)),
    TRACING_CONFIG_KEYS(KEY(tracing)),
};

static const struct config_command commands[] = {
    {"status", "print slot, lag and what was published last; 1: something is not as it should be"},
    {"verify", "compare the events table with the topic, event by event; 3: they differ"},
};

const struct config_spec relay_config_spec = {
    .program = "daybook-relay",
    .summary = "publishes every committed event to Kafka, once and in order",
    .keys = keys,
    .key_count = ARRAY_LEN(keys),
    .struct_bytes = sizeof(struct relay_config),
    .commands = commands,
    .command_count = ARRAY_LEN(commands),
};
