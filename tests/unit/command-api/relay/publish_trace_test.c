/* Which delivery ends which span. */
#include "command-api/relay/publish_trace.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../support/tracing_defaults.h"
#include "common/base/clock.h"

static struct {
    struct tracing_settings settings;
    struct metrics *metrics;
    struct tracer *tracer;
    struct publish_trace *trace;
    char sent[256 * 1024]; /* all bodies */
} fixture;

static enum err_code keep(struct span_exporter *exporter, struct str json, int64_t timeout_ms,
                          bool (*give_up)(void *arg), void *arg, int64_t *retry_after_ms,
                          struct err *err) {
    const size_t len = strlen(fixture.sent);

    (void)exporter;
    (void)timeout_ms;
    (void)give_up;
    (void)arg;
    (void)retry_after_ms;
    (void)err;
    (void)snprintf(fixture.sent + len, sizeof(fixture.sent) - len, "%.*s", STR_ARG(json));
    return ERR_OK;
}

static void forget(struct span_exporter *exporter) {
    (void)exporter;
}

static const struct span_exporter_ops ops = {keep, forget};
static struct span_exporter exporter = {&ops};

static void set_up(void) {
    struct err err;

    fixture.metrics = metrics_new();
    fixture.settings = tracing_defaults();
    fixture.settings.schedule_delay_ms = 60000;
    fixture.settings.export_timeout_ms = 1000;
    fixture.settings.queue_max = PUBLISH_TRACES_MAX + 10;
    fixture.settings.batch_max = PUBLISH_TRACES_MAX + 10;
    cr_assert_eq(tracer_start(&(struct tracer_options){.settings = &fixture.settings,
                                                       .service = "relay",
                                                       .exporter = &exporter,
                                                       .metrics = fixture.metrics},
                              &fixture.tracer, &err),
                 ERR_OK);
    fixture.trace = publish_trace_new(fixture.tracer, "events");
}

static void tear_down(void) {
    publish_trace_free(fixture.trace);
    metrics_free(fixture.metrics);
}

TestSuite(publish_trace, .init = set_up, .fini = tear_down, .timeout = 30);

static bool send(int32_t partition, int64_t version, bool sampled, int64_t age_us) {
    const struct recorded_event event = {
        .stream_id = STR("s"),
        .version = version,
        .event_type = STR("E"),
        .traceparent = sampled ? STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
                               : STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"),
        .recorded_at_us = clock_wall_us() - age_us,
    };
    char own[TRACEPARENT_BYTES];
    const bool traced = publish_trace_begin(fixture.trace, &event, own);

    if (traced) {
        cr_assert_eq(strncmp(own, "00-4bf92f3577b34da6a3ce929d0e0e4736-", 36), 0);
        cr_assert_null(strstr(own, "00f067aa0ba902b7"));
    }
    publish_trace_sent(fixture.trace, partition);
    return traced;
}

/* The offset that the span of this version got; -1: it was not sent. */
static long offset_of(int64_t version) {
    char text[128];

    (void)snprintf(text, sizeof(text),
                   "{\"key\":\"daybook.version\",\"value\":{\"intValue\":\"%d\"}}", (int)version);
    const char *span = strstr(fixture.sent, text);
    const char *offset = span != NULL ? strstr(span, "messaging.kafka.offset") : NULL;
    return offset != NULL
               ? strtol(offset + strlen("messaging.kafka.offset\",\"value\":{\"intValue\":\""),
                        NULL, 10)
               : -1;
}

Test(publish_trace, each_delivery_ends_the_span_of_its_own_record) {
    cr_assert(send(1, 1, true, 0));
    cr_assert_not(send(1, 2, false, 0));
    cr_assert(send(2, 3, true, 0));
    cr_assert(send(1, 4, true, 0));
    publish_trace_delivered(fixture.trace, 1, 100);
    publish_trace_delivered(fixture.trace, 1, 101);
    publish_trace_delivered(fixture.trace, 1, 102);
    publish_trace_delivered(fixture.trace, 2, 200);
    tracer_stop(fixture.tracer);
    cr_assert_eq(offset_of(1), 100);
    cr_assert_eq(offset_of(2), -1);
    cr_assert_eq(offset_of(3), 200);
    cr_assert_eq(offset_of(4), 102);
}

Test(publish_trace, what_was_on_its_way_before_a_reset_is_forgotten) {
    cr_assert(send(1, 1, true, 0));
    publish_trace_reset(fixture.trace);
    cr_assert(send(1, 2, true, 0));
    publish_trace_delivered(fixture.trace, 1, 100);
    tracer_stop(fixture.tracer);
    cr_assert_eq(offset_of(1), -1);
    cr_assert_eq(offset_of(2), 100);
}

Test(publish_trace, history_that_is_caught_up_with_has_no_spans) {
    cr_assert_not(send(1, 1, true, PUBLISH_TRACE_AGE_MAX_US + 1000000));
    tracer_stop(fixture.tracer);
}

Test(publish_trace, is_bounded_and_its_room_is_used_again) {
    for (int i = 0; i < PUBLISH_TRACES_MAX; i++) {
        cr_assert(send(i % 6, i, true, 0));
    }
    cr_assert_not(send(0, 9999, true, 0));
    for (int i = 0; i < 6; i++) {
        publish_trace_delivered(fixture.trace, i, i);
    }
    cr_assert(send(0, 10000, true, 0));
    tracer_stop(fixture.tracer);
}
