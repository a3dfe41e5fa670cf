/* Traces to a collector: OTLP/HTTP in JSON, by libcurl. */
#ifndef DAYBOOK_ADAPTERS_OTLP_CURL_H
#define DAYBOOK_ADAPTERS_OTLP_CURL_H

#include "common/runtime/tracing.h"

/*
 * The tracer as the settings want it; *out stays NULL when they want none: no endpoint, exporter
 * none, or disabled. `settings`: borrowed while the tracer lives. To be called before the process
 * starts other threads that use libcurl. ERR_INVALID: a setting is ill-formed.
 */
MUST_CHECK enum err_code otlp_tracer_start(const struct tracing_settings *settings,
                                           const char *service, struct log *log,
                                           struct metrics *metrics, struct tracer **out,
                                           struct err *err);

#endif
