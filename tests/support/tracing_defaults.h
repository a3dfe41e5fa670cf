/* Settings of a tracer for tests: what a process has when nothing is set, but that it sends soon.
 */
#ifndef DAYBOOK_TESTS_SUPPORT_TRACING_DEFAULTS_H
#define DAYBOOK_TESTS_SUPPORT_TRACING_DEFAULTS_H

#include "common/config/tracing_settings.h"

static inline struct tracing_settings tracing_defaults(void) {
    return (struct tracing_settings){.exporter = "otlp",
                                     .protocol = "http/json",
                                     .endpoint = "",
                                     .traces_endpoint = "",
                                     .headers = "",
                                     .traces_headers = "",
                                     .certificate = "",
                                     .timeout_ms = 2000,
                                     .service_name = "",
                                     .resource_attributes = "",
                                     .sampler = "parentbased_always_on",
                                     .sampler_arg = "",
                                     .schedule_delay_ms = 5,
                                     .export_timeout_ms = 10000,
                                     .queue_max = 64,
                                     .batch_max = 8};
}

#endif
