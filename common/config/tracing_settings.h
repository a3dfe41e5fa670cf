/* What a process can be told about traces: OpenTelemetry's standard variables. */
#ifndef DAYBOOK_CONFIG_TRACING_SETTINGS_H
#define DAYBOOK_CONFIG_TRACING_SETTINGS_H

#include "common/config/config_row.h"

struct tracing_settings {
    bool sdk_disabled;
    const char *exporter; /* "otlp", "none" */
    const char *protocol;
    const char *endpoint;        /* "/v1/traces" goes behind it; "": none */
    const char *traces_endpoint; /* as it is; "": none */
    const char *headers;         /* key=value,… */
    const char *traces_headers;  /* instead of headers; "": none */
    const char *certificate;     /* path of a CA file; "": the system's */
    int64_t timeout_ms;          /* one request */
    const char *service_name;    /* "": the program's */
    const char *resource_attributes;
    const char *sampler;
    const char *sampler_arg;
    int64_t schedule_delay_ms;
    int64_t export_timeout_ms; /* one batch, tries included */
    int64_t queue_max;
    int64_t batch_max;
};

#define TRACING_SAMPLERS                                                              \
    "always_on always_off traceidratio parentbased_always_on parentbased_always_off " \
    "parentbased_traceidratio"

#define TRACING_AT(base, field) ((base) + offsetof(struct tracing_settings, field))

/* Rows of a process's table of keys; its struct holds the settings at the offset `base`. */
#define TRACING_CONFIG_KEYS(base)                                                                  \
    CONFIG_ROW_FLAG("OTEL_SDK_DISABLED", TRACING_AT(base, sdk_disabled), "false",                  \
                    "true: no traces, whatever else is set"),                                      \
        CONFIG_ROW_WORD("OTEL_TRACES_EXPORTER", TRACING_AT(base, exporter), "otlp", "otlp none",   \
                        "where traces go: otlp, once an endpoint is set, or none"),                \
        CONFIG_ROW_WORD("OTEL_EXPORTER_OTLP_PROTOCOL", TRACING_AT(base, protocol), "http/json",    \
                        "http/json", "the protocol spoken to the collector"),                      \
        CONFIG_ROW_URL("OTEL_EXPORTER_OTLP_ENDPOINT", TRACING_AT(base, endpoint),                  \
                       "collector, http:// or https://; /v1/traces is added; empty: no traces"),   \
        CONFIG_ROW_URL("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", TRACING_AT(base, traces_endpoint),    \
                       "whole URL that traces are posted to, instead"),                            \
        CONFIG_ROW_SECRET("OTEL_EXPORTER_OTLP_HEADERS", TRACING_AT(base, headers), 4096,           \
                          "headers for the collector: key=value,…, values percent-encoded"),       \
        CONFIG_ROW_SECRET("OTEL_EXPORTER_OTLP_TRACES_HEADERS", TRACING_AT(base, traces_headers),   \
                          4096, "the same for traces alone, instead"),                             \
        CONFIG_ROW_TEXT("OTEL_EXPORTER_OTLP_CERTIFICATE", TRACING_AT(base, certificate), 1024,     \
                        "PEM file of the CA that vouches for the collector; empty: the system's"), \
        CONFIG_ROW_INT("OTEL_EXPORTER_OTLP_TIMEOUT", TRACING_AT(base, timeout_ms), "10000", 10,    \
                       600000, "ms", "longest wait for the collector's answer"),                   \
        CONFIG_ROW_TEXT("OTEL_SERVICE_NAME", TRACING_AT(base, service_name), 255,                  \
                        "service.name in traces; empty: the program's name"),                      \
        CONFIG_ROW_TEXT("OTEL_RESOURCE_ATTRIBUTES", TRACING_AT(base, resource_attributes), 4096,   \
                        "further attributes of this process in traces: key=value,…"),              \
        CONFIG_ROW_WORD(                                                                           \
            "OTEL_TRACES_SAMPLER", TRACING_AT(base, sampler), "parentbased_always_on",             \
            TRACING_SAMPLERS,                                                                      \
            "which traces are recorded; parentbased_…: as the caller's traceparent says, if any"), \
        CONFIG_ROW_TEXT("OTEL_TRACES_SAMPLER_ARG", TRACING_AT(base, sampler_arg), 32,              \
                        "share of the traces for …traceidratio, 0 to 1; empty: 1"),                \
        CONFIG_ROW_INT("OTEL_BSP_SCHEDULE_DELAY", TRACING_AT(base, schedule_delay_ms), "5000", 1,  \
                       600000, "ms", "how long spans collect before they are sent"),               \
        CONFIG_ROW_INT("OTEL_BSP_EXPORT_TIMEOUT", TRACING_AT(base, export_timeout_ms), "30000",    \
                       10, 600000, "ms",                                                           \
                       "longest time for sending a batch, further tries included"),                \
        CONFIG_ROW_INT("OTEL_BSP_MAX_QUEUE_SIZE", TRACING_AT(base, queue_max), "2048", 1, 65536,   \
                       "spans", "waiting to be sent; further ones are dropped and counted"),       \
        CONFIG_ROW_INT("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", TRACING_AT(base, batch_max), "512", 1,    \
                       8192, "spans", "sent in one request at most")

#endif
