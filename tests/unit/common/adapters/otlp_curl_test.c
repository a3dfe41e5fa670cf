/* The exporter and a collector in this process. */
#include "common/adapters/otlp_curl.h"

#include <criterion/criterion.h>

#include "../../../support/environment.h"
#include "../../../support/otlp_receiver.h"
#include "../../../support/tracing_defaults.h"
#include "common/base/clock.h"

static struct {
    struct otlp_receiver *receiver;
    struct metrics *metrics;
    struct tracing_settings settings;
    struct tracer *tracer;
} fixture;

static void set_up(void) {
    fixture.receiver = otlp_receiver_new();
    fixture.metrics = metrics_new();
    fixture.settings = tracing_defaults();
    fixture.settings.endpoint = otlp_receiver_url(fixture.receiver);
    fixture.settings.sampler = "always_on";
}

static void tear_down(void) {
    tracer_stop(fixture.tracer);
    otlp_receiver_free(fixture.receiver);
    metrics_free(fixture.metrics);
}

TestSuite(otlp_curl, .init = set_up, .fini = tear_down, .timeout = 60);

static enum err_code start(struct err *err) {
    return otlp_tracer_start(&fixture.settings, "daybook-test", NULL, fixture.metrics,
                             &fixture.tracer, err);
}

static void end_one(void) {
    struct trace_context context;
    struct span span;

    cr_assert(tracer_begin(fixture.tracer, NULL, &context));
    span_init(&span, &context, NULL, SPAN_INTERNAL, clock_wall_us());
    span_name(&span, "one");
    tracer_end(fixture.tracer, &span);
}

static bool has_spans(void *arg) {
    json_t *spans = otlp_receiver_spans(fixture.receiver, NULL);
    const bool enough = json_array_size(spans) >= *(const size_t *)arg;

    json_decref(spans);
    return enough;
}

static void await_spans(size_t count) {
    cr_assert(eventually(has_spans, &count, 10000));
}

Test(otlp_curl, without_an_endpoint_there_is_no_tracer) {
    struct err err;

    fixture.settings.endpoint = "";
    cr_assert_eq(start(&err), ERR_OK);
    cr_assert_null(fixture.tracer);
    fixture.settings.endpoint = "http://127.0.0.1:1";
    fixture.settings.sdk_disabled = true;
    cr_assert_eq(start(&err), ERR_OK);
    cr_assert_null(fixture.tracer);
    fixture.settings.sdk_disabled = false;
    fixture.settings.exporter = "none";
    cr_assert_eq(start(&err), ERR_OK);
    cr_assert_null(fixture.tracer);
}

Test(otlp_curl, spans_arrive_with_the_headers_asked_for) {
    struct err err;

    fixture.settings.headers = "X-Tenant=a%20b,Authorization=Bearer%20secret";
    cr_assert_eq(start(&err), ERR_OK);
    end_one();
    end_one();
    await_spans(2);
    cr_assert_str_eq(otlp_receiver_defect(fixture.receiver), "");
    cr_assert_str_eq(otlp_receiver_header(fixture.receiver, "Content-Type"), "application/json");
    cr_assert_str_eq(otlp_receiver_header(fixture.receiver, "X-Tenant"), "a b");
    cr_assert_str_eq(otlp_receiver_header(fixture.receiver, "Authorization"), "Bearer secret");
    json_t *spans = otlp_receiver_spans(fixture.receiver, NULL);
    cr_assert_not_null(span_named(spans, "daybook-test", "one"));
    json_decref(spans);
}

Test(otlp_curl, a_collector_that_is_busy_is_asked_again) {
    struct err err;

    otlp_receiver_refuse(fixture.receiver, 503, 2);
    cr_assert_eq(start(&err), ERR_OK);
    end_one();
    await_spans(1);
    cr_assert_eq(otlp_receiver_requests(fixture.receiver), 3);
}

static bool has_asked(void *arg) {
    (void)arg;
    return metric_counter_value(metrics_counter(fixture.metrics,
                                                "daybook_trace_spans_dropped_total",
                                                "reason=\"not_sent\"", "")) == 1;
}

Test(otlp_curl, a_collector_that_refuses_is_not_asked_again) {
    struct err err;

    otlp_receiver_refuse(fixture.receiver, 400, 1);
    cr_assert_eq(start(&err), ERR_OK);
    end_one();
    cr_assert(eventually(has_asked, NULL, 5000));
    end_one();
    await_spans(1);
    cr_assert_eq(otlp_receiver_requests(fixture.receiver), 2);
}

Test(otlp_curl, the_traces_endpoint_is_taken_as_it_is) {
    char url[128];
    struct err err;

    (void)snprintf(url, sizeof(url), "%s/v1/traces", otlp_receiver_url(fixture.receiver));
    fixture.settings.endpoint = "http://127.0.0.1:1";
    fixture.settings.traces_endpoint = url;
    cr_assert_eq(start(&err), ERR_OK);
    end_one();
    await_spans(1);
}

Test(otlp_curl, ill_formed_settings_are_refused) {
    struct err err;

    fixture.settings.headers = "no header";
    cr_assert_eq(start(&err), ERR_INVALID);
    fixture.settings.headers = "X-Evil=a%0d%0ab";
    cr_assert_eq(start(&err), ERR_INVALID);
    fixture.settings.headers = "";
    fixture.settings.endpoint = "file:///etc/passwd";
    cr_assert_eq(start(&err), ERR_INVALID);
}
