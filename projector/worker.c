#include "projector/worker.h"

#include <pthread.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/runtime/backoff.h"

enum { POLL_MS = 100, HINT_EVERY_US = 1000000 };

struct worker {
    struct worker_options options;
    pthread_t thread;
    struct lane *lanes[WORKER_LANES_MAX];
    size_t lane_count;
    bool mine[TOPIC_PARTITIONS_MAX];
    int64_t hinted[TOPIC_PARTITIONS_MAX];
    int64_t hinted_at_us;
};

static void on_assigned(void *arg, const bool *mine) {
    struct worker *worker = arg;
    int64_t count = 0;

    memcpy(worker->mine, mine, sizeof(worker->mine));
    for (size_t i = 0; i < worker->lane_count; i++) {
        lane_assign(worker->lanes[i], mine);
    }
    for (int32_t p = 0; p < worker->options.partitions; p++) {
        count += mine[p];
    }
    log_info(worker->options.log, log_event("share.assigned"),
             log_cstr("projection", worker->options.projection->name),
             log_i64("partitions", count));
}

/* The broker's tools show what all sinks have. */
static void hint(struct worker *worker) {
    const int64_t now_us = clock_monotonic_us();

    if (now_us - worker->hinted_at_us < HINT_EVERY_US) {
        return;
    }
    worker->hinted_at_us = now_us;
    for (int32_t p = 0; p < worker->options.partitions; p++) {
        int64_t least = INT64_MAX;
        for (size_t i = 0; i < worker->lane_count; i++) {
            const int64_t at = lane_position(worker->lanes[i], p);
            least = at < least ? at : least;
        }
        if (worker->mine[p] && least >= 0 && least != INT64_MAX && least != worker->hinted[p]) {
            worker->options.member->ops->commit_hint(worker->options.member, p, least);
            worker->hinted[p] = least;
        }
    }
}

/* Waits after a failure. */
static void pause_after(struct worker *worker, struct backoff *backoff, const char *what,
                        const struct err *err) {
    const int64_t wait_ms = backoff_next_ms(backoff);

    health_fail(worker->options.health, "%s", err->message);
    log_warn(worker->options.log, log_event(what),
             log_cstr("projection", worker->options.projection->name), log_err(err),
             log_i64("retry_in_ms", wait_ms));
    (void)stop_wait_ms(worker->options.stop, wait_ms);
}

static bool prepare(struct worker *worker) {
    struct backoff backoff;

    backoff_init(&backoff, 100, 2000);
    while (worker->options.prepare != NULL && !stop_requested(worker->options.stop)) {
        struct err err = {0};
        if (worker->options.prepare(worker->options.prepare_arg, &err) == ERR_OK) {
            return true;
        }
        pause_after(worker, &backoff, "worker.not_prepared", &err);
    }
    return !stop_requested(worker->options.stop);
}

static bool start_lanes(struct worker *worker) {
    struct err err = {0};

    for (size_t i = 0; i < worker->options.lane_count; i++) {
        if (lane_start(&worker->options.lanes[i], &worker->lanes[i], &err) != ERR_OK) {
            log_error(worker->options.log, log_event("lane.not_started"), log_err(&err));
            health_fail(worker->options.health, "%s", err.message);
            return false;
        }
        worker->lane_count++;
    }
    return true;
}

static void be_member(struct worker *worker) {
    struct group_member *member = worker->options.member;
    struct backoff backoff;
    bool open = false;

    backoff_init(&backoff, 100, 5000);
    while (!stop_requested(worker->options.stop)) {
        struct err err = {0};
        enum err_code code = ERR_OK;
        if (!open) {
            code = member->ops->open(member, on_assigned, worker, &err);
            open = code == ERR_OK;
        }
        if (code == ERR_OK) {
            code = member->ops->poll(member, POLL_MS, &err);
        }
        for (size_t i = 0; i < worker->lane_count; i++) {
            lane_watch(worker->lanes[i]);
        }
        if (code != ERR_OK) {
            member->ops->close(member);
            open = false;
            pause_after(worker, &backoff, "worker.interrupted", &err);
        } else if (!member->ops->joined(member)) {
            health_fail(worker->options.health, "joining the consumer group");
        } else {
            health_ok(worker->options.health);
            backoff_reset(&backoff);
            hint(worker);
        }
    }
}

static void *worker_main(void *arg) {
    struct worker *worker = arg;

    if (prepare(worker) && start_lanes(worker)) {
        be_member(worker);
    }
    /* The lanes end their batches before the partitions go to others. */
    for (size_t i = 0; i < worker->lane_count; i++) {
        lane_join(worker->lanes[i]);
    }
    worker->lane_count = 0;
    worker->options.member->ops->close(worker->options.member);
    return NULL;
}

enum err_code worker_start(const struct worker_options *options, struct worker **out,
                           struct err *err) {
    struct worker *worker = mem_zalloc(sizeof(*worker));

    worker->options = *options;
    const int failed = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (failed != 0) {
        mem_free(worker);
        return err_set(err, ERR_INTERNAL, "pthread_create: %s", strerror(failed));
    }
    *out = worker;
    return ERR_OK;
}

void worker_join(struct worker *worker) {
    (void)pthread_join(worker->thread, NULL);
    mem_free(worker);
}
