/* Spans as the body of an OTLP/HTTP request in JSON (opentelemetry-proto's JSON mapping: ids in
 * hexadecimal, 64-bit integers as text). */
#ifndef DAYBOOK_RUNTIME_OTLP_JSON_H
#define DAYBOOK_RUNTIME_OTLP_JSON_H

#include "common/runtime/tracing.h"

/* The resource's attributes: a JSON array. `service` is used unless `attributes` ("key=value,…")
 * or the settings' own name say otherwise. ERR_INVALID: `attributes` is ill-formed. */
MUST_CHECK enum err_code otlp_json_resource(const struct tracing_settings *settings,
                                            const char *service, struct buf *out, struct err *err);
void otlp_json_request(struct str resource_attributes, const struct span *spans, size_t count,
                       struct buf *out);

#endif
