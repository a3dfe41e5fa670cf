/* The tracer with an exporter of the test's own, which can be held. */
#include "common/runtime/tracing.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>

#include "../../../support/environment.h"
#include "../../../support/otlp_receiver.h"
#include "../../../support/tracing_defaults.h"
#include "common/base/clock.h"
#include "common/runtime/otlp_json.h"

enum { QUEUE = 8, BATCH = 4 };

static struct {
    struct tracing_settings settings;
    struct metrics *metrics;
    struct tracer *tracer;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool held;    /* sends wait until it is false, or until they are to give up */
    int failures; /* of the next sends */
    enum err_code failure;
    int sends, freed;
    char last[64 * 1024];
} fixture = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static enum err_code fake_send(struct span_exporter *exporter, struct str json, int64_t timeout_ms,
                               bool (*give_up)(void *arg), void *arg, int64_t *retry_after_ms,
                               struct err *err) {
    enum err_code code = ERR_OK;

    (void)exporter;
    (void)timeout_ms;
    *retry_after_ms = 0;
    (void)pthread_mutex_lock(&fixture.mutex);
    fixture.sends++;
    (void)snprintf(fixture.last, sizeof(fixture.last), "%.*s", STR_ARG(json));
    while (fixture.held && !give_up(arg)) {
        const int64_t at_us = clock_wall_us() + 10000;
        const struct timespec at = {at_us / 1000000, at_us % 1000000 * 1000};
        (void)pthread_cond_timedwait(&fixture.changed, &fixture.mutex, &at);
    }
    if (fixture.held || fixture.failures > 0) {
        fixture.failures--;
        code = err_set(err, fixture.held ? ERR_TIMEOUT : fixture.failure, "not now");
    }
    (void)pthread_mutex_unlock(&fixture.mutex);
    return code;
}

static void fake_free(struct span_exporter *exporter) {
    (void)exporter;
    fixture.freed++;
}

static const struct span_exporter_ops fake_ops = {fake_send, fake_free};
static struct span_exporter fake = {&fake_ops};

static enum err_code start(struct err *err) {
    return tracer_start(&(struct tracer_options){.settings = &fixture.settings,
                                                 .service = "test",
                                                 .exporter = &fake,
                                                 .metrics = fixture.metrics},
                        &fixture.tracer, err);
}

static void set_up(void) {
    fixture.metrics = metrics_new();
    fixture.settings = tracing_defaults();
    fixture.settings.export_timeout_ms = 30000;
    fixture.settings.queue_max = QUEUE;
    fixture.settings.batch_max = BATCH;
}

static void tear_down(void) {
    metrics_free(fixture.metrics);
}

TestSuite(tracing, .init = set_up, .fini = tear_down, .timeout = 30);

static uint64_t counted(const char *name, const char *labels) {
    return metric_counter_value(metrics_counter(fixture.metrics, name, labels, ""));
}
static uint64_t dropped(void) {
    return counted("daybook_trace_spans_dropped_total", "reason=\"queue_full\"");
}
static uint64_t exported(void) {
    return counted("daybook_trace_spans_exported_total", "");
}

static void end_one(const char *name) {
    struct trace_context context;
    struct span span;

    cr_assert(tracer_begin(fixture.tracer, NULL, &context));
    span_init(&span, &context, NULL, SPAN_INTERNAL, clock_wall_us());
    span_name(&span, "%s", name);
    tracer_end(fixture.tracer, &span);
}

static bool has_sent(void *arg) {
    (void)pthread_mutex_lock(&fixture.mutex);
    const bool enough = fixture.sends >= *(const int *)arg;
    (void)pthread_mutex_unlock(&fixture.mutex);
    return enough;
}

static void await_sends(int count) {
    cr_assert(eventually(has_sent, &count, 5000));
}

static void release(void) {
    (void)pthread_mutex_lock(&fixture.mutex);
    fixture.held = false;
    (void)pthread_cond_broadcast(&fixture.changed);
    (void)pthread_mutex_unlock(&fixture.mutex);
}

/* --- the queue --- */

Test(tracing, a_full_queue_drops_and_counts_and_nobody_waits) {
    struct err err;

    fixture.held = true;
    cr_assert_eq(start(&err), ERR_OK);
    end_one("first");
    await_sends(1); /* the thread is stuck in the exporter with it */
    const double began = now_seconds();
    for (int i = 0; i < QUEUE + 5; i++) {
        end_one("more");
    }
    cr_assert_lt(now_seconds() - began, 0.5);
    cr_assert_eq(dropped(), 5);
    release();
    tracer_stop(fixture.tracer);
    cr_assert_eq(exported(), 1 + QUEUE);
    cr_assert_eq(fixture.freed, 1);
}

Test(tracing, stopping_sends_what_waits) {
    struct err err;

    fixture.settings.schedule_delay_ms = 60000;
    cr_assert_eq(start(&err), ERR_OK);
    end_one("only");
    tracer_stop(fixture.tracer);
    cr_assert_eq(exported(), 1);
    cr_assert_not_null(strstr(fixture.last, "\"name\":\"only\""));
}

Test(tracing, stopping_does_not_wait_for_a_collector_that_hangs) {
    struct err err;

    fixture.held = true;
    cr_assert_eq(start(&err), ERR_OK);
    end_one("first");
    await_sends(1);
    end_one("second");
    const double began = now_seconds();
    tracer_stop(fixture.tracer);
    cr_assert_lt(now_seconds() - began, TRACER_FLUSH_MS / 1000.0 + 2);
    cr_assert_eq(exported(), 0);
    cr_assert_eq(counted("daybook_trace_spans_dropped_total", "reason=\"not_sent\""), 2);
}

Test(tracing, what_may_pass_is_tried_again) {
    struct err err;

    fixture.failures = 1;
    fixture.failure = ERR_UNAVAILABLE;
    cr_assert_eq(start(&err), ERR_OK);
    end_one("one");
    await_sends(2);
    tracer_stop(fixture.tracer);
    cr_assert_eq(exported(), 1);
}

Test(tracing, what_is_refused_is_dropped_and_counted) {
    struct err err;

    fixture.failures = 1;
    fixture.failure = ERR_INVALID;
    cr_assert_eq(start(&err), ERR_OK);
    end_one("one");
    await_sends(1);
    tracer_stop(fixture.tracer);
    cr_assert_eq(fixture.sends, 1);
    cr_assert_eq(counted("daybook_trace_spans_dropped_total", "reason=\"not_sent\""), 1);
}

/* --- sampling --- */

static const struct trace_context sampled_parent = {{1, 2, 3}, {4, 5, 6}, true};
static const struct trace_context unsampled_parent = {{1, 2, 3}, {4, 5, 6}, false};

static bool begins(const char *sampler, const char *arg, const struct trace_context *parent) {
    struct trace_context out;
    struct err err;

    fixture.settings.sampler = sampler;
    fixture.settings.sampler_arg = arg;
    cr_assert_eq(start(&err), ERR_OK);
    const bool recorded = tracer_begin(fixture.tracer, parent, &out);
    cr_assert_eq(out.sampled, recorded);
    cr_assert(trace_context_is_set(&out));
    if (parent != NULL) {
        cr_assert_arr_eq(out.trace_id, parent->trace_id, TRACE_ID_BYTES);
        cr_assert_neq(memcmp(out.span_id, parent->span_id, SPAN_ID_BYTES), 0);
    }
    tracer_stop(fixture.tracer);
    return recorded;
}

Test(tracing, a_parent_decides_where_the_sampler_says_so) {
    cr_assert(begins("parentbased_always_on", "", NULL));
    cr_assert_not(begins("parentbased_always_on", "", &unsampled_parent));
    cr_assert(begins("parentbased_always_off", "", &sampled_parent));
    cr_assert_not(begins("parentbased_always_off", "", NULL));
    cr_assert(begins("parentbased_traceidratio", "0", &sampled_parent));
    cr_assert_not(begins("parentbased_traceidratio", "0", NULL));
    cr_assert(begins("always_on", "", &unsampled_parent));
    cr_assert_not(begins("always_off", "", &sampled_parent));
    cr_assert(begins("traceidratio", "1", &unsampled_parent));
}

Test(tracing, a_ratio_is_kept_and_falls_on_the_same_traces_everywhere) {
    enum { TRACES = 20000 };
    struct err err;
    struct tracer *first;
    int chosen = 0;

    fixture.settings.sampler = "traceidratio";
    fixture.settings.sampler_arg = "0.25";
    cr_assert_eq(start(&err), ERR_OK);
    first = fixture.tracer;
    cr_assert_eq(start(&err), ERR_OK);
    for (int i = 0; i < TRACES; i++) {
        struct trace_context root;
        struct trace_context below;
        const bool here = tracer_begin(first, NULL, &root);
        chosen += here;
        cr_assert_eq(tracer_begin(fixture.tracer, &root, &below), here);
    }
    cr_assert(chosen > TRACES * 0.22 && chosen < TRACES * 0.28, "%d", chosen);
    tracer_stop(first);
    tracer_stop(fixture.tracer);
}

Test(tracing, ill_formed_settings_are_refused) {
    struct err err;

    fixture.settings.sampler = "traceidratio";
    fixture.settings.sampler_arg = "1.5";
    cr_assert_eq(start(&err), ERR_INVALID);
    fixture.settings.sampler_arg = "much";
    cr_assert_eq(start(&err), ERR_INVALID);
    fixture.settings.sampler_arg = "0.5";
    fixture.settings.resource_attributes = "nothing";
    cr_assert_eq(start(&err), ERR_INVALID);
    cr_assert_eq(fixture.freed, 3, "the exporter was taken each time");
}

/* --- JSON --- */

Test(tracing, the_body_has_otlps_shape) {
    struct span spans[2];
    struct buf resource;
    struct buf body;
    struct err err;

    fixture.settings.resource_attributes = "deployment.environment.name=tests,service.name=other";
    buf_init(&resource, 4096);
    buf_init(&body, 64 * 1024);
    cr_assert_eq(otlp_json_resource(&fixture.settings, "test", &resource, &err), ERR_OK);
    span_init(&spans[0], &sampled_parent, NULL, SPAN_SERVER, INT64_C(1790000000000001));
    span_name(&spans[0], "GET /\"x\"");
    span_put_text(&spans[0], "text", STR("J\xc3\xbcrgen \"q\"\n"));
    span_put_number(&spans[0], "number", INT64_MIN);
    spans[0].end_us = INT64_C(1790000000000000); /* the clock was set back */
    spans[1] = spans[0];
    span_init(&spans[1], &unsampled_parent, &sampled_parent, SPAN_CONSUMER, spans[0].start_us);
    span_name(&spans[1], "x");
    spans[1].failed = true;
    otlp_json_request(buf_str(&resource), spans, 2, &body);
    json_t *json = json_loadb(body.ptr, body.len, JSON_REJECT_DUPLICATES, NULL);
    const char *defect = otlp_check(json);
    cr_assert_null(defect, "%s: %s", defect, body.ptr);
    cr_assert_not_null(strstr(body.ptr, "\"service.name\",\"value\":{\"stringValue\":\"other\"}"));
    cr_assert_not_null(strstr(body.ptr, "\"startTimeUnixNano\":\"1790000000000001000\",\"endTime"
                                        "UnixNano\":\"1790000000000001000\""));
    cr_assert_not_null(strstr(body.ptr, "\"intValue\":\"-9223372036854775808\""));
    cr_assert_not_null(strstr(body.ptr, "\"parentSpanId\":\"0405060000000000\""));
    json_decref(json);
    buf_release(&resource);
    buf_release(&body);
}

Test(tracing, a_span_takes_no_more_than_it_has_room_for) {
    static char longest[2 * SPAN_TEXT_BYTES];
    struct span span;

    memset(longest, 'a', sizeof(longest) - 1);
    memcpy(longest + SPAN_TEXT_BYTES - 1, "\xc3\xbc", 2); /* the end lies inside a character */
    span_init(&span, &sampled_parent, NULL, SPAN_CLIENT, 1);
    span_put_text(&span, "bad", STR("\xff"));
    cr_assert_eq(span.attribute_count, 0);
    span_put_text(&span, "long", str_of(longest, sizeof(longest)));
    cr_assert_eq(span.attributes[0].text_len, SPAN_TEXT_BYTES - 1);
    for (int i = 0; i < 2 * SPAN_ATTRIBUTES_MAX; i++) {
        span_put_number(&span, "n", i);
    }
    cr_assert_eq(span.attribute_count, SPAN_ATTRIBUTES_MAX);
    span_name(&span, "%s", longest);
    cr_assert_eq(strlen(span.name), SPAN_NAME_BYTES - 1);
}
