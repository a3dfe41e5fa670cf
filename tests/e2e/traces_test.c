/* One deposit, from the client's traceparent to the read models, as a collector sees it. The
 * stack's own processes are started anew with traces on, and at the end without. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/command.h"
#include "../support/environment.h"
#include "../support/event_log.h"
#include "../support/http_client.h"
#include "../support/otlp_receiver.h"

#define TRACE "4bf92f3577b34da6a3ce929d0e0e4736"
#define CLIENT "00f067aa0ba902b7"

static const char *const traced[] = {"command-api", "relay", "projector", "query-api"};
static const char *const variables[][2] = {{"OTEL_BSP_SCHEDULE_DELAY", "100"},
                                           {"OTEL_RESOURCE_ATTRIBUTES", "deployment=tests"}};

static struct otlp_receiver *receiver;

static void restart_all(void) {
    for (size_t i = 0; i < sizeof(traced) / sizeof(traced[0]); i++) {
        cr_assert(stack("restart", traced[i]), "%s", traced[i]);
    }
}

static void set_up(void) {
    receiver = otlp_receiver_new();
    (void)setenv("OTEL_EXPORTER_OTLP_ENDPOINT", otlp_receiver_url(receiver), 1);
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        (void)setenv(variables[i][0], variables[i][1], 1);
    }
    restart_all();
}

static void tear_down(void) {
    (void)unsetenv("OTEL_EXPORTER_OTLP_ENDPOINT");
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        (void)unsetenv(variables[i][0]);
    }
    restart_all();
    otlp_receiver_free(receiver);
}

TestSuite(traces, .init = set_up, .fini = tear_down, .timeout = 180);

static const char *const applied[] = {"apply accounts (redis)", "apply accounts (postgresql)",
                                      "apply statements (postgresql)",
                                      "apply activity (postgresql)"};

static bool is_whole(void *arg) {
    json_t *spans = otlp_receiver_spans(receiver, TRACE);
    bool whole = span_named(spans, "daybook-command-api", "POST") != NULL &&
                 span_named(spans, "daybook-relay", "send") != NULL;

    (void)arg;
    for (size_t i = 0; i < sizeof(applied) / sizeof(applied[0]); i++) {
        whole = whole && span_named(spans, "daybook-projector", applied[i]) != NULL;
    }
    json_decref(spans);
    return whole;
}

static const json_t *expect(const json_t *spans, const char *service, const char *name, int kind,
                            const char *parent) {
    const json_t *span = span_named(spans, service, name);

    cr_assert_not_null(span, "%s: no %s", service, name);
    cr_assert_eq(json_integer_value(json_object_get(span, "kind")), kind, "%s", name);
    cr_assert_str_eq(span_text_of(span, "parentSpanId"), parent, "%s", name);
    cr_assert_str_eq(span_text_of(span, "traceId"), TRACE);
    return span;
}

/* Not before the one that it follows from, on one machine's clock. */
static void expect_order(const json_t *earlier, const json_t *later) {
    cr_assert_leq(strcmp(span_text_of(earlier, "startTimeUnixNano"),
                         span_text_of(later, "startTimeUnixNano")),
                  0, "%s is before %s", span_text_of(later, "name"), span_text_of(earlier, "name"));
}

Test(traces, one_deposit_is_one_trace_through_all_processes) {
    const char *gateway = stack_environment("DAYBOOK_TEST_GATEWAY");
    const char *id = command_open(gateway, "trace");
    char span_id[17];

    (void)command_expect(&(struct command){.base = gateway,
                                           .stream = id,
                                           .action = "deposit",
                                           .amount_minor = 100,
                                           .correlation_id = "trace-1",
                                           .traceparent = "00-" TRACE "-" CLIENT "-01"},
                         200);
    cr_assert(eventually(is_whole, NULL, 30000), "the trace is not whole");
    json_t *spans = otlp_receiver_spans(receiver, TRACE);
    const json_t *request =
        expect(spans, "daybook-command-api", "POST /accounts/{id}/deposit", 2, CLIENT);
    (void)snprintf(span_id, sizeof(span_id), "%s", span_text_of(request, "spanId"));
    cr_assert_str_eq(span_attribute_of(request, "daybook.correlation_id"), "trace-1");
    const json_t *decide = expect(spans, "daybook-command-api", "decide Deposit", 1, span_id);
    const json_t *append = expect(spans, "daybook-command-api", "append", 3, span_id);
    const json_t *publish = expect(spans, "daybook-relay", "send", 4, span_id);
    expect_order(request, decide);
    expect_order(decide, append);
    expect_order(append, publish);
    cr_assert_str_eq(span_attribute_of(publish, "messaging.kafka.message.key"), id);
    for (size_t i = 0; i < sizeof(applied) / sizeof(applied[0]); i++) {
        const json_t *apply =
            expect(spans, "daybook-projector", applied[i], 5, span_text_of(publish, "spanId"));
        expect_order(publish, apply);
        cr_assert_str_eq(span_attribute_of(apply, "messaging.kafka.offset"),
                         span_attribute_of(publish, "messaging.kafka.offset"));
    }
    cr_assert_str_eq(otlp_receiver_defect(receiver), "");
    char stored[64];
    (void)snprintf(stored, sizeof(stored), "00-" TRACE "-%s-01", span_id);
    cr_assert_str_eq(log_text("SELECT traceparent FROM daybook.events WHERE stream_id = $1"
                              " AND version = 2",
                              id, NULL),
                     stored);
    if (getenv("DAYBOOK_TEST_SHOW_TRACE") != NULL) {
        (void)json_dumpf(spans, stderr, JSON_INDENT(1));
    }
    json_decref(spans);
}

static bool read_is_traced(void *arg) {
    json_t *spans = otlp_receiver_spans(receiver, arg);
    const bool is = span_named(spans, "daybook-query-api", "GET /accounts/{id}") != NULL;

    json_decref(spans);
    return is;
}

Test(traces, reads_are_traced_and_what_the_client_does_not_record_is_not) {
    char read_trace[] = "11112222333344445555666677778888";
    const char *gateway = stack_environment("DAYBOOK_TEST_GATEWAY");
    char id[96];
    char url[256];

    (void)snprintf(id, sizeof(id), "%s", command_open(gateway, "trace"));
    (void)command_expect(&(struct command){.base = gateway,
                                           .stream = id,
                                           .action = "deposit",
                                           .amount_minor = 100,
                                           .traceparent = "00-99990000000000000000000000000000-"
                                                          "0000000000000001-00"},
                         200);
    (void)snprintf(url, sizeof(url), "%s/accounts/%s?min_version=2", gateway, id);
    struct http_answer a = http_call(&(struct http_call){
        .method = "GET",
        .url = url,
        .headers = {"traceparent: 00-11112222333344445555666677778888-0000000000000001-01"}});
    cr_assert_eq(a.status, 200);
    http_answer_release(&a);
    cr_assert(eventually(read_is_traced, read_trace, 20000));
    json_t *spans = otlp_receiver_spans(receiver, "99990000000000000000000000000000");
    cr_assert_eq(json_array_size(spans), 0);
    json_decref(spans);
    /* It is passed on all the same, with a span id of ours. */
    cr_assert_str_eq(log_text("SELECT traceparent ~ '^00-99990{28}-[0-9a-f]{16}-00$'"
                              " AND traceparent !~ '-0{15}1-' FROM daybook.events"
                              " WHERE stream_id = $1 AND version = 2",
                              id, NULL),
                     "t");
}
