/*
 * One span per request that has a route: a child of what the client's traceparent names, a root
 * without one. Probes and /metrics have none. Names as in OpenTelemetry's conventions for HTTP.
 */
#include "common/base/clock.h"
#include "common/http/http_internal.h"
#include "common/http/router.h"

void http_trace_begin(struct exchange *exchange) {
    struct http_request *request = &exchange->public;
    struct tracer *tracer = exchange->thread->server->options.tracer;
    struct trace_context parent = {.sampled = false};
    const char *method = request->head_only ? "HEAD" : http_method_name(request->method);

    /* An ill-formed one, or more than one, starts a new trace: W3C Trace Context section 3.2. */
    if (http_request_header_count(request, "traceparent") == 1 &&
        !trace_context_parse(http_request_header(request, "traceparent"), &parent)) {
        parent = (struct trace_context){.sampled = false};
    }
    if (!tracer_begin(tracer, &parent, &request->trace)) {
        return;
    }
    struct span *span = arena_alloc(&request->arena, sizeof(*span));
    if (span == NULL) {
        return;
    }
    const int64_t since_us = clock_monotonic_us() - request->received_at_us;
    span_init(span, &request->trace, &parent, SPAN_SERVER, clock_wall_us() - since_us);
    span_name(span, "%s %s", method, request->route->path);
    span_put_text(span, "http.request.method", str_from(method));
    span_put_text(span, "http.route", str_from(request->route->path));
    span_put_text(span, "url.scheme", STR("http"));
    span_put_text(span, "url.path", request->path);
    span_put_text(span, "daybook.correlation_id", request->correlation_id);
    exchange->span = span;
}

void http_trace_end(struct exchange *exchange) {
    const struct http_request *request = &exchange->public;
    struct span *span = exchange->span;

    span_put_number(span, "http.response.status_code", request->response.status);
    span->failed = request->response.status >= 500;
    span->end_us = span->start_us + (clock_monotonic_us() - request->received_at_us);
    tracer_end(exchange->thread->server->options.tracer, span);
    exchange->span = NULL;
}
