/* The shard with two appends on their way: a store whose appends land when the test says so. */
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/adapters/event_store_mem.h"
#include "common/base/clock.h"
#include "tests/unit/command-api/jobs.h"

enum { BEGUN_MAX = 64 };

static struct {
    struct event_store base;
    struct event_store_ops ops;
    int landings;     /* eventfd, a semaphore: each landing takes one */
    size_t in_flight; /* the shard's thread alone */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t begun;
    char streams[BEGUN_MAX][64]; /* of the first event of each */
    size_t counts[BEGUN_MAX];    /* events of each */
    size_t waits;                /* for a landing, however long it takes */
    enum err_code next_code;
    bool next_lose;
    bool next_unsent; /* not even begun */
} slow = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static enum err_code begin_slow(struct event_store *store, const struct append_batch *batch,
                                struct err *err) {
    (void)store;
    pthread_mutex_lock(&slow.lock);
    (void)snprintf(slow.streams[slow.begun], sizeof(slow.streams[0]), "%.*s",
                   STR_ARG(batch->events[0].stream_id));
    slow.counts[slow.begun++] = batch->event_count;
    event_store_mem_fail_next(jobs_fixture.store, slow.next_code, slow.next_lose);
    const bool unsent = slow.next_unsent;
    slow.next_code = ERR_OK;
    slow.next_unsent = false;
    pthread_cond_signal(&slow.changed);
    pthread_mutex_unlock(&slow.lock);
    if (unsent) {
        return err_set(err, ERR_UNAVAILABLE, "injected");
    }
    slow.in_flight++;
    return jobs_fixture.store->ops->append_begin(jobs_fixture.store, batch, err);
}

static enum err_code end_slow(struct event_store *store, int64_t wait_until_us, bool *ended,
                              struct err *err) {
    struct pollfd fd = {.fd = slow.landings, .events = POLLIN};
    eventfd_t one = 0;

    (void)store;
    *ended = false;
    if (wait_until_us == INT64_MAX) {
        pthread_mutex_lock(&slow.lock);
        slow.waits++;
        pthread_cond_signal(&slow.changed);
        pthread_mutex_unlock(&slow.lock);
    }
    while (poll(&fd, 1, 1) == 0) {
        if (clock_monotonic_us() >= wait_until_us) {
            return ERR_OK;
        }
    }
    (void)eventfd_read(slow.landings, &one);
    slow.in_flight--;
    return jobs_fixture.store->ops->append_end(jobs_fixture.store, INT64_MAX, ended, err);
}

/* The shard's thread can't fail the test otherwise. */
static void expect_quiet(void) {
    if (slow.in_flight > 0) {
        (void)fprintf(stderr, "the store was asked while an append was on its way\n");
        abort();
    }
}

static enum err_code load_slow(struct event_store *store, const struct stream_from *streams,
                               size_t count, event_store_snapshot_fn *snapshot_fn,
                               event_store_event_fn *fn, void *arg, struct err *err) {
    (void)store;
    expect_quiet();
    return jobs_fixture.store->ops->load(jobs_fixture.store, streams, count, snapshot_fn, fn, arg,
                                         err);
}

static enum err_code was_appended_slow(struct event_store *store, const struct append_batch *batch,
                                       bool *appended, struct err *err) {
    (void)store;
    expect_quiet();
    return jobs_fixture.store->ops->was_appended(jobs_fixture.store, batch, appended, err);
}

static enum err_code find_outcomes_slow(struct event_store *store, const struct outcome_key *keys,
                                        size_t count, event_store_outcome_fn *fn, void *arg,
                                        struct err *err) {
    (void)store;
    expect_quiet();
    return jobs_fixture.store->ops->find_outcomes(jobs_fixture.store, keys, count, fn, arg, err);
}

static enum err_code check_slow(struct event_store *store, struct err *err) {
    (void)store;
    expect_quiet();
    return jobs_fixture.store->ops->check(jobs_fixture.store, err);
}

static void allow(eventfd_t landings) {
    cr_assert_eq(eventfd_write(slow.landings, landings), 0);
}

static void wait_begun(size_t count) {
    pthread_mutex_lock(&slow.lock);
    while (slow.begun < count) {
        pthread_cond_wait(&slow.changed, &slow.lock);
    }
    pthread_mutex_unlock(&slow.lock);
}

/* Until the shard does nothing but wait for what is in flight, for the nth time. */
static void wait_waits(size_t count) {
    pthread_mutex_lock(&slow.lock);
    while (slow.waits < count) {
        pthread_cond_wait(&slow.changed, &slow.lock);
    }
    pthread_mutex_unlock(&slow.lock);
}

static size_t waits(void) {
    pthread_mutex_lock(&slow.lock);
    const size_t count = slow.waits;
    pthread_mutex_unlock(&slow.lock);
    return count;
}

static void fail_next(enum err_code code, bool lose) {
    pthread_mutex_lock(&slow.lock);
    slow.next_code = code;
    slow.next_lose = lose;
    pthread_mutex_unlock(&slow.lock);
}

/* Three accounts whose states are in memory. */
static void set_up_slow(void) {
    jobs_fixture.store = event_store_mem_new();
    jobs_fixture.metrics = metrics_new();
    slow.ops = (struct event_store_ops){.load = load_slow,
                                        .append_begin = begin_slow,
                                        .append_end = end_slow,
                                        .was_appended = was_appended_slow,
                                        .find_outcomes = find_outcomes_slow,
                                        .check = check_slow};
    slow.base.ops = &slow.ops;
    slow.landings = eventfd(0, EFD_SEMAPHORE);
    jobs_start_on(&slow.base);
    allow(3);
    jobs_run("a", ACCOUNT_OPEN_COMMAND, 0, "");
    jobs_run("b", ACCOUNT_OPEN_COMMAND, 0, "");
    jobs_run("c", ACCOUNT_OPEN_COMMAND, 0, "");
}

static void tear_down_slow(void) {
    jobs_tear_down();
    (void)close(slow.landings);
}

TestSuite(shard_flights, .init = set_up_slow, .fini = tear_down_slow, .timeout = 10);

static struct command_job *deposit(const char *stream, int64_t dollars, const char *key) {
    struct command_job *job = jobs_make(stream, ACCOUNT_DEPOSIT, dollars, key);

    jobs_submit(job);
    return job;
}

Test(shard_flights, the_next_batch_is_sent_while_one_is_on_its_way) {
    const struct command_job *a = deposit("a", 1, "");
    wait_begun(4);
    const struct command_job *b = deposit("b", 2, "");
    wait_begun(5);
    cr_assert_eq(jobs_finished(), 3, "nothing is answered before it has landed");
    allow(2);
    jobs_wait_all();
    cr_assert_eq(a->status, 200);
    cr_assert_eq(b->status, 200);
    jobs_expect_text(b, "\"balance\":\"2.00\"");
}

Test(shard_flights, a_third_batch_waits_and_grows) {
    deposit("a", 1, "");
    wait_begun(4);
    deposit("b", 1, "");
    wait_begun(5);
    deposit("c", 1, "");
    for (int i = 0; i < 5; i++) {
        deposit("c", 1, "");
    }
    allow(1); /* b is still on its way, and all that waits goes behind it */
    wait_begun(6);
    cr_assert_eq(slow.counts[5], 6);
    allow(2);
    jobs_wait_all();
    cr_assert_eq(jobs_all[jobs_count - 1].version, 7);
}

Test(shard_flights, commands_on_a_stream_in_flight_are_held_and_keep_their_order) {
    deposit("a", 1, "");
    wait_begun(4);
    const struct command_job *second = deposit("a", 2, "");
    const struct command_job *third = deposit("a", 3, "");
    const struct command_job *other = deposit("b", 4, "");
    wait_begun(5);
    cr_assert_str_eq(slow.streams[4], "b");
    cr_assert_eq(slow.counts[4], 1, "what is held stays out");
    allow(3);
    jobs_wait_all();
    cr_assert_eq(second->version, 3);
    cr_assert_eq(third->version, 4);
    jobs_expect_text(third, "\"balance\":\"6.00\"");
    cr_assert_eq(other->status, 200);
}

Test(shard_flights, a_conflict_leaves_the_batch_behind_it_alone) {
    jobs_write_elsewhere("a", 2, 100);
    const struct command_job *a = deposit("a", 1, "ka");
    wait_begun(4);
    const struct command_job *b = deposit("b", 2, "kb");
    wait_begun(5);
    allow(3); /* the third is a's second try */
    jobs_wait_all();
    cr_assert_eq(a->status, 200);
    cr_assert_eq(a->version, 3);
    jobs_expect_text(a, "\"balance\":\"2.00\"");
    cr_assert_eq(b->version, 2);
    cr_assert_eq(event_store_mem_count(jobs_fixture.store), 6);
}

Test(shard_flights, a_connection_that_dies_under_both_is_found_out_for_each) {
    fail_next(ERR_OUTCOME_UNKNOWN, false);
    const struct command_job *a = deposit("a", 1, "");
    wait_begun(4);
    fail_next(ERR_OUTCOME_UNKNOWN, true);
    const struct command_job *b = deposit("b", 2, "");
    wait_begun(5);
    allow(3); /* b is written after all */
    jobs_wait_all();
    cr_assert_eq(a->version, 2);
    cr_assert_eq(b->version, 2);
    cr_assert_eq(event_store_mem_count(jobs_fixture.store), 5, "each once");
}

Test(shard_flights, an_outage_under_one_is_not_the_others) {
    fail_next(ERR_UNAVAILABLE, true);
    const struct command_job *a = deposit("a", 1, "");
    wait_begun(4);
    const struct command_job *b = deposit("b", 2, "");
    wait_begun(5);
    allow(2);
    jobs_wait_all();
    cr_assert_eq(a->status, 503);
    cr_assert_eq(b->status, 200);
    allow(1);
    cr_assert_eq(jobs_run("a", ACCOUNT_DEPOSIT, 1, "")->version, 2);
}

Test(shard_flights, refused_data_fail_alone_behind_others) {
    const size_t before = waits();
    deposit("a", 1, "");
    wait_begun(4);
    deposit("b", 1, "");
    wait_begun(5);
    wait_waits(before + 1);
    /* The third batch, of two, is refused; then each of the two is tried alone. */
    fail_next(ERR_INVALID, true);
    const struct command_job *c = deposit("c", 2, "");
    const struct command_job *later = deposit("c", 3, "");
    allow(1);
    wait_begun(6);
    cr_assert_eq(slow.counts[5], 2);
    fail_next(ERR_INVALID, true);
    allow(4);
    jobs_wait_all();
    cr_assert_eq(c->status, 500);
    cr_assert_eq(later->status, 200);
    cr_assert_eq(later->version, 2);
}

Test(shard_flights, a_batch_that_cannot_be_sent_behind_another_is_503) {
    deposit("a", 1, "");
    wait_begun(4);
    const size_t before = waits();
    pthread_mutex_lock(&slow.lock);
    slow.next_unsent = true;
    pthread_mutex_unlock(&slow.lock);
    const struct command_job *b = deposit("b", 2, "");
    wait_begun(5);
    wait_waits(before + 1);
    allow(1);
    jobs_wait_all();
    cr_assert_eq(jobs_all[jobs_count - 2].status, 200);
    cr_assert_eq(b->status, 503);
    cr_assert_eq(event_store_mem_count(jobs_fixture.store), 4);
}

/* A command that can be decided only when the append before it has landed, which then happens. */
static const struct command_job *behind_a_flight(struct command_job *job, eventfd_t appends) {
    deposit("a", 1, "");
    wait_begun(4);
    const size_t before = waits();
    jobs_submit(job);
    wait_waits(before + 1);
    allow(appends);
    jobs_wait_all();
    return job;
}

Test(shard_flights, a_stream_to_load_waits_for_what_is_in_flight) {
    const struct command_job *job =
        behind_a_flight(jobs_make("new", ACCOUNT_OPEN_COMMAND, 0, ""), 2);
    cr_assert_eq(job->status, 201);
}

Test(shard_flights, a_rejection_looks_at_the_log_after_what_is_in_flight) {
    const struct command_job *job = behind_a_flight(jobs_make("b", ACCOUNT_WITHDRAW, 5, ""), 1);
    cr_assert_eq(job->status, 409, "%d", job->status);
}

Test(shard_flights, a_stop_lands_what_is_in_flight_and_what_is_held) {
    deposit("a", 1, "");
    wait_begun(4);
    const struct command_job *held = deposit("a", 2, "");
    deposit("b", 3, "");
    wait_begun(5);
    allow(3);
    shard_stop(jobs_fixture.shard);
    cr_assert_eq(jobs_finished(), jobs_count);
    cr_assert_eq(held->version, 3);
    shard_free(jobs_fixture.shard);
    jobs_start_on(&slow.base); /* for the end of the test */
}
