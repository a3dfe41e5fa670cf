/*
 * Metrics in Prometheus's text exposition format 0.0.4. Values are atomics: updating one takes no
 * lock. Registering takes a mutex and is for start-up or for rare label values (a partition); the
 * registry is bounded. A metric with the same name and labels registered twice is the same metric.
 */
#ifndef DAYBOOK_RUNTIME_METRICS_H
#define DAYBOOK_RUNTIME_METRICS_H

#include <stdint.h>

#include "common/base/buf.h"

enum { METRICS_MAX = 1024, METRICS_BUCKETS_MAX = 24 };

struct metrics;
struct metric_counter;
struct metric_gauge;
struct metric_histogram;

struct metrics *metrics_new(void);
void metrics_free(struct metrics *metrics);

/* name, help: literals. labels: "" or `outcome="accepted",kind="x"`, copied, values escaped by the
 * caller. Never NULL: past METRICS_MAX all further ones share one metric, daybook_metrics_overflow.
 */
struct metric_counter *metrics_counter(struct metrics *metrics, const char *name,
                                       const char *labels, const char *help);
struct metric_gauge *metrics_gauge(struct metrics *metrics, const char *name, const char *labels,
                                   const char *help);
/* Bounds ascending, at most METRICS_BUCKETS_MAX, integers in the metric's base unit times
 * `scale_down`: latencies are observed in microseconds and shown in seconds with scale_down
 * 1000000. */
struct metric_histogram *metrics_histogram(struct metrics *metrics, const char *name,
                                           const char *labels, const char *help,
                                           const int64_t *bounds, size_t bound_count,
                                           int64_t scale_down);
/* The usual bounds for latencies: 100 µs … 10 s, scale_down 1000000. */
struct metric_histogram *metrics_latency(struct metrics *metrics, const char *name,
                                         const char *labels, const char *help);
/* The usual bounds for sizes: 1, 2, 5, 10 … 10000. */
struct metric_histogram *metrics_sizes(struct metrics *metrics, const char *name,
                                       const char *labels, const char *help);

void metric_add(struct metric_counter *counter, uint64_t by);
void metric_set(struct metric_gauge *gauge, int64_t value);
/* For a gauge that several count together. */
void metric_move(struct metric_gauge *gauge, int64_t by);
void metric_set_micros(struct metric_gauge *gauge,
                       int64_t value_us); /* shown in seconds, with decimals */
void metric_observe(struct metric_histogram *histogram, int64_t value);
uint64_t metric_counter_value(const struct metric_counter *counter);
int64_t metric_gauge_value(const struct metric_gauge *gauge);

/* Everything, families together, # HELP and # TYPE once each; also process_* basics (rss, cpu, fds,
 * start time). */
void metrics_render(struct metrics *metrics, struct buf *out);

#endif
