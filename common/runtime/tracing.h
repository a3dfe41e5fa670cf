/*
 * Traces: spans are filled where things happen, kept in a bounded queue and sent by a thread of the
 * tracer's own. Whoever ends a span never waits for the collector: when the queue is full the span
 * is dropped and counted. Without a tracer (NULL: tracing is off) every hook is one branch.
 *
 *   struct trace_context context;
 *   if (tracer_begin(tracer, &parent, &context)) {
 *       struct span span;
 *       span_init(&span, &context, &parent, SPAN_SERVER, started_us);
 *       span_name(&span, "POST %s", route); span_put_text(&span, "http.route", …);
 *       span.end_us = clock_wall_us();
 *       tracer_end(tracer, &span);
 *   }
 *
 * A context is made also for what is not recorded, so that those behind it can follow the decision.
 */
#ifndef DAYBOOK_RUNTIME_TRACING_H
#define DAYBOOK_RUNTIME_TRACING_H

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/base/trace_context.h"
#include "common/config/tracing_settings.h"
#include "common/runtime/metrics.h"

enum { SPAN_ATTRIBUTES_MAX = 12, SPAN_NAME_BYTES = 96, SPAN_TEXT_BYTES = 512 };
/* How long tracer_stop goes on sending what waits. */
enum { TRACER_FLUSH_MS = 3000 };

enum span_kind { /* OTLP's numbers */
                 SPAN_INTERNAL = 1,
                 SPAN_SERVER = 2,
                 SPAN_CLIENT = 3,
                 SPAN_PRODUCER = 4,
                 SPAN_CONSUMER = 5,
};

struct span_attribute {
    const char *key; /* a literal */
    bool is_text;
    int64_t number;
    size_t text_at, text_len; /* in the span's text */
};

/* Holds copies of all but literals. */
struct span {
    struct trace_context context;
    uint8_t parent_id[SPAN_ID_BYTES];
    bool has_parent;
    bool failed;
    enum span_kind kind;
    int64_t start_us, end_us; /* wall clock */
    size_t attribute_count;
    struct span_attribute attributes[SPAN_ATTRIBUTES_MAX];
    size_t text_len;
    char name[SPAN_NAME_BYTES];
    char text[SPAN_TEXT_BYTES];
};

/* `parent` NULL: a root. */
void span_init(struct span *span, const struct trace_context *context,
               const struct trace_context *parent, enum span_kind kind, int64_t start_us);
/* Cut at SPAN_NAME_BYTES. */
void span_name(struct span *span, const char *format, ...) PRINTF_LIKE(2, 3);
/* Beyond the maximum they are left out; text is cut where the span's room ends. Not UTF-8: left
 * out. */
void span_put_text(struct span *span, const char *key, struct str value);
void span_put_number(struct span *span, const char *key, int64_t value);

/* Where batches of spans go; used by the tracer's thread alone. */
struct span_exporter {
    const struct span_exporter_ops *ops;
};
struct span_exporter_ops {
    /* Sends one OTLP request body. ERR_UNAVAILABLE, ERR_TIMEOUT: try again, not before
     * *retry_after_ms (0: not told); anything else: never. Gives up early when `give_up` says so.
     */
    enum err_code (*send)(struct span_exporter *exporter, struct str json, int64_t timeout_ms,
                          bool (*give_up)(void *arg), void *arg, int64_t *retry_after_ms,
                          struct err *err);
    void (*free)(struct span_exporter *exporter);
};

struct tracer_options {
    const struct tracing_settings *settings; /* borrowed while the tracer lives */
    const char *service;                     /* the name, where the settings have none */
    struct span_exporter *exporter;          /* taken, also on failure */
    struct log *log;
    struct metrics *metrics;
};

struct tracer;

/* ERR_INVALID: resource attributes or the sampler's argument are ill-formed. */
MUST_CHECK enum err_code tracer_start(const struct tracer_options *options, struct tracer **out,
                                      struct err *err);
/* Sends what waits, at most TRACER_FLUSH_MS, then frees. NULL is fine. */
void tracer_stop(struct tracer *tracer);

/* A new span below `parent` (NULL or unset: a root, a new trace). False: not to be recorded, *out
 * carries that on. The tracer must not be NULL. */
MUST_CHECK bool tracer_begin(struct tracer *tracer, const struct trace_context *parent,
                             struct trace_context *out);
/* A span below one of this process: recorded as its parent is. */
struct trace_context tracer_child(const struct trace_context *parent);
/* Copies it to the queue, or drops it. From any thread. */
void tracer_end(struct tracer *tracer, const struct span *span);

#endif
