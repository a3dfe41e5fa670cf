#include "projector/lane.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/runtime/backoff.h"
#include "projector/refill.h"

enum {
    IDLE_POLL_MS = 100,
    CHECK_EVERY_US = 1000000,
    LAG_EVERY_US = 200000,
    FENCED_WAIT_US = 50000,
    PUT_OFF_US = 2000000,
    BATCH_BYTES_MAX = 16 * 1024 * 1024,
};

struct partition {
    bool begun;
    bool counted;             /* its gauges exist */
    int64_t begin_at_us;      /* not before */
    int64_t last_recorded_us; /* of the newest event applied */
    int64_t moved_at_us;      /* when it last made progress, or had nothing to do */
    int64_t moved_to;
    struct metric_gauge *lag_events;
    struct metric_gauge *lag_seconds;
};

struct lane {
    struct lane_options options;
    struct engine *engine;
    pthread_t thread;
    pthread_mutex_t mutex; /* guards told, told_turn */
    bool told[TOPIC_PARTITIONS_MAX];
    uint64_t told_turn;

    bool mine[TOPIC_PARTITIONS_MAX];
    uint64_t turn;
    struct partition partitions[TOPIC_PARTITIONS_MAX];
    _Atomic int64_t positions[TOPIC_PARTITIONS_MAX];
    _Atomic int64_t turned_at_us;
    bool open;
    struct consumed_record *batch;   /* batch_max, in order of arrival */
    struct consumed_record *ordered; /* the same, by partition */
    struct engine_share shares[TOPIC_PARTITIONS_MAX];
    size_t batch_count;
    struct backoff backoff;
    int64_t checked_at_us;
    int64_t applied_at_us;
    int64_t lag_shown_at_us;
    char trouble[256]; /* the last failure, "" since the last success */
    struct health_component *streams;
    struct health_component *progress;
    struct metric_gauge *parked_streams;
};

/* --- the share --- */

void lane_assign(struct lane *lane, const bool *mine) {
    (void)pthread_mutex_lock(&lane->mutex);
    memcpy(lane->told, mine, sizeof(lane->told));
    lane->told_turn++;
    (void)pthread_mutex_unlock(&lane->mutex);
}

int64_t lane_position(const struct lane *lane, int32_t partition) {
    return atomic_load(&lane->positions[partition]);
}

/* Forgets what is believed of a partition; it will be begun anew, not before wait_us. */
static void unbegin(struct lane *lane, int32_t partition, int64_t wait_us) {
    struct partition *p = &lane->partitions[partition];

    if (p->begun) {
        lane->options.reader->ops->stop(lane->options.reader, partition);
        engine_end(lane->engine, partition);
        p->begun = false;
    }
    p->begin_at_us = clock_monotonic_us() + wait_us;
}

static void leave(struct lane *lane, int32_t partition) {
    struct partition *p = &lane->partitions[partition];

    unbegin(lane, partition, 0);
    atomic_store(&lane->positions[partition], -1);
    if (p->counted) {
        metric_set(p->lag_events, 0);
        metric_set_micros(p->lag_seconds, 0);
    }
    log_info(lane->options.log, log_event("partition.left"),
             log_cstr("projection", lane->options.projection->name),
             log_cstr("sink", lane->options.sink->ops->name), log_i64("partition", partition));
}

static void enter(struct lane *lane, int32_t partition) {
    struct partition *p = &lane->partitions[partition];
    char labels[128];

    (void)snprintf(labels, sizeof(labels),
                   "projection=\"%s\",partition=\"%" PRId32 "\",sink=\"%s\"",
                   lane->options.projection->name, partition, lane->options.sink->ops->name);
    p->lag_events = metrics_gauge(lane->options.metrics, "daybook_projector_lag_events", labels,
                                  "Records in the topic that are not applied yet.");
    p->lag_seconds = metrics_gauge(lane->options.metrics, "daybook_projector_lag_seconds", labels,
                                   "Age of the newest event applied, while there is a lag.");
    p->counted = true;
    p->begin_at_us = 0;
    p->last_recorded_us = clock_wall_us();
    p->moved_at_us = clock_monotonic_us();
    p->moved_to = -1;
}

static void take_share(struct lane *lane) {
    bool mine[TOPIC_PARTITIONS_MAX];

    (void)pthread_mutex_lock(&lane->mutex);
    const bool changed = lane->turn != lane->told_turn;
    lane->turn = lane->told_turn;
    memcpy(mine, lane->told, sizeof(mine));
    (void)pthread_mutex_unlock(&lane->mutex);
    for (int32_t p = 0; changed && p < lane->options.partitions; p++) {
        if (lane->mine[p] && !mine[p]) {
            leave(lane, p);
        } else if (!lane->mine[p] && mine[p]) {
            enter(lane, p);
        }
        lane->mine[p] = mine[p];
    }
}

/* --- beginning --- */

/* Fills those partitions that have no checkpoint from another store. */
static enum err_code fill_again(struct lane *lane, const bool *lost, struct err *err) {
    const struct refill_options options = {
        .projection = lane->options.projection,
        .from = lane->options.refill_from,
        .into = lane->options.sink,
        .partitions = lane->options.partitions,
        .log = lane->options.log,
    };
    size_t filled = 0;

    if (options.from == NULL) {
        return ERR_OK;
    }
    const enum err_code code = refill(&options, lost, &filled, err);
    if (code != ERR_OK) {
        log_warn(lane->options.log, log_event("sink.refill_failed"),
                 log_cstr("projection", lane->options.projection->name), log_err(err));
    }
    return code;
}

static enum err_code start_reading(struct lane *lane, int32_t partition,
                                   const struct sink_checkpoint *at, struct err *err) {
    const int64_t offset = checkpoint_exists(at) ? at->next : 0;
    const enum err_code code =
        lane->options.reader->ops->start(lane->options.reader, partition, offset, err);

    if (code != ERR_OK) {
        engine_end(lane->engine, partition);
        return code;
    }
    lane->partitions[partition].begun = true;
    atomic_store(&lane->positions[partition], offset);
    log_info(lane->options.log, log_event("partition.begun"),
             log_cstr("projection", lane->options.projection->name),
             log_cstr("sink", lane->options.sink->ops->name), log_i64("partition", partition),
             log_i64("offset", offset));
    return ERR_OK;
}

/* A partition that can't be begun for a reason of its own doesn't hold up the others. */
static void put_off(struct lane *lane, int32_t partition, const struct err *err) {
    (void)snprintf(lane->trouble, sizeof(lane->trouble), "partition %" PRId32 ": %.200s", partition,
                   err->message);
    health_fail(lane->progress, "%s", lane->trouble);
    lane->partitions[partition].begin_at_us = clock_monotonic_us() + PUT_OFF_US;
}

/* Begins what is wanted and due. Those without a checkpoint are left aside at first: together they
 * may be filled in one go. */
static enum err_code begin_partitions(struct lane *lane, bool refilled, struct err *err) {
    const int64_t now_us = clock_monotonic_us();
    bool lost[TOPIC_PARTITIONS_MAX] = {false};
    bool any_lost = false;

    for (int32_t i = 0; i < lane->options.partitions; i++) {
        struct partition *p = &lane->partitions[i];
        struct sink_checkpoint at;
        if (!lane->mine[i] || p->begun || now_us < p->begin_at_us) {
            continue;
        }
        enum err_code code = engine_begin(lane->engine, i, &at, err);
        if (code == ERR_OK && !checkpoint_exists(&at) && !refilled) {
            engine_end(lane->engine, i);
            lost[i] = true;
            any_lost = true;
            continue;
        }
        if (code == ERR_OK) {
            code = start_reading(lane, i, &at, err);
        }
        if (code != ERR_OK && err_retriable(code)) {
            return code;
        }
        if (code != ERR_OK) {
            put_off(lane, i, err);
        }
    }
    if (!any_lost) {
        return ERR_OK;
    }
    /* Without what operators declared void, which the other store knows, the log would be folded
     * to something else: so they wait for it. */
    if (fill_again(lane, lost, err) != ERR_OK) {
        for (int32_t i = 0; i < lane->options.partitions; i++) {
            if (lost[i]) {
                put_off(lane, i, err);
            }
        }
        return ERR_OK;
    }
    return begin_partitions(lane, true, err);
}

/* --- working --- */

static void release_batch(struct lane *lane) {
    lane->options.reader->ops->release(lane->options.reader, lane->batch, lane->batch_count);
    lane->batch_count = 0;
}

/* Lets records gather until the last batch is pace_ms ago. */
static void keep_pace(const struct lane *lane) {
    const int64_t left_us =
        lane->applied_at_us + lane->options.pace_ms * 1000 - clock_monotonic_us();

    if (left_us > 0) {
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)left_us * 1000}, NULL);
    }
}

/* Takes what is there, up to batch_max; waits only for the first, and for the pace where that can
 * make the batch larger. */
static enum err_code gather(struct lane *lane, struct err *err) {
    struct event_reader *reader = lane->options.reader;
    int64_t wait_ms = IDLE_POLL_MS;
    int64_t bytes = 0;

    while (lane->batch_count < lane->options.batch_max && bytes < BATCH_BYTES_MAX) {
        struct consumed_record *into = lane->batch + lane->batch_count;
        size_t count = 0;
        const enum err_code code = reader->ops->poll(
            reader, wait_ms, into, lane->options.batch_max - lane->batch_count, &count, err);
        for (size_t i = 0; i < count; i++) {
            bytes += into[i].bytes;
        }
        lane->batch_count += count;
        if (code != ERR_OK || count == 0) {
            return code;
        }
        const bool is_full =
            lane->batch_count == lane->options.batch_max || bytes >= BATCH_BYTES_MAX;
        if (wait_ms > 0 && lane->options.pace_ms > 0 && !is_full) {
            keep_pace(lane);
        }
        wait_ms = 0;
    }
    return ERR_OK;
}

/* What became of a partition's records. Returns an error when the whole lane has to wait. */
static enum err_code settle(struct lane *lane, const struct engine_share *share, struct err *err) {
    struct partition *p = &lane->partitions[share->partition];

    if (share->code == ERR_OK) {
        const struct sink_checkpoint at = engine_position(lane->engine, share->partition);
        atomic_store(&lane->positions[share->partition], at.next);
        p->last_recorded_us = share->records[share->count - 1].event.recorded_at_us;
        return ERR_OK;
    }
    if (share->code == ERR_FENCED) {
        log_warn(lane->options.log, log_event("sink.fenced"),
                 log_cstr("projection", lane->options.projection->name), log_err(&share->err));
        unbegin(lane, share->partition, FENCED_WAIT_US);
        return ERR_OK;
    }
    unbegin(lane, share->partition, 0);
    return err_set(err, share->code, "%s", share->err.message);
}

/* The batch by partitions; their records one after the other in `ordered`. */
static size_t share_out(struct lane *lane) {
    size_t share_count = 0;
    size_t used = 0;

    for (int32_t p = 0; p < lane->options.partitions && used < lane->batch_count; p++) {
        struct engine_share *share = &lane->shares[share_count];
        share->partition = p;
        share->records = lane->ordered + used;
        share->count = 0;
        for (size_t i = 0; i < lane->batch_count; i++) {
            if (lane->batch[i].partition == p) {
                lane->ordered[used + share->count++] = lane->batch[i];
            }
        }
        used += share->count;
        share_count += share->count > 0 && lane->partitions[p].begun;
    }
    return share_count;
}

static enum err_code apply_batch(struct lane *lane, struct err *err) {
    struct engine_share *const shares = lane->shares;
    const size_t count = share_out(lane);
    enum err_code code = ERR_OK;

    if (count > 0) {
        engine_apply_all(lane->engine, shares, count);
        lane->applied_at_us = clock_monotonic_us();
    }
    for (size_t i = 0; i < count; i++) {
        const enum err_code settled = settle(lane, &shares[i], code == ERR_OK ? err : NULL);
        code = code == ERR_OK ? settled : code;
    }
    release_batch(lane);
    return code;
}

/* Does the store still stand where we left it? It may have lost its data while no event came. */
static enum err_code check(struct lane *lane, struct err *err) {
    const int64_t now_us = clock_monotonic_us();
    int32_t begun[TOPIC_PARTITIONS_MAX];
    size_t count = 0;
    int32_t changed = -1;

    if (now_us - lane->checked_at_us < CHECK_EVERY_US) {
        return ERR_OK;
    }
    lane->checked_at_us = now_us;
    for (int32_t p = 0; p < lane->options.partitions; p++) {
        if (lane->partitions[p].begun) {
            begun[count++] = p;
        }
    }
    if (count == 0) {
        return ERR_OK;
    }
    const enum err_code code = engine_check(lane->engine, begun, count, &changed, err);
    if (code != ERR_FENCED) {
        return code;
    }
    log_warn(lane->options.log, log_event("sink.changed"),
             log_cstr("projection", lane->options.projection->name), log_err(err));
    for (size_t i = 0; i < count; i++) {
        unbegin(lane, begun[i], 0);
    }
    return ERR_OK;
}

/* --- what others see --- */

/* True: the partition has had no progress for too long. */
static bool show_partition(struct lane *lane, int32_t partition, int64_t now_us) {
    struct partition *p = &lane->partitions[partition];
    struct event_reader *reader = lane->options.reader;
    const int64_t at = p->begun ? atomic_load(&lane->positions[partition]) : -1;
    const int64_t end = p->begun ? reader->ops->end_offset(reader, partition) : -1;
    const int64_t lag = end > at ? end - at : 0;

    metric_set(p->lag_events, lag);
    metric_set_micros(p->lag_seconds, lag > 0 ? clock_wall_us() - p->last_recorded_us : 0);
    if (p->begun && (lag == 0 || at != p->moved_to)) {
        p->moved_at_us = now_us;
        p->moved_to = at;
    }
    if (now_us - p->moved_at_us < lane->options.stall_ms * 1000) {
        return false;
    }
    health_fail(lane->progress, "partition %" PRId32 ": no progress for %" PRId64 " s%s%s",
                partition, (now_us - p->moved_at_us) / 1000000,
                lane->trouble[0] != '\0' ? ": " : "", lane->trouble);
    return true;
}

static void show(struct lane *lane) {
    const int64_t now_us = clock_monotonic_us();
    size_t parked = 0;
    bool well = true;

    if (now_us - lane->lag_shown_at_us < LAG_EVERY_US) {
        return;
    }
    lane->lag_shown_at_us = now_us;
    for (int32_t p = 0; p < lane->options.partitions; p++) {
        if (lane->mine[p]) {
            well = !show_partition(lane, p, now_us) && well;
            well = well && (lane->partitions[p].begun || lane->trouble[0] == '\0');
            parked += engine_parked_streams(lane->engine, p);
        }
    }
    if (well) {
        health_ok(lane->progress);
    }
    metric_set(lane->parked_streams, (int64_t)parked);
    if (parked > 0) {
        health_degrade(lane->streams, "%zu streams are parked: see daybook-projector parked list",
                       parked);
    } else {
        health_ok(lane->streams);
    }
}

/* --- the thread --- */

static enum err_code step(struct lane *lane, struct err *err) {
    enum err_code code = ERR_OK;

    take_share(lane);
    if (!lane->open) {
        code = lane->options.reader->ops->open(lane->options.reader, err);
        lane->open = code == ERR_OK;
    }
    if (code == ERR_OK) {
        code = begin_partitions(lane, false, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    const enum err_code gathered = gather(lane, err);
    code = apply_batch(lane, gathered == ERR_OK ? err : NULL);
    for (int32_t p = 0; gathered != ERR_OK && p < lane->options.partitions; p++) {
        unbegin(lane, p, 0); /* one of them is read no more, whichever it is */
    }
    code = gathered == ERR_OK ? code : gathered;
    return code == ERR_OK ? check(lane, err) : code;
}

static bool all_begun(const struct lane *lane) {
    for (int32_t p = 0; p < lane->options.partitions; p++) {
        if (lane->mine[p] && !lane->partitions[p].begun) {
            return false;
        }
    }
    return true;
}

static void *lane_main(void *arg) {
    struct lane *lane = arg;

    while (!stop_requested(lane->options.stop)) {
        struct err err = {0};
        atomic_store(&lane->turned_at_us, clock_monotonic_us());
        const enum err_code code = step(lane, &err);
        if (code == ERR_OK) {
            if (all_begun(lane)) {
                lane->trouble[0] = '\0';
                backoff_reset(&lane->backoff);
            }
            show(lane);
            continue;
        }
        const int64_t wait_ms = backoff_next_ms(&lane->backoff);
        if (lane->backoff.tries == 1 || lane->backoff.tries % 8 == 0) {
            log_warn(lane->options.log, log_event("lane.interrupted"),
                     log_cstr("projection", lane->options.projection->name),
                     log_cstr("sink", lane->options.sink->ops->name), log_err(&err),
                     log_i64("retry_in_ms", wait_ms));
        }
        (void)snprintf(lane->trouble, sizeof(lane->trouble), "%.255s", err.message);
        health_fail(lane->progress, "%s", lane->trouble);
        show(lane);
        (void)stop_wait_ms(lane->options.stop, wait_ms);
    }
    for (int32_t p = 0; p < lane->options.partitions; p++) {
        unbegin(lane, p, 0);
    }
    lane->options.reader->ops->close(lane->options.reader);
    return NULL;
}

static void lane_free(struct lane *lane) {
    engine_free(lane->engine);
    (void)pthread_mutex_destroy(&lane->mutex);
    mem_free(lane->batch);
    mem_free(lane->ordered);
    mem_free(lane);
}

static struct health_component *component(const struct lane_options *options, const char *what) {
    char name[128];

    (void)snprintf(name, sizeof(name), "%s (%s, %s)", what, options->projection->name,
                   options->sink->ops->name);
    struct health_component *component = health_component(options->health, name);
    health_ok(component);
    return component;
}

enum err_code lane_start(const struct lane_options *options, struct lane **out, struct err *err) {
    struct lane *lane = mem_zalloc(sizeof(*lane));
    char labels[128];

    lane->options = *options;
    lane->engine = engine_new(&(struct engine_options){
        .projection = options->projection,
        .sink = options->sink,
        .log = options->log,
        .metrics = options->metrics,
        .tracer = options->tracer,
        .batch_max = options->batch_max,
    });
    lane->batch = mem_array(options->batch_max, sizeof(lane->batch[0]));
    lane->ordered = mem_array(options->batch_max, sizeof(lane->ordered[0]));
    backoff_init(&lane->backoff, 50, 2000);
    lane->streams = component(options, "streams");
    lane->progress = component(options, "progress");
    (void)snprintf(labels, sizeof(labels), "projection=\"%s\",sink=\"%s\"",
                   options->projection->name, options->sink->ops->name);
    lane->parked_streams =
        metrics_gauge(options->metrics, "daybook_projector_parked_streams", labels,
                      "Streams put aside, in this replica's partitions.");
    for (int32_t p = 0; p < TOPIC_PARTITIONS_MAX; p++) {
        atomic_init(&lane->positions[p], -1);
    }
    atomic_init(&lane->turned_at_us, clock_monotonic_us());
    (void)pthread_mutex_init(&lane->mutex, NULL);
    const int failed = pthread_create(&lane->thread, NULL, lane_main, lane);
    if (failed != 0) {
        lane_free(lane);
        return err_set(err, ERR_INTERNAL, "pthread_create: %s", strerror(failed));
    }
    *out = lane;
    return ERR_OK;
}

void lane_watch(struct lane *lane) {
    const int64_t took_us = clock_monotonic_us() - atomic_load(&lane->turned_at_us);

    if (took_us > lane->options.stall_ms * 1000) {
        health_fail(lane->progress, "no progress: one step has taken %" PRId64 " s",
                    took_us / 1000000);
    }
}

void lane_join(struct lane *lane) {
    (void)pthread_join(lane->thread, NULL);
    lane_free(lane);
}
