#include "projector/worker.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/runtime/backoff.h"

enum { IDLE_POLL_MS = 200 };

struct partition {
    bool assigned;
    int64_t next;             /* first offset not applied */
    int64_t last_recorded_us; /* of the newest event applied */
    struct metric_gauge *lag_events;
    struct metric_gauge *lag_seconds;
};

struct worker {
    struct worker_options options;
    pthread_t thread;
    struct partition partitions[CONSUMER_PARTITIONS_MAX];
    struct consumed_record *batch;   /* batch_max, in order of arrival */
    struct consumed_record *ordered; /* one partition's */
    size_t batch_count;
    int64_t lag_shown_at_us;
};

/* --- assignment --- */

static int64_t on_assigned(void *arg, int32_t partition) {
    struct worker *worker = arg;
    struct partition *p = &worker->partitions[partition];
    struct err err = {0};
    int64_t offset = 0;
    char labels[128];

    if (engine_begin_partition(worker->options.engine, partition, &offset, &err) != ERR_OK) {
        log_error(worker->options.log, log_event("partition.not_begun"),
                  log_i64("partition", partition), log_err(&err));
    }
    (void)snprintf(labels, sizeof(labels), "projection=\"%s\",partition=\"%" PRId32 "\"",
                   worker->options.projection->name, partition);
    p->lag_events = metrics_gauge(worker->options.metrics, "daybook_projector_lag_events", labels,
                                  "Records in the topic that are not applied yet.");
    p->lag_seconds = metrics_gauge(worker->options.metrics, "daybook_projector_lag_seconds", labels,
                                   "Age of the newest event applied, while there is a lag.");
    p->assigned = true;
    p->next = offset;
    p->last_recorded_us = clock_wall_us();
    return offset;
}

static void drop_buffered(struct worker *worker, int32_t partition) {
    size_t kept = 0;

    for (size_t i = 0; i < worker->batch_count; i++) {
        if (worker->batch[i].partition == partition) {
            worker->options.consumer->ops->release(worker->options.consumer, &worker->batch[i]);
        } else {
            worker->batch[kept++] = worker->batch[i];
        }
    }
    worker->batch_count = kept;
}

static void on_revoked(void *arg, int32_t partition) {
    struct worker *worker = arg;
    struct partition *p = &worker->partitions[partition];

    drop_buffered(worker, partition);
    if (p->assigned) {
        metric_set(p->lag_events, 0);
        metric_set_micros(p->lag_seconds, 0);
    }
    p->assigned = false;
    log_info(worker->options.log, log_event("partition.revoked"),
             log_cstr("projection", worker->options.projection->name),
             log_i64("partition", partition));
}

/* --- lag --- */

static void show_lag(struct worker *worker) {
    const int64_t now_us = clock_monotonic_us();
    struct event_consumer *consumer = worker->options.consumer;

    if (now_us - worker->lag_shown_at_us < 200000) {
        return;
    }
    worker->lag_shown_at_us = now_us;
    for (int32_t i = 0; i < CONSUMER_PARTITIONS_MAX; i++) {
        struct partition *p = &worker->partitions[i];
        if (!p->assigned) {
            continue;
        }
        const int64_t end = consumer->ops->end_offset(consumer, i);
        const int64_t lag = end > p->next ? end - p->next : 0;
        metric_set(p->lag_events, lag);
        metric_set_micros(p->lag_seconds, lag > 0 ? clock_wall_us() - p->last_recorded_us : 0);
    }
}

/* --- working --- */

static enum err_code begin_anew(struct worker *worker, int32_t partition, struct err *err) {
    struct partition *p = &worker->partitions[partition];
    int64_t offset = 0;
    const enum err_code code =
        engine_begin_partition(worker->options.engine, partition, &offset, err);

    if (code != ERR_OK) {
        return code;
    }
    p->next = offset;
    return worker->options.consumer->ops->reposition(worker->options.consumer, partition, offset,
                                                     err);
}

/* Applies one partition's records of the batch. */
static enum err_code apply_partition(struct worker *worker, int32_t partition, size_t count,
                                     struct err *err) {
    struct event_consumer *consumer = worker->options.consumer;
    enum err_code code =
        engine_apply(worker->options.engine, partition, worker->ordered, count, err);

    if (code == ERR_OK) {
        struct partition *p = &worker->partitions[partition];
        p->next = worker->ordered[count - 1].offset + 1;
        p->last_recorded_us = worker->ordered[count - 1].event.recorded_at_us;
        consumer->ops->commit_hint(consumer, partition, p->next);
    } else if (code == ERR_FENCED) {
        code = begin_anew(worker, partition, err);
    }
    return code;
}

static enum err_code apply_batch(struct worker *worker, struct err *err) {
    struct event_consumer *consumer = worker->options.consumer;
    enum err_code code = ERR_OK;

    while (worker->batch_count > 0 && code == ERR_OK) {
        const int32_t partition = worker->batch[0].partition;
        size_t mine = 0;
        size_t kept = 0;
        for (size_t i = 0; i < worker->batch_count; i++) {
            if (worker->batch[i].partition == partition) {
                worker->ordered[mine++] = worker->batch[i];
            } else {
                worker->batch[kept++] = worker->batch[i];
            }
        }
        worker->batch_count = kept;
        code = apply_partition(worker, partition, mine, err);
        for (size_t i = 0; i < mine; i++) {
            consumer->ops->release(consumer, &worker->ordered[i]);
        }
    }
    return code;
}

/* Takes what is there, up to batch_max; waits only for the first. */
static enum err_code gather(struct worker *worker, struct err *err) {
    struct event_consumer *consumer = worker->options.consumer;
    int64_t wait_ms = IDLE_POLL_MS;

    while (worker->batch_count < worker->options.batch_max) {
        struct consumed_record *slot = &worker->batch[worker->batch_count];
        const enum err_code code = consumer->ops->poll(consumer, wait_ms, slot, err);
        if (code == ERR_TIMEOUT) {
            return ERR_OK;
        }
        if (code != ERR_OK) {
            return code;
        }
        /* A callback within poll may have dropped records before this one. */
        struct consumed_record *last = &worker->batch[worker->batch_count];
        if (last != slot) {
            *last = *slot;
        }
        const struct partition *p = &worker->partitions[last->partition];
        if (!p->assigned || last->offset < p->next) {
            consumer->ops->release(consumer, last);
        } else {
            worker->batch_count++;
        }
        wait_ms = 0;
    }
    return ERR_OK;
}

static void close_consumer(struct worker *worker) {
    for (int32_t i = 0; i < CONSUMER_PARTITIONS_MAX; i++) {
        drop_buffered(worker, i);
    }
    worker->options.consumer->ops->close(worker->options.consumer);
}

static void *worker_main(void *arg) {
    struct worker *worker = arg;
    struct event_consumer *consumer = worker->options.consumer;
    struct backoff backoff;
    struct err err = {0};
    bool open = false;

    backoff_init(&backoff, 100, 5000);
    while (!stop_requested(worker->options.stop)) {
        enum err_code code = ERR_OK;
        if (!open) {
            code = consumer->ops->open(consumer, on_assigned, on_revoked, worker, &err);
            open = code == ERR_OK;
        }
        if (code == ERR_OK) {
            code = gather(worker, &err);
        }
        if (code == ERR_OK) {
            code = apply_batch(worker, &err);
            show_lag(worker);
        }
        if (code == ERR_OK && !consumer->ops->joined(consumer)) {
            health_fail(worker->options.health, "joining the consumer group");
        } else if (code == ERR_OK) {
            health_ok(worker->options.health);
            backoff_reset(&backoff);
        } else if (code != ERR_CLOSED) {
            const int64_t wait_ms = backoff_next_ms(&backoff);
            health_fail(worker->options.health, "%s", err.message);
            log_warn(worker->options.log, log_event("worker.interrupted"),
                     log_cstr("projection", worker->options.projection->name), log_err(&err),
                     log_i64("retry_in_ms", wait_ms));
            close_consumer(worker);
            open = false;
            (void)stop_wait_ms(worker->options.stop, wait_ms);
        }
    }
    close_consumer(worker);
    return NULL;
}

enum err_code worker_start(const struct worker_options *options, struct worker **out,
                           struct err *err) {
    struct worker *worker = mem_zalloc(sizeof(*worker));

    worker->options = *options;
    worker->batch = mem_array(options->batch_max, sizeof(worker->batch[0]));
    worker->ordered = mem_array(options->batch_max, sizeof(worker->ordered[0]));
    const int failed = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (failed != 0) {
        mem_free(worker->batch);
        mem_free(worker->ordered);
        mem_free(worker);
        return err_set(err, ERR_INTERNAL, "pthread_create: %s", strerror(failed));
    }
    *out = worker;
    return ERR_OK;
}

void worker_join(struct worker *worker) {
    (void)pthread_join(worker->thread, NULL);
    mem_free(worker->batch);
    mem_free(worker->ordered);
    mem_free(worker);
}
