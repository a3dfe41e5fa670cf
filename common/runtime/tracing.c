/*
 * Invariants
 *  1. The mutex guards ring, first, count, stopping; nothing but copying is done under it.
 *  2. The batch, its JSON and the exporter belong to the tracer's thread.
 */
#include "common/runtime/tracing.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/runtime/backoff.h"
#include "common/runtime/otlp_json.h"

enum { BODY_BYTES_MAX = 16 * 1024 * 1024, RESOURCE_BYTES_MAX = 64 * 1024 };
enum { RETRY_FIRST_MS = 500, RETRY_CAP_MS = 5000 };

struct sampler {
    bool by_parent;    /* where there is one */
    uint64_t below;    /* of those without: a trace whose low 63 bits are below is recorded */
    bool all, nothing; /* or these */
};

struct tracer {
    struct tracer_options options;
    struct sampler sampler;
    struct buf resource;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct span *ring; /* queue_max */
    size_t first, count, queue_max;
    bool stopping;
    _Atomic int64_t give_up_at_us; /* monotonic; 0: not stopping */

    struct span *batch; /* batch_max */
    size_t batch_max;
    struct buf body;
    bool failing; /* as last logged */

    struct metric_counter *exported;
    struct metric_counter *dropped_full;
    struct metric_counter *dropped_failed;
    struct metric_gauge *waiting;
};

/* --- spans --- */

void span_init(struct span *span, const struct trace_context *context,
               const struct trace_context *parent, enum span_kind kind, int64_t start_us) {
    span->context = *context;
    span->has_parent = parent != NULL && trace_context_is_set(parent);
    if (span->has_parent) {
        memcpy(span->parent_id, parent->span_id, SPAN_ID_BYTES);
    }
    span->failed = false;
    span->kind = kind;
    span->start_us = start_us;
    span->end_us = start_us;
    span->attribute_count = 0;
    span->text_len = 0;
    span->name[0] = '\0';
}

void span_name(struct span *span, const char *format, ...) {
    va_list args;

    va_start(args, format);
    (void)vsnprintf(span->name, sizeof(span->name), format, args);
    va_end(args);
}

void span_put_text(struct span *span, const char *key, struct str value) {
    const size_t room = SPAN_TEXT_BYTES - span->text_len;
    size_t len = value.len;

    if (span->attribute_count == SPAN_ATTRIBUTES_MAX || !str_is_utf8(value)) {
        return;
    }
    if (len > room) {
        len = room;
        while (len > 0 && ((unsigned char)value.ptr[len] & 0xc0) == 0x80) {
            len--; /* not inside a character */
        }
    }
    if (len > 0) {
        memcpy(span->text + span->text_len, value.ptr, len);
    }
    span->attributes[span->attribute_count++] = (struct span_attribute){
        .key = key, .is_text = true, .text_at = span->text_len, .text_len = len};
    span->text_len += len;
}

void span_put_number(struct span *span, const char *key, int64_t value) {
    if (span->attribute_count < SPAN_ATTRIBUTES_MAX) {
        span->attributes[span->attribute_count++] =
            (struct span_attribute){.key = key, .number = value};
    }
}

/* --- contexts --- */

static void fill_random(uint8_t *bytes, size_t count) {
    /* Up to 256 bytes are given whole, once the system has booted. */
    (void)!getrandom(bytes, count, 0);
    bytes[0] |= 1; /* an id is not zero */
}

/* The same traces in every process: the decision is made of the trace's id alone. */
static bool is_chosen(const struct sampler *sampler, const uint8_t *trace_id) {
    uint64_t low = 0;

    if (sampler->all || sampler->nothing) {
        return sampler->all;
    }
    for (size_t i = 8; i < TRACE_ID_BYTES; i++) {
        low = low << 8 | trace_id[i];
    }
    return low >> 1 < sampler->below;
}

bool tracer_begin(struct tracer *tracer, const struct trace_context *parent,
                  struct trace_context *out) {
    const struct sampler *sampler = &tracer->sampler;
    const bool root = parent == NULL || !trace_context_is_set(parent);

    if (root) {
        fill_random(out->trace_id, TRACE_ID_BYTES);
    } else {
        memcpy(out->trace_id, parent->trace_id, TRACE_ID_BYTES);
    }
    out->sampled =
        !root && sampler->by_parent ? parent->sampled : is_chosen(sampler, out->trace_id);
    fill_random(out->span_id, SPAN_ID_BYTES);
    return out->sampled;
}

struct trace_context tracer_child(const struct trace_context *parent) {
    struct trace_context child = *parent;

    fill_random(child.span_id, SPAN_ID_BYTES);
    return child;
}

static enum err_code parse_sampler(const struct tracing_settings *settings, struct sampler *out,
                                   struct err *err) {
    static const char parent_prefix[] = "parentbased_";
    struct str name = str_from(settings->sampler);
    const char *arg = settings->sampler_arg[0] != '\0' ? settings->sampler_arg : "1";
    char *end = NULL;

    *out = (struct sampler){.by_parent = str_starts_with(name, str_from(parent_prefix))};
    if (out->by_parent) {
        name = str_of(name.ptr + sizeof(parent_prefix) - 1, name.len - sizeof(parent_prefix) + 1);
    }
    out->all = str_eq(name, STR("always_on"));
    out->nothing = str_eq(name, STR("always_off"));
    if (out->all || out->nothing) {
        return ERR_OK;
    }
    const double share = strtod(arg, &end);
    if (*end != '\0' || !(share >= 0 && share <= 1)) {
        return err_set(err, ERR_INVALID, "OTEL_TRACES_SAMPLER_ARG: must be 0 to 1, is \"%s\"", arg);
    }
    out->all = share >= 1;
    out->below = out->all ? 0 : (uint64_t)(share * 9223372036854775808.0);
    return ERR_OK;
}

/* --- the queue --- */

void tracer_end(struct tracer *tracer, const struct span *span) {
    (void)pthread_mutex_lock(&tracer->mutex);
    const bool full = tracer->count == tracer->queue_max || tracer->stopping;
    if (!full) {
        tracer->ring[(tracer->first + tracer->count++) % tracer->queue_max] = *span;
        if (tracer->count == tracer->batch_max) {
            (void)pthread_cond_signal(&tracer->changed);
        }
    }
    (void)pthread_mutex_unlock(&tracer->mutex);
    if (full) {
        metric_add(tracer->dropped_full, 1);
    }
}

/* Waits until `until_us` on the monotonic clock, or for a signal. The mutex is held. */
static bool wait_until(struct tracer *tracer, int64_t until_us) {
    const struct timespec at = {until_us / 1000000, (until_us % 1000000) * 1000};

    return pthread_cond_timedwait(&tracer->changed, &tracer->mutex, &at) != ETIMEDOUT;
}

/* Waits for a full batch, for what has waited long enough, or for the end. Returns how many spans
 * are in the batch; 0: it is the end. */
static size_t take_batch(struct tracer *tracer) {
    const int64_t delay_us = tracer->options.settings->schedule_delay_ms * 1000;
    int64_t until_us = clock_monotonic_us() + delay_us;

    (void)pthread_mutex_lock(&tracer->mutex);
    while (!tracer->stopping && tracer->count < tracer->batch_max) {
        if (!wait_until(tracer, until_us)) {
            if (tracer->count > 0) {
                break;
            }
            until_us = clock_monotonic_us() + delay_us;
        }
    }
    const size_t count = tracer->count < tracer->batch_max ? tracer->count : tracer->batch_max;
    for (size_t i = 0; i < count; i++) {
        tracer->batch[i] = tracer->ring[(tracer->first + i) % tracer->queue_max];
    }
    tracer->first = (tracer->first + count) % tracer->queue_max;
    tracer->count -= count;
    metric_set(tracer->waiting, (int64_t)tracer->count);
    (void)pthread_mutex_unlock(&tracer->mutex);
    return count;
}

/* --- sending --- */

static bool give_up(void *arg) {
    const struct tracer *tracer = arg;
    const int64_t at_us = atomic_load(&tracer->give_up_at_us);

    return at_us != 0 && clock_monotonic_us() >= at_us;
}

/* False: no time is left for another try. */
static bool pause_before_retry(struct tracer *tracer, int64_t wait_ms, int64_t deadline_us) {
    int64_t until_us = clock_monotonic_us() + wait_ms * 1000;

    if (until_us >= deadline_us) {
        return false;
    }
    (void)pthread_mutex_lock(&tracer->mutex);
    while (clock_monotonic_us() < until_us && !tracer->stopping) {
        (void)wait_until(tracer, until_us);
    }
    const bool stopping = tracer->stopping;
    (void)pthread_mutex_unlock(&tracer->mutex);
    if (stopping) { /* the end: no more patience, but no hammering either */
        const struct timespec brief = {.tv_nsec = 100000000};
        (void)nanosleep(&brief, NULL);
    }
    return !give_up(tracer);
}

static enum err_code send_batch(struct tracer *tracer, struct err *err) {
    struct span_exporter *exporter = tracer->options.exporter;
    const struct tracing_settings *settings = tracer->options.settings;
    const int64_t deadline_us = clock_monotonic_us() + settings->export_timeout_ms * 1000;
    struct backoff backoff;

    backoff_init(&backoff, RETRY_FIRST_MS, RETRY_CAP_MS);
    for (;;) {
        int64_t wait_ms = 0;
        const enum err_code code = exporter->ops->send(
            exporter, buf_str(&tracer->body), settings->timeout_ms, give_up, tracer, &wait_ms, err);
        if (code == ERR_OK || !err_retriable(code)) {
            return code;
        }
        const int64_t own_ms = backoff_next_ms(&backoff);
        if (!pause_before_retry(tracer, wait_ms > own_ms ? wait_ms : own_ms, deadline_us)) {
            return code;
        }
    }
}

static void export_batch(struct tracer *tracer, size_t count) {
    struct log *log = tracer->options.log;
    struct err err = {0};

    buf_clear(&tracer->body);
    otlp_json_request(buf_str(&tracer->resource), tracer->batch, count, &tracer->body);
    const enum err_code code =
        buf_failed(&tracer->body)
            ? err_set(&err, ERR_LIMIT, "a batch over %d bytes", BODY_BYTES_MAX)
            : send_batch(tracer, &err);
    metric_add(code == ERR_OK ? tracer->exported : tracer->dropped_failed, count);
    if (code != ERR_OK && !tracer->failing) { /* once, until it works again */
        log_warn(log, log_event("traces.not_sent"), log_i64("spans", (int64_t)count),
                 log_err(&err));
    } else if (code == ERR_OK && tracer->failing) {
        log_info(log, log_event("traces.sent_again"));
    }
    tracer->failing = code != ERR_OK;
}

static void *tracer_main(void *arg) {
    struct tracer *tracer = arg;
    size_t count;

    while ((count = take_batch(tracer)) > 0) {
        export_batch(tracer, count);
    }
    return NULL;
}

/* --- life --- */

static void release(struct tracer *tracer) {
    tracer->options.exporter->ops->free(tracer->options.exporter);
    (void)pthread_cond_destroy(&tracer->changed);
    (void)pthread_mutex_destroy(&tracer->mutex);
    buf_release(&tracer->resource);
    buf_release(&tracer->body);
    mem_free(tracer->ring);
    mem_free(tracer->batch);
    mem_free(tracer);
}

static void register_metrics(struct tracer *tracer) {
    static const char dropped[] = "daybook_trace_spans_dropped_total";
    static const char dropped_help[] = "Spans that were recorded and not sent.";
    struct metrics *metrics = tracer->options.metrics;

    tracer->exported =
        metrics_counter(metrics, "daybook_trace_spans_exported_total", "", "Spans sent.");
    tracer->dropped_full = metrics_counter(metrics, dropped, "reason=\"queue_full\"", dropped_help);
    tracer->dropped_failed = metrics_counter(metrics, dropped, "reason=\"not_sent\"", dropped_help);
    tracer->waiting = metrics_gauge(metrics, "daybook_trace_spans_waiting", "",
                                    "Spans that wait to be sent, after the last batch.");
}

enum err_code tracer_start(const struct tracer_options *options, struct tracer **out,
                           struct err *err) {
    const struct tracing_settings *settings = options->settings;
    struct tracer *tracer = mem_zalloc(sizeof(*tracer));
    pthread_condattr_t monotonic;

    tracer->options = *options;
    tracer->queue_max = (size_t)settings->queue_max;
    tracer->batch_max = (size_t)(settings->batch_max < settings->queue_max ? settings->batch_max
                                                                           : settings->queue_max);
    tracer->ring = mem_array(tracer->queue_max, sizeof(tracer->ring[0]));
    tracer->batch = mem_array(tracer->batch_max, sizeof(tracer->batch[0]));
    buf_init(&tracer->resource, RESOURCE_BYTES_MAX);
    buf_init(&tracer->body, BODY_BYTES_MAX);
    (void)pthread_mutex_init(&tracer->mutex, NULL);
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&tracer->changed, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    register_metrics(tracer);
    enum err_code code = parse_sampler(settings, &tracer->sampler, err);
    if (code == ERR_OK) {
        code = otlp_json_resource(settings, options->service, &tracer->resource, err);
    }
    if (code == ERR_OK && pthread_create(&tracer->thread, NULL, tracer_main, tracer) != 0) {
        code = err_set(err, ERR_INTERNAL, "the tracer's thread can't be started");
    }
    if (code != ERR_OK) {
        release(tracer);
        return code;
    }
    *out = tracer;
    return ERR_OK;
}

void tracer_stop(struct tracer *tracer) {
    if (tracer == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&tracer->mutex);
    tracer->stopping = true;
    atomic_store(&tracer->give_up_at_us, clock_monotonic_us() + TRACER_FLUSH_MS * INT64_C(1000));
    (void)pthread_cond_broadcast(&tracer->changed);
    (void)pthread_mutex_unlock(&tracer->mutex);
    (void)pthread_join(tracer->thread, NULL);
    release(tracer);
}
