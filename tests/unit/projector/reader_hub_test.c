/* The hub over a log that is only numbers: what is shared, who is sent away, who comes back. */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "projector/reader_hub.h"

enum { PARTITIONS = 2, LIMIT_S = 20, TAKE = 300, MANY = 50000 };

static atomic_int_fast64_t ends[PARTITIONS];
static atomic_int_fast64_t delivered; /* by all readers together */
static atomic_int_fast64_t held;      /* and not released */
static atomic_bool stopping;          /* a reader has been told to stop a partition */
static atomic_int_fast64_t stop_takes_ms;
static struct reader_hub *hub;

struct numbers {
    struct event_reader base;
    int64_t next[PARTITIONS]; /* -1: not started */
};

static struct numbers *self_of(struct event_reader *reader) {
    return (struct numbers *)(void *)reader;
}

static enum err_code numbers_open(struct event_reader *reader, struct err *err) {
    (void)reader;
    (void)err;
    return ERR_OK;
}

static enum err_code numbers_start(struct event_reader *reader, int32_t partition, int64_t offset,
                                   struct err *err) {
    (void)err;
    self_of(reader)->next[partition] = offset;
    return ERR_OK;
}

static void numbers_stop(struct event_reader *reader, int32_t partition) {
    const int64_t ms = atomic_load(&stop_takes_ms);

    atomic_store(&stopping, true);
    (void)nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL);
    self_of(reader)->next[partition] = -1;
}

static enum err_code numbers_poll(struct event_reader *reader, int64_t wait_ms,
                                  struct consumed_record *out, size_t max, size_t *count,
                                  struct err *err) {
    struct numbers *self = self_of(reader);

    *count = 0;
    for (int32_t p = 0; p < PARTITIONS; p++) {
        if (self->next[p] > atomic_load(&ends[p])) {
            return err_set(err, ERR_UNAVAILABLE, "out of range");
        }
        while (self->next[p] >= 0 && self->next[p] < atomic_load(&ends[p]) && *count < max) {
            out[*count] = (struct consumed_record){
                .partition = p, .offset = self->next[p]++, .bytes = 100, .handle = self};
            (*count)++;
        }
    }
    if (*count == 0 && wait_ms > 0) {
        (void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    atomic_fetch_add(&delivered, (int64_t)*count);
    atomic_fetch_add(&held, (int64_t)*count);
    return ERR_OK;
}

static void numbers_release(struct event_reader *reader, struct consumed_record *records,
                            size_t count) {
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(records[i].handle, self_of(reader), "released to another reader");
    }
    atomic_fetch_sub(&held, (int64_t)count);
}

static int64_t numbers_end(struct event_reader *reader, int32_t partition) {
    (void)reader;
    return atomic_load(&ends[partition]);
}

static void numbers_free(struct event_reader *reader) {
    mem_free(self_of(reader));
}

static struct event_reader *make_numbers(void *arg) {
    static const struct event_reader_ops ops = {
        .open = numbers_open,
        .start = numbers_start,
        .stop = numbers_stop,
        .poll = numbers_poll,
        .release = numbers_release,
        .end_offset = numbers_end,
        .free = numbers_free,
    };
    struct numbers *self = mem_zalloc(sizeof(*self));

    (void)arg;
    self->base.ops = &ops;
    for (int32_t p = 0; p < PARTITIONS; p++) {
        self->next[p] = -1;
    }
    return &self->base;
}

static void set_up(void) {
    struct err err = {0};
    const struct reader_hub_options options = {.make = make_numbers, .partitions = PARTITIONS};

    cr_assert_eq(reader_hub_start(&options, &hub, &err), ERR_OK, "%s", err.message);
}

static void tear_down(void) {
    reader_hub_free(hub);
    cr_assert_eq(atomic_load(&held), 0, "records were not released");
}

TestSuite(reader_hub, .init = set_up, .fini = tear_down, .timeout = 60);

struct lane_like {
    struct event_reader *tap;
    int64_t next[PARTITIONS];
};

static void begin(struct lane_like *lane, int64_t first, int64_t second) {
    const int64_t offsets[PARTITIONS] = {first, second};
    struct err err = {0};

    lane->tap = reader_hub_tap(hub);
    cr_assert_eq(lane->tap->ops->open(lane->tap, &err), ERR_OK);
    for (int32_t p = 0; p < PARTITIONS; p++) {
        lane->next[p] = offsets[p];
        cr_assert_eq(lane->tap->ops->start(lane->tap, p, offsets[p], &err), ERR_OK);
    }
}

/* One poll; what comes must be what comes next. */
static enum err_code read_once(struct lane_like *lane, struct err *err) {
    static struct consumed_record records[TAKE];
    size_t count = 0;
    const enum err_code code = lane->tap->ops->poll(lane->tap, 5, records, TAKE, &count, err);

    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(records[i].offset, lane->next[records[i].partition],
                     "partition %d: %lld came instead of %lld", records[i].partition,
                     (long long)records[i].offset, (long long)lane->next[records[i].partition]);
        lane->next[records[i].partition]++;
    }
    lane->tap->ops->release(lane->tap, records, count);
    return code;
}

static bool has_all(const struct lane_like *lane) {
    return lane->next[0] == atomic_load(&ends[0]) && lane->next[1] == atomic_load(&ends[1]);
}

static void read_all(struct lane_like *lane) {
    const int64_t limit_us = clock_monotonic_us() + LIMIT_S * INT64_C(1000000);
    struct err err = {0};

    while (!has_all(lane)) {
        cr_assert_lt(clock_monotonic_us(), limit_us, "not all records came");
        cr_assert_eq(read_once(lane, &err), ERR_OK, "%s", err.message);
    }
}

static void end(struct lane_like *lane) {
    lane->tap->ops->close(lane->tap);
    lane->tap->ops->free(lane->tap);
}

Test(reader_hub, a_record_is_read_once_for_all_taps) {
    struct lane_like a;
    struct lane_like b;

    begin(&a, 0, 0);
    begin(&b, 0, 0);
    atomic_store(&ends[0], 700);
    atomic_store(&ends[1], 900);
    read_all(&a);
    read_all(&b);
    cr_assert_eq(atomic_load(&delivered), 1600);
    end(&a);
    end(&b);
}

/* librdkafka takes its time to stop a partition: meanwhile the hub may be told to end. */
Test(reader_hub, ends_also_while_its_reader_stops) {
    const int64_t limit_us = clock_monotonic_us() + LIMIT_S * INT64_C(1000000);
    struct lane_like a;

    atomic_store(&ends[0], 100);
    begin(&a, 0, 0);
    read_all(&a);
    atomic_store(&stop_takes_ms, 50);
    end(&a);
    while (!atomic_load(&stopping)) {
        cr_assert_lt(clock_monotonic_us(), limit_us, "the reader goes on");
    }
    reader_hub_free(hub); /* the suite's time limit, if it does not */
    hub = NULL;
}

/* The same moment, and somebody begins. */
Test(reader_hub, begins_also_while_its_reader_stops) {
    const int64_t limit_us = clock_monotonic_us() + LIMIT_S * INT64_C(1000000);
    struct lane_like a;
    struct lane_like b;
    struct err err = {0};

    atomic_store(&ends[0], 100);
    begin(&a, 0, 0);
    read_all(&a);
    atomic_store(&stop_takes_ms, 50);
    for (int32_t p = 0; p < PARTITIONS; p++) {
        a.tap->ops->stop(a.tap, p);
    }
    while (!atomic_load(&stopping)) {
        cr_assert_lt(clock_monotonic_us(), limit_us, "the reader goes on");
    }
    (void)nanosleep(&(struct timespec){.tv_nsec = 60000000}, NULL); /* in the last one's stop */
    b = (struct lane_like){.tap = reader_hub_tap(hub), .next = {0, 0}};
    cr_assert_eq(b.tap->ops->start(b.tap, 0, 0, &err), ERR_OK);
    read_all(&b);
    end(&a);
    end(&b);
}

Test(reader_hub, who_begins_earlier_misses_nothing_and_nobody_gets_a_record_twice) {
    struct lane_like a;
    struct lane_like b;

    atomic_store(&ends[0], 1000);
    begin(&a, 900, 0);
    read_all(&a);
    begin(&b, 100, 0);
    atomic_store(&ends[0], 1100);
    read_all(&b);
    read_all(&a);
    cr_assert_eq(reader_hub_apart(hub), 0, "800 records are no reason for a reader of its own");
    end(&a);
    end(&b);
}

Test(reader_hub, a_slow_tap_holds_up_nobody_and_comes_back) {
    const int64_t limit_us = clock_monotonic_us() + LIMIT_S * INT64_C(1000000);
    struct lane_like fast;
    struct lane_like slow;
    struct err err = {0};

    begin(&fast, 0, 0);
    begin(&slow, 0, 0);
    atomic_store(&ends[0], MANY);
    atomic_store(&ends[1], MANY);
    read_all(&fast);
    cr_assert_eq(reader_hub_apart(hub), 1);
    cr_assert_leq(atomic_load(&held), 20000, "what the slow one has not taken is bounded");
    read_all(&slow);
    while (reader_hub_apart(hub) > 0) {
        cr_assert_lt(clock_monotonic_us(), limit_us, "it did not come back");
        cr_assert_eq(read_once(&slow, &err), ERR_OK);
        cr_assert_eq(read_once(&fast, &err), ERR_OK);
    }
    const int64_t before = atomic_load(&delivered);
    atomic_fetch_add(&ends[0], 100);
    read_all(&fast);
    read_all(&slow);
    cr_assert_eq(atomic_load(&delivered), before + 100, "shared again: read once");
    end(&fast);
    end(&slow);
}

Test(reader_hub, a_position_far_from_the_others_is_read_apart_at_once) {
    struct lane_like behind;
    struct lane_like ahead;

    atomic_store(&ends[0], MANY);
    begin(&ahead, MANY - 10, 0);
    read_all(&ahead);
    begin(&behind, 0, 0);
    cr_assert_eq(reader_hub_apart(hub), 1);
    atomic_fetch_add(&ends[0], 10);
    read_all(&ahead);
    read_all(&behind);
    end(&ahead);
    end(&behind);
}

/* Which offsets there are is the broker's to say: whoever asks for others fails, alone. */
static void check_bad_position(int64_t offset) {
    const int64_t limit_us = clock_monotonic_us() + LIMIT_S * INT64_C(1000000);
    struct lane_like bad;
    struct lane_like good;
    struct err err = {0};
    int failures = 0;

    atomic_store(&ends[0], 1000);
    begin(&bad, offset, 0);
    begin(&good, 0, 0);
    read_all(&good);
    while (failures < 2) {
        cr_assert_lt(clock_monotonic_us(), limit_us, "nothing was said of the position");
        atomic_fetch_add(&ends[1], 1);
        read_all(&good);
        if (read_once(&bad, &err) != ERR_OK) {
            failures++;
            bad.tap->ops->stop(bad.tap, 0);
            cr_assert_eq(bad.tap->ops->start(bad.tap, 0, offset, &err), ERR_OK);
        }
    }
    end(&bad);
    end(&good);
}

Test(reader_hub, a_position_beyond_the_end_fails_alone) {
    check_bad_position(MANY);
}

Test(reader_hub, a_position_a_little_beyond_the_end_fails_alone) {
    check_bad_position(1010);
}
