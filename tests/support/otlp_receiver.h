/*
 * A collector for tests: takes OTLP/HTTP JSON on a port of its own, checks each body against the
 * shape of opentelemetry-proto's ExportTraceServiceRequest, and keeps the spans.
 */
#ifndef DAYBOOK_TESTS_SUPPORT_OTLP_RECEIVER_H
#define DAYBOOK_TESTS_SUPPORT_OTLP_RECEIVER_H

#include <jansson.h>
#include <stddef.h>

struct otlp_receiver;

struct otlp_receiver *otlp_receiver_new(void);
void otlp_receiver_free(struct otlp_receiver *receiver);
/* "http://127.0.0.1:<port>": the value for OTEL_EXPORTER_OTLP_ENDPOINT. */
const char *otlp_receiver_url(const struct otlp_receiver *receiver);

/* What the next `times` requests are answered; their spans are not kept. */
void otlp_receiver_refuse(struct otlp_receiver *receiver, int status, int times);
size_t otlp_receiver_requests(struct otlp_receiver *receiver);
/* A header of the last request; "" when absent; static. */
const char *otlp_receiver_header(struct otlp_receiver *receiver, const char *name);
/* What was wrong with a body, the first time; "" when all were well-formed. Static. */
const char *otlp_receiver_defect(struct otlp_receiver *receiver);

/* A new array of the trace's spans (of all, when NULL), oldest start first; each with a member
 * "service" more. The caller's. */
json_t *otlp_receiver_spans(struct otlp_receiver *receiver, const char *trace_id);

/* Accessors for a span. "" or -1 when absent. */
const char *span_text_of(const json_t *span, const char *member);
const char *span_attribute_of(const json_t *span, const char *key);
/* The first span of that service whose name starts so; NULL when there is none. */
const json_t *span_named(const json_t *spans, const char *service, const char *name);

/* NULL: well-formed; else what is wrong. Static. */
const char *otlp_check(const json_t *body);

#endif
