/* The lane's pace, on a sink in memory and a reader that brings a record each millisecond. */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "common/adapters/sink_mem.h"
#include "common/base/clock.h"
#include "projector/lane.h"
#include "projector/registry.h"

enum { STREAMED = 300, LATE_AT_MS = 1200, RECORDS = STREAMED + 1, LIMIT_MS = 20000 };

/* Record n is there n milliseconds after the start; the last one long after the others. */
struct trickle {
    struct event_reader base;
    int64_t begun_us;
    size_t next;
    atomic_int batches; /* given back */
};

static struct trickle *trickle_of(struct event_reader *reader) {
    return (struct trickle *)(void *)reader;
}

static int64_t due_us(const struct trickle *trickle, size_t n) {
    return trickle->begun_us + (n < STREAMED ? (int64_t)n : LATE_AT_MS) * 1000;
}

static enum err_code trickle_open(struct event_reader *reader, struct err *err) {
    (void)reader;
    (void)err;
    return ERR_OK;
}

static enum err_code trickle_start(struct event_reader *reader, int32_t partition, int64_t offset,
                                   struct err *err) {
    (void)partition;
    (void)err;
    trickle_of(reader)->begun_us = clock_monotonic_us();
    trickle_of(reader)->next = (size_t)offset;
    return ERR_OK;
}

static void trickle_stop(struct event_reader *reader, int32_t partition) {
    (void)reader;
    (void)partition;
}

static struct consumed_record record(size_t n) {
    static char streams[RECORDS][16];

    (void)snprintf(streams[n], sizeof(streams[n]), "a%zu", n);
    return (struct consumed_record){
        .offset = (int64_t)n,
        .bytes = 100,
        .event = {.aggregate_type = STR("account"),
                  .stream_id = str_from(streams[n]),
                  .version = 1,
                  .event_type = STR("AccountCreated"),
                  .schema_version = 1,
                  .payload = STR("{\"currency\":\"USD\"}"),
                  .recorded_at_us = clock_wall_us()},
    };
}

static enum err_code trickle_poll(struct event_reader *reader, int64_t wait_ms,
                                  struct consumed_record *out, size_t max, size_t *count,
                                  struct err *err) {
    struct trickle *trickle = trickle_of(reader);
    const int64_t until_us = clock_monotonic_us() + wait_ms * 1000;

    (void)err;
    for (*count = 0; *count < max && trickle->next < RECORDS; (*count)++) {
        const int64_t at_us = due_us(trickle, trickle->next);
        const int64_t left_us = at_us - clock_monotonic_us();
        if (left_us > 0 && (*count > 0 || at_us > until_us)) {
            break;
        }
        if (left_us > 0) {
            (void)nanosleep(&(struct timespec){.tv_nsec = (long)left_us * 1000}, NULL);
        }
        out[*count] = record(trickle->next++);
    }
    if (*count == 0 && wait_ms > 0) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return ERR_OK;
}

static void trickle_release(struct event_reader *reader, struct consumed_record *records,
                            size_t count) {
    (void)records;
    if (count > 0) {
        trickle_of(reader)->batches++;
    }
}

static int64_t trickle_end(struct event_reader *reader, int32_t partition) {
    (void)partition;
    return (int64_t)trickle_of(reader)->next;
}

static enum err_code trickle_bounds(struct event_reader *reader, int32_t partition, int64_t *first,
                                    int64_t *end, struct err *err) {
    (void)reader;
    (void)partition;
    (void)err;
    *first = 0;
    *end = RECORDS;
    return ERR_OK;
}

static void trickle_close(struct event_reader *reader) {
    (void)reader;
}

static const struct event_reader_ops ops = {
    .open = trickle_open,
    .start = trickle_start,
    .stop = trickle_stop,
    .poll = trickle_poll,
    .release = trickle_release,
    .end_offset = trickle_end,
    .bounds = trickle_bounds,
    .close = trickle_close,
};

struct outcome {
    int batches;         /* of the streamed ones */
    int64_t late_one_us; /* how long the last one, alone, took */
};

/* False: not in time. */
static bool await_position(const struct lane *lane, int64_t position) {
    const int64_t deadline_us = clock_monotonic_us() + LIMIT_MS * 1000;

    while (lane_position(lane, 0) < position) {
        if (clock_monotonic_us() > deadline_us) {
            return false;
        }
        (void)nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
    return true;
}

static struct outcome run(int64_t pace_ms) {
    const struct projection *projection = registry_find_projection(STR("accounts"));
    struct trickle trickle = {.base = {&ops}};
    struct projection_sink *sink = sink_mem_new(projection, STORE_PG);
    struct metrics *metrics = metrics_new();
    struct health *health = health_new("projector");
    struct log *log = log_new("projector", LOG_LEVEL_ERROR, STDERR_FILENO);
    struct stop *stop = NULL;
    struct lane *lane = NULL;
    struct err err = {0};
    const bool mine[TOPIC_PARTITIONS_MAX] = {true};

    cr_assert_eq(stop_new_quiet(&stop, &err), ERR_OK);
    cr_assert_eq(lane_start(&(struct lane_options){.projection = projection,
                                                   .sink = sink,
                                                   .reader = &trickle.base,
                                                   .partitions = 1,
                                                   .batch_max = 1000,
                                                   .pace_ms = pace_ms,
                                                   .stall_ms = 60000,
                                                   .stop = stop,
                                                   .log = log,
                                                   .metrics = metrics,
                                                   .health = health},
                            &lane, &err),
                 ERR_OK, "%s", err.message);
    lane_assign(lane, mine);
    cr_assert(await_position(lane, STREAMED), "%lld", (long long)lane_position(lane, 0));
    struct outcome outcome = {.batches = trickle.batches};
    cr_assert(await_position(lane, RECORDS));
    outcome.late_one_us = clock_monotonic_us() - due_us(&trickle, STREAMED);
    stop_request(stop);
    lane_join(lane);
    stop_free(stop);
    log_free(log);
    health_free(health);
    metrics_free(metrics);
    sink->ops->free(sink);
    return outcome;
}

Test(lane, without_a_pace_each_record_is_applied_as_it_comes, .timeout = 60) {
    const struct outcome outcome = run(0);

    cr_assert_gt(outcome.batches, STREAMED / 10, "%d", outcome.batches);
}

/* 300 ms of records, 50 ms apart: seven batches. */
Test(lane, while_records_keep_coming_they_gather_for_the_pace, .timeout = 60) {
    const struct outcome outcome = run(50);

    cr_assert_leq(outcome.batches, 10, "%d", outcome.batches);
}

Test(lane, a_lone_record_does_not_wait_for_the_pace, .timeout = 60) {
    const struct outcome outcome = run(300);

    cr_assert_lt(outcome.late_one_us, 250000, "%lld us", (long long)outcome.late_one_us);
}
