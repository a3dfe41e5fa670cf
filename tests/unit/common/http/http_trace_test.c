/* The span of a request, as a collector sees it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../../../support/environment.h"
#include "../../../support/otlp_receiver.h"
#include "../../../support/tracing_defaults.h"
#include "common/adapters/otlp_curl.h"
#include "common/http/http_server.h"
#include "common/http/problem.h"
#include "socket_client.h"

#define CLIENT_TRACE "4bf92f3577b34da6a3ce929d0e0e4736"

static struct {
    struct otlp_receiver *receiver;
    struct metrics *metrics;
    struct health *health;
    struct tracer *tracer;
    struct tracing_settings settings;
    struct http_server *server;
} fixture;

/* Says which context the handler sees. */
static enum http_result show(void *context, struct http_request *request) {
    char text[TRACEPARENT_BYTES] = "none";

    (void)context;
    if (trace_context_is_set(&request->trace)) {
        trace_context_format(text, &request->trace);
    }
    http_respond(request, 200, "text/plain", arena_str(&request->arena, str_from(text)));
    return HTTP_DONE;
}

static enum http_result fail(void *context, struct http_request *request) {
    (void)context;
    return problem_respond(request, 500, "internal", "Internal error", "on purpose");
}

static const struct http_route routes[] = {
    {HTTP_GET, "/show/{id}", show, NULL, NULL},
    {HTTP_GET, "/fail", fail, NULL, NULL},
};

static void start(bool traced) {
    struct http_server_options options = http_server_defaults();
    struct err err = {0};

    fixture.receiver = otlp_receiver_new();
    fixture.metrics = metrics_new();
    fixture.health = health_new("test");
    fixture.settings = tracing_defaults();
    fixture.settings.endpoint = otlp_receiver_url(fixture.receiver);
    fixture.settings.service_name = "web";
    fixture.settings.sdk_disabled = !traced;
    cr_assert_eq(
        otlp_tracer_start(&fixture.settings, "", NULL, fixture.metrics, &fixture.tracer, &err),
        ERR_OK);
    options.routes = routes;
    options.route_count = ARRAY_LEN(routes);
    options.metrics = fixture.metrics;
    options.health = fixture.health;
    options.tracer = fixture.tracer;
    cr_assert_eq(http_server_new(&options, &fixture.server, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(http_server_start(fixture.server, &err), ERR_OK, "%s", err.message);
}

static void stop(void) {
    cr_assert_eq(http_server_stop(fixture.server, 5000), 0);
    http_server_free(fixture.server);
    tracer_stop(fixture.tracer);
    otlp_receiver_free(fixture.receiver);
    metrics_free(fixture.metrics);
    health_free(fixture.health);
}

TestSuite(http_trace, .timeout = 30);

static const char *ask(const char *path, const char *header) {
    static char answer[4096];
    char request[512];
    const int fd = socket_connect(http_server_port(fixture.server));

    (void)snprintf(request, sizeof(request), "GET %s" HOST "%s\r\n", path, header);
    socket_say(fd, request);
    (void)snprintf(answer, sizeof(answer), "%s", socket_hear(fd));
    (void)close(fd);
    return answer;
}

static bool has_span(void *arg) {
    json_t *spans = otlp_receiver_spans(fixture.receiver, NULL);
    const bool found = span_named(spans, "web", arg) != NULL;

    json_decref(spans);
    return found;
}

Test(http_trace, a_request_is_a_child_of_its_client_and_what_follows_is_a_child_of_it) {
    char name[] = "GET /show/{id}";

    start(true);
    const char *answer =
        ask("/show/a%20b", "traceparent: 00-" CLIENT_TRACE "-00f067aa0ba902b7-01\r\n"
                           "X-Correlation-ID: c-1\r\n");
    cr_assert(eventually(has_span, name, 5000));
    json_t *spans = otlp_receiver_spans(fixture.receiver, CLIENT_TRACE);
    const json_t *span = json_array_get(spans, 0);
    char own[TRACEPARENT_BYTES];
    cr_assert_eq(json_array_size(spans), 1);
    cr_assert_str_eq(span_text_of(span, "parentSpanId"), "00f067aa0ba902b7");
    cr_assert_eq(json_integer_value(json_object_get(span, "kind")), SPAN_SERVER);
    cr_assert_str_eq(span_attribute_of(span, "http.route"), "/show/{id}");
    cr_assert_str_eq(span_attribute_of(span, "url.path"), "/show/a%20b");
    cr_assert_str_eq(span_attribute_of(span, "http.response.status_code"), "200");
    cr_assert_str_eq(span_attribute_of(span, "daybook.correlation_id"), "c-1");
    (void)snprintf(own, sizeof(own), "00-" CLIENT_TRACE "-%s-01", span_text_of(span, "spanId"));
    cr_assert_not_null(strstr(answer, own), "%s has not %s", answer, own);
    cr_assert_str_eq(otlp_receiver_defect(fixture.receiver), "");
    json_decref(spans);
    stop();
}

Test(http_trace, what_the_client_does_not_record_is_not_recorded_here) {
    char name[] = "GET /fail";

    start(true);
    const char *answer = ask("/show/x", "traceparent: 00-" CLIENT_TRACE "-00f067aa0ba902b7-00\r\n");
    cr_assert_not_null(strstr(answer, "00-" CLIENT_TRACE "-"));
    cr_assert_null(strstr(answer, "00f067aa0ba902b7"), "it has a span id of its own");
    (void)ask("/health", "");
    (void)ask("/nowhere", "");
    (void)ask("/fail", "traceparent: nonsense\r\n");
    cr_assert(eventually(has_span, name, 5000));
    json_t *spans = otlp_receiver_spans(fixture.receiver, NULL);
    cr_assert_eq(json_array_size(spans), 1, "neither that, nor probes, nor what has no route");
    const json_t *span = json_array_get(spans, 0);
    cr_assert_null(json_object_get(span, "parentSpanId"));
    cr_assert_eq(json_integer_value(json_object_get(json_object_get(span, "status"), "code")), 2);
    json_decref(spans);
    stop();
}

Test(http_trace, without_a_tracer_there_is_no_context) {
    start(false);
    cr_assert_null(fixture.tracer);
    cr_assert_not_null(
        strstr(ask("/show/x", "traceparent: 00-" CLIENT_TRACE "-00f067aa0ba902b7-01\r\n"),
               "\r\n\r\nnone"));
    stop();
}
