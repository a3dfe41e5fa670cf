#include "common/runtime/metrics.h"

#include <assert.h>
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

enum metric_kind { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric_counter {
    _Atomic uint64_t value;
};

struct metric_gauge {
    _Atomic int64_t value;
    atomic_bool micros;
};

struct metric_histogram {
    int64_t bounds[METRICS_BUCKETS_MAX];
    size_t bound_count;
    int64_t scale_down;
    _Atomic uint64_t buckets[METRICS_BUCKETS_MAX + 1];
    _Atomic int64_t sum;
};

struct metric {
    const char *name;
    char *labels;
    const char *help;
    enum metric_kind kind;
    union {
        struct metric_counter *counter;
        struct metric_gauge *gauge;
        struct metric_histogram *histogram;
    } as;
};

struct metrics {
    pthread_mutex_t lock; /* guards the list, not the values */
    struct metric list[METRICS_MAX];
    size_t count;
    int64_t started_at_us;
    struct metric_counter overflow_counter;
    struct metric_gauge overflow_gauge;
    struct metric_histogram overflow_histogram;
};

struct metrics *metrics_new(void) {
    struct metrics *metrics = mem_zalloc(sizeof(*metrics));

    pthread_mutex_init(&metrics->lock, NULL);
    metrics->started_at_us = clock_wall_us();
    metrics->overflow_histogram.scale_down = 1;
    return metrics;
}

void metrics_free(struct metrics *metrics) {
    if (metrics == NULL) {
        return;
    }
    for (size_t i = 0; i < metrics->count; i++) {
        mem_free(metrics->list[i].labels);
        mem_free(metrics->list[i].as.counter);
    }
    pthread_mutex_destroy(&metrics->lock);
    mem_free(metrics);
}

/* Finds or adds; NULL when full. The caller holds the lock. A name has one kind. */
static struct metric *find_or_add(struct metrics *metrics, const char *name, const char *labels,
                                  const char *help, enum metric_kind kind, size_t bytes) {
    for (size_t i = 0; i < metrics->count; i++) {
        struct metric *metric = &metrics->list[i];
        if (strcmp(metric->name, name) == 0 && strcmp(metric->labels, labels) == 0) {
            assert(metric->kind == kind);
            return metric;
        }
    }
    if (metrics->count == METRICS_MAX) {
        return NULL;
    }
    struct metric *metric = &metrics->list[metrics->count++];
    *metric =
        (struct metric){.name = name, .labels = mem_strdup(labels), .help = help, .kind = kind};
    metric->as.counter = mem_zalloc(bytes);
    return metric;
}

struct metric_counter *metrics_counter(struct metrics *metrics, const char *name,
                                       const char *labels, const char *help) {
    pthread_mutex_lock(&metrics->lock);
    struct metric *metric =
        find_or_add(metrics, name, labels, help, METRIC_COUNTER, sizeof(struct metric_counter));
    pthread_mutex_unlock(&metrics->lock);
    return metric != NULL ? metric->as.counter : &metrics->overflow_counter;
}

struct metric_gauge *metrics_gauge(struct metrics *metrics, const char *name, const char *labels,
                                   const char *help) {
    pthread_mutex_lock(&metrics->lock);
    struct metric *metric =
        find_or_add(metrics, name, labels, help, METRIC_GAUGE, sizeof(struct metric_gauge));
    pthread_mutex_unlock(&metrics->lock);
    return metric != NULL ? metric->as.gauge : &metrics->overflow_gauge;
}

struct metric_histogram *metrics_histogram(struct metrics *metrics, const char *name,
                                           const char *labels, const char *help,
                                           const int64_t *bounds, size_t bound_count,
                                           int64_t scale_down) {
    assert(bound_count > 0 && bound_count <= METRICS_BUCKETS_MAX && scale_down > 0);
    pthread_mutex_lock(&metrics->lock);
    struct metric *metric =
        find_or_add(metrics, name, labels, help, METRIC_HISTOGRAM, sizeof(struct metric_histogram));
    if (metric != NULL && metric->as.histogram->bound_count == 0) {
        memcpy(metric->as.histogram->bounds, bounds, bound_count * sizeof(bounds[0]));
        metric->as.histogram->bound_count = bound_count;
        metric->as.histogram->scale_down = scale_down;
    }
    pthread_mutex_unlock(&metrics->lock);
    return metric != NULL ? metric->as.histogram : &metrics->overflow_histogram;
}

struct metric_histogram *metrics_latency(struct metrics *metrics, const char *name,
                                         const char *labels, const char *help) {
    static const int64_t bounds[] = {100,     250,     500,     1000,    2500,   5000,
                                     10000,   25000,   50000,   100000,  250000, 500000,
                                     1000000, 2500000, 5000000, 10000000};

    return metrics_histogram(metrics, name, labels, help, bounds, ARRAY_LEN(bounds), 1000000);
}

struct metric_histogram *metrics_sizes(struct metrics *metrics, const char *name,
                                       const char *labels, const char *help) {
    static const int64_t bounds[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000};

    return metrics_histogram(metrics, name, labels, help, bounds, ARRAY_LEN(bounds), 1);
}

void metric_add(struct metric_counter *counter, uint64_t by) {
    atomic_fetch_add_explicit(&counter->value, by, memory_order_relaxed);
}

void metric_set(struct metric_gauge *gauge, int64_t value) {
    atomic_store_explicit(&gauge->value, value, memory_order_relaxed);
}

void metric_move(struct metric_gauge *gauge, int64_t by) {
    atomic_fetch_add_explicit(&gauge->value, by, memory_order_relaxed);
}

void metric_set_micros(struct metric_gauge *gauge, int64_t value_us) {
    atomic_store_explicit(&gauge->micros, true, memory_order_relaxed);
    metric_set(gauge, value_us);
}

void metric_observe(struct metric_histogram *histogram, int64_t value) {
    size_t i = 0;

    while (i < histogram->bound_count && value > histogram->bounds[i]) {
        i++;
    }
    atomic_fetch_add_explicit(&histogram->buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&histogram->sum, value, memory_order_relaxed);
}

uint64_t metric_counter_value(const struct metric_counter *counter) {
    return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

int64_t metric_gauge_value(const struct metric_gauge *gauge) {
    return atomic_load_explicit(&gauge->value, memory_order_relaxed);
}

/* value / scale as an exact decimal. */
static void put_scaled(struct buf *out, int64_t value, int64_t scale) {
    const int64_t whole = value / scale;
    int64_t rest = value % scale;

    if (value < 0) {
        buf_put_char(out, '-');
        rest = -rest;
    }
    buf_put_i64(out, whole < 0 ? -whole : whole);
    if (rest == 0) {
        return;
    }
    buf_put_char(out, '.');
    for (int64_t unit = scale / 10; rest > 0 && unit > 0; unit /= 10) {
        buf_put_char(out, (char)('0' + rest / unit));
        rest %= unit;
    }
}

static void put_name(struct buf *out, const char *name, const char *suffix, const char *labels,
                     const char *more) {
    buf_printf(out, "%s%s", name, suffix);
    if (labels[0] != '\0' || more[0] != '\0') {
        buf_printf(out, "{%s%s%s}", labels, labels[0] != '\0' && more[0] != '\0' ? "," : "", more);
    }
    buf_put_char(out, ' ');
}

static void render_histogram(const struct metric *metric, struct buf *out) {
    const struct metric_histogram *h = metric->as.histogram;
    uint64_t total = 0;

    for (size_t i = 0; i <= h->bound_count; i++) {
        struct buf le;
        buf_init(&le, 64);
        buf_put_text(&le, "le=\"");
        if (i < h->bound_count) {
            put_scaled(&le, h->bounds[i], h->scale_down);
        } else {
            buf_put_text(&le, "+Inf");
        }
        buf_put_char(&le, '"');
        total += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
        put_name(out, metric->name, "_bucket", metric->labels, le.ptr);
        buf_printf(out, "%" PRIu64 "\n", total);
        buf_release(&le);
    }
    put_name(out, metric->name, "_sum", metric->labels, "");
    put_scaled(out, atomic_load_explicit(&h->sum, memory_order_relaxed), h->scale_down);
    buf_put_char(out, '\n');
    put_name(out, metric->name, "_count", metric->labels, "");
    buf_printf(out, "%" PRIu64 "\n", total);
}

static void render_metric(const struct metric *metric, struct buf *out) {
    switch (metric->kind) {
    case METRIC_COUNTER:
        put_name(out, metric->name, "", metric->labels, "");
        buf_printf(out, "%" PRIu64 "\n", metric_counter_value(metric->as.counter));
        break;
    case METRIC_GAUGE:
        put_name(out, metric->name, "", metric->labels, "");
        put_scaled(out, metric_gauge_value(metric->as.gauge),
                   atomic_load(&metric->as.gauge->micros) ? 1000000 : 1);
        buf_put_char(out, '\n');
        break;
    case METRIC_HISTOGRAM:
        render_histogram(metric, out);
        break;
    }
}

static int64_t open_descriptors(void) {
    DIR *dir = opendir("/proc/self/fd");
    int64_t count = 0;

    if (dir == NULL) {
        return 0;
    }
    while (readdir(dir) != NULL) {
        count++;
    }
    (void)closedir(dir);
    return count - 3; /* ".", ".." and the directory itself */
}

static int64_t resident_bytes(void) {
    FILE *file = fopen("/proc/self/statm", "re");
    int64_t pages = 0;
    char line[128];

    if (file == NULL) {
        return 0;
    }
    if (fgets(line, sizeof(line), file) != NULL) {
        const char *second = strchr(line, ' ');
        const size_t len = second != NULL ? strspn(second + 1, "0123456789") : 0;
        if (len > 0 && !str_to_i64(str_of(second + 1, len), &pages)) {
            pages = 0;
        }
    }
    (void)fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static void put_basic(struct buf *out, const char *name, const char *type, const char *help,
                      int64_t value, int64_t scale) {
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s ", name, help, name, type, name);
    put_scaled(out, value, scale);
    buf_put_char(out, '\n');
}

static void render_process(const struct metrics *metrics, struct buf *out) {
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    put_basic(out, "process_cpu_seconds_total", "counter", "CPU time used, user and system.",
              (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 + usage.ru_utime.tv_usec +
                  usage.ru_stime.tv_usec,
              1000000);
    put_basic(out, "process_resident_memory_bytes", "gauge", "Resident memory.", resident_bytes(),
              1);
    put_basic(out, "process_open_fds", "gauge", "Open file descriptors.", open_descriptors(), 1);
    put_basic(out, "process_start_time_seconds", "gauge", "Start time since the epoch.",
              metrics->started_at_us, 1000000);
}

void metrics_render(struct metrics *metrics, struct buf *out) {
    static const char *const types[] = {"counter", "gauge", "histogram"};

    pthread_mutex_lock(&metrics->lock);
    for (size_t i = 0; i < metrics->count; i++) {
        const struct metric *first = &metrics->list[i];
        bool seen = false;
        for (size_t j = 0; j < i && !seen; j++) {
            seen = strcmp(metrics->list[j].name, first->name) == 0;
        }
        if (seen) {
            continue;
        }
        buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", first->name, first->help, first->name,
                   types[first->kind]);
        for (size_t j = i; j < metrics->count; j++) {
            if (strcmp(metrics->list[j].name, first->name) == 0) {
                render_metric(&metrics->list[j], out);
            }
        }
    }
    pthread_mutex_unlock(&metrics->lock);
    render_process(metrics, out);
}
