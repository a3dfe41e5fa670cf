/* The shard against the store in memory: decisions, keys, conflicts, lost answers. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "common/adapters/event_store_mem.h"
#include "tests/unit/command-api/jobs.h"

TestSuite(shard, .init = jobs_set_up, .fini = jobs_tear_down, .timeout = 10);

Test(shard, accepts_and_answers_with_the_version) {
    cr_assert_eq(jobs_run("a", ACCOUNT_OPEN_COMMAND, 0, "")->status, 201);
    const struct command_job *job = jobs_run("a", ACCOUNT_DEPOSIT, 5, "");
    cr_assert_eq(job->status, 200);
    cr_assert_eq(job->version, 2);
    jobs_expect_text(job, "\"balance\":\"5.00\"");
    cr_assert_eq(event_store_mem_count(jobs_fixture.store), 2);
}

Test(shard, rejections_leave_no_event) {
    cr_assert_eq(jobs_run("a", ACCOUNT_DEPOSIT, 5, "")->status, 404);
    cr_assert_eq(event_store_mem_count(jobs_fixture.store), 0);
}

Test(shard, many_commands_on_one_stream_are_decided_in_order) {
    jobs_submit(jobs_make("a", ACCOUNT_OPEN_COMMAND, 0, ""));
    for (int i = 0; i < 30; i++) {
        jobs_submit(jobs_make("a", ACCOUNT_DEPOSIT, 1, ""));
    }
    jobs_submit(jobs_make("a", ACCOUNT_WITHDRAW, 31, ""));
    jobs_submit(jobs_make("a", ACCOUNT_WITHDRAW, 30, ""));
    jobs_wait_all();
    for (size_t i = 0; i < 31; i++) {
        cr_assert_eq(jobs_all[i].version, (int64_t)i + 1);
    }
    cr_assert_eq(jobs_all[31].status, 409);
    cr_assert_eq(jobs_all[32].status, 200);
    jobs_expect_text(&jobs_all[32], "\"balance\":\"0.00\"");
}

Test(shard, a_repeated_key_gets_the_first_answer) {
    jobs_run("a", ACCOUNT_OPEN_COMMAND, 0, "");
    const struct command_job *first = jobs_run("a", ACCOUNT_DEPOSIT, 5, "k");
    const struct command_job *again = jobs_run("a", ACCOUNT_DEPOSIT, 5, "k");
    cr_assert(again->replayed);
    cr_assert_not(first->replayed);
    cr_assert_eq(again->status, 200);
    cr_assert(str_eq(first->body, again->body));
    const struct command_job *other = jobs_run("a", ACCOUNT_DEPOSIT, 6, "k");
    cr_assert_eq(other->status, 422);
    cr_assert_eq(event_store_mem_count(jobs_fixture.store), 2);
}

Test(shard, a_key_repeated_while_the_first_runs_has_one_effect) {
    jobs_submit(jobs_make("a", ACCOUNT_OPEN_COMMAND, 0, ""));
    for (int i = 0; i < 10; i++) {
        jobs_submit(jobs_make("a", ACCOUNT_DEPOSIT, 5, "k"));
    }
    jobs_wait_all();
    for (size_t i = 1; i < jobs_count; i++) {
        cr_assert_eq(jobs_all[i].status, 200);
        cr_assert_eq(jobs_all[i].version, 2);
    }
    cr_assert_eq(event_store_mem_count(jobs_fixture.store), 2);
}

Test(shard, a_conflict_is_loaded_and_decided_again) {
    jobs_run("a", ACCOUNT_OPEN_COMMAND, 0, "");
    jobs_run("a", ACCOUNT_DEPOSIT, 5, "");
    jobs_write_elsewhere("a", 3, 600);
    const struct command_job *job = jobs_run("a", ACCOUNT_WITHDRAW, 6, "");
    cr_assert_eq(job->status, 200, "%.*s", STR_ARG(job->body));
    cr_assert_eq(job->version, 4);
    jobs_expect_text(job, "\"balance\":\"0.00\"");
}

Test(shard, an_unmet_precondition_is_412_with_the_version) {
    jobs_run("a", ACCOUNT_OPEN_COMMAND, 0, "");
    struct command_job *job = jobs_make("a", ACCOUNT_DEPOSIT, 5, "");
    job->expected_version = 7;
    jobs_submit(job);
    jobs_wait_all();
    cr_assert_eq(job->status, 412);
    cr_assert_eq(job->version, 1);
}

Test(shard, a_commit_whose_answer_was_lost_is_found_out) {
    jobs_run("a", ACCOUNT_OPEN_COMMAND, 0, "");
    event_store_mem_fail_next(jobs_fixture.store, ERR_OUTCOME_UNKNOWN, false);
    cr_assert_eq(jobs_run("a", ACCOUNT_DEPOSIT, 5, "")->status, 200);
    cr_assert_eq(event_store_mem_count(jobs_fixture.store), 2, "not written twice");
    event_store_mem_fail_next(jobs_fixture.store, ERR_OUTCOME_UNKNOWN, true);
    cr_assert_eq(jobs_run("a", ACCOUNT_DEPOSIT, 5, "")->version, 3);
    cr_assert_eq(event_store_mem_count(jobs_fixture.store), 3, "written after all");
}

Test(shard, an_outage_is_503_and_passes) {
    jobs_run("a", ACCOUNT_OPEN_COMMAND, 0, "");
    event_store_mem_fail_next(jobs_fixture.store, ERR_UNAVAILABLE, true);
    cr_assert_eq(jobs_run("a", ACCOUNT_DEPOSIT, 5, "")->status, 503);
    const struct command_job *job = jobs_run("a", ACCOUNT_DEPOSIT, 5, "");
    cr_assert_eq(job->status, 200);
    cr_assert_eq(job->version, 2);
}

Test(shard, refused_data_fail_alone) {
    jobs_submit(jobs_make("a", ACCOUNT_OPEN_COMMAND, 0, ""));
    jobs_wait_all();
    /* The next append is refused for its data: with several jobs each is tried alone. */
    event_store_mem_fail_next(jobs_fixture.store, ERR_INVALID, true);
    for (int i = 0; i < 5; i++) {
        jobs_submit(jobs_make("a", ACCOUNT_DEPOSIT, 1, ""));
    }
    jobs_wait_all();
    size_t failed = 0;
    for (size_t i = 1; i < jobs_count; i++) {
        failed += jobs_all[i].status == 500;
        cr_assert(jobs_all[i].status == 200 || jobs_all[i].status == 500);
    }
    cr_assert_leq(failed, 1);
}

/* --- around the store: somebody who is first at one stream, and a gate --- */

/* Between the shard and the store in memory: each append waits while the gate is shut, then finds
 * that another replica has just written to `stream`, `times` times. Used by the shard's thread, but
 * for the gate. */
static struct {
    struct event_store base;
    struct event_store_ops ops;
    const char *stream;
    int64_t version; /* of `stream` in the log */
    int times;
    size_t tried; /* appends with that stream */
    pthread_mutex_t gate;
} around = {.gate = PTHREAD_MUTEX_INITIALIZER};

static enum err_code append_begin_around(struct event_store *store,
                                         const struct append_batch *batch, struct err *err) {
    (void)store;
    pthread_mutex_lock(&around.gate);
    pthread_mutex_unlock(&around.gate);
    for (size_t i = 0; i < batch->event_count; i++) {
        if (str_eq(batch->events[i].stream_id, str_from(around.stream))) {
            around.tried++;
            if (around.times-- > 0) {
                around.version++;
                jobs_write_elsewhere(around.stream, around.version, (around.version - 1) * 100);
            }
            break;
        }
    }
    return jobs_fixture.store->ops->append_begin(jobs_fixture.store, batch, err);
}

static enum err_code append_end_around(struct event_store *store, int64_t wait_until_us,
                                       bool *ended, struct err *err) {
    (void)store;
    return jobs_fixture.store->ops->append_end(jobs_fixture.store, wait_until_us, ended, err);
}

static enum err_code load_around(struct event_store *store, const struct stream_from *streams,
                                 size_t count, event_store_snapshot_fn *snapshot_fn,
                                 event_store_event_fn *fn, void *arg, struct err *err) {
    (void)store;
    return jobs_fixture.store->ops->load(jobs_fixture.store, streams, count, snapshot_fn, fn, arg,
                                         err);
}

static enum err_code was_appended_around(struct event_store *store,
                                         const struct append_batch *batch, bool *appended,
                                         struct err *err) {
    (void)store;
    return jobs_fixture.store->ops->was_appended(jobs_fixture.store, batch, appended, err);
}

static enum err_code find_outcomes_around(struct event_store *store, const struct outcome_key *keys,
                                          size_t count, event_store_outcome_fn *fn, void *arg,
                                          struct err *err) {
    (void)store;
    return jobs_fixture.store->ops->find_outcomes(jobs_fixture.store, keys, count, fn, arg, err);
}

static enum err_code check_around(struct event_store *store, struct err *err) {
    (void)store;
    return jobs_fixture.store->ops->check(jobs_fixture.store, err);
}

static void set_up_around(void) {
    jobs_fixture.store = event_store_mem_new();
    jobs_fixture.metrics = metrics_new();
    around.ops = (struct event_store_ops){.load = load_around,
                                          .append_begin = append_begin_around,
                                          .append_end = append_end_around,
                                          .was_appended = was_appended_around,
                                          .find_outcomes = find_outcomes_around,
                                          .check = check_around};
    around.base.ops = &around.ops;
    around.stream = "hot";
    jobs_start_on(&around.base);
    jobs_run("hot", ACCOUNT_OPEN_COMMAND, 0, "");
    around.version = 1;
    around.tried = 0;
}

TestSuite(shard_contended, .init = set_up_around, .fini = jobs_tear_down, .timeout = 10);

Test(shard_contended, others_first_a_few_times_cost_only_time) {
    around.times = SHARD_CONFLICT_TRIES_MAX - 1;
    const struct command_job *job = jobs_run("hot", ACCOUNT_DEPOSIT, 5, "");
    cr_assert_eq(job->status, 200, "%.*s", STR_ARG(job->body));
    cr_assert_eq(job->version, 1 + SHARD_CONFLICT_TRIES_MAX);
}

Test(shard_contended, others_first_each_time_is_409_with_the_actual_version) {
    around.times = 1000;
    const struct command_job *job = jobs_run("hot", ACCOUNT_DEPOSIT, 5, "k");
    cr_assert_eq(job->status, 409);
    jobs_expect_text(job, "version_conflict");
    cr_assert_eq(around.tried, SHARD_CONFLICT_TRIES_MAX);
    cr_assert_eq(job->version, around.version);
    around.times = 0;
    cr_assert_eq(jobs_run("hot", ACCOUNT_DEPOSIT, 5, "k")->status, 200,
                 "no answer was kept for it");
}

/* Jobs that come while the gate is shut are one batch. */
static void run_as_one_batch(size_t first) {
    jobs_submit(jobs_make("plug", ACCOUNT_OPEN_COMMAND, 0, ""));
    for (size_t i = first; i < jobs_count - 1; i++) {
        jobs_submit(&jobs_all[i]);
    }
    pthread_mutex_unlock(&around.gate);
    jobs_wait_all();
}

Test(shard_contended, a_repeated_key_shares_a_conflict_unmarked) {
    const size_t first = jobs_count;

    around.times = 1000;
    pthread_mutex_lock(&around.gate);
    (void)jobs_make("hot", ACCOUNT_DEPOSIT, 5, "k");
    (void)jobs_make("hot", ACCOUNT_DEPOSIT, 5, "k");
    (void)jobs_make("hot", ACCOUNT_DEPOSIT, 6, "k");
    run_as_one_batch(first);
    for (size_t i = first; i < first + 3; i++) {
        cr_assert_eq(jobs_all[i].status, 409, "%zu: %d", i, jobs_all[i].status);
        cr_assert_not(jobs_all[i].replayed);
    }
    around.times = 0;
    cr_assert_eq(jobs_run("hot", ACCOUNT_DEPOSIT, 6, "k")->status, 200,
                 "no answer was kept for it");
}

Test(shard_contended, a_key_used_before_answers_each_repetition_by_itself) {
    const int64_t version = jobs_run("hot", ACCOUNT_DEPOSIT, 5, "k")->version;
    const size_t first = jobs_count;

    pthread_mutex_lock(&around.gate);
    (void)jobs_make("hot", ACCOUNT_DEPOSIT, 6, "k");
    (void)jobs_make("hot", ACCOUNT_DEPOSIT, 5, "k");
    (void)jobs_make("hot", ACCOUNT_DEPOSIT, 6, "k");
    run_as_one_batch(first);
    cr_assert_eq(jobs_all[first].status, 422);
    jobs_expect_text(&jobs_all[first], "idempotency_key_reused");
    cr_assert_eq(jobs_all[first + 1].status, 200, "%d", jobs_all[first + 1].status);
    cr_assert_eq(jobs_all[first + 1].version, version);
    cr_assert(jobs_all[first + 1].replayed);
    cr_assert_eq(jobs_all[first + 2].status, 422);
    cr_assert_not(jobs_all[first + 2].replayed);
}

Test(shard_contended, a_stream_that_is_lost_to_others_takes_no_neighbour_with_it) {
    static const char *const cold[] = {"a", "b", "c", "d"};
    const size_t first = jobs_count;

    around.times = 1000;
    pthread_mutex_lock(&around.gate);
    for (size_t i = 0; i < 4; i++) {
        (void)jobs_make(cold[i], ACCOUNT_OPEN_COMMAND, 0, i % 2 == 0 ? "k" : "");
        (void)jobs_make("hot", ACCOUNT_DEPOSIT, 1, "");
        (void)jobs_make(cold[i], ACCOUNT_DEPOSIT, 2, "");
    }
    run_as_one_batch(first);
    for (size_t i = first; i < jobs_count; i++) {
        const bool hot = strcmp(jobs_all[i].command.stream_id, "hot") == 0;
        cr_assert_eq(jobs_all[i].status < 300, !hot, "%s: %d %.*s", jobs_all[i].command.stream_id,
                     jobs_all[i].status, STR_ARG(jobs_all[i].body));
        cr_assert(!hot || jobs_all[i].version == around.version);
    }
}

Test(shard_contended, a_stream_that_cannot_be_read_fails_alone) {
    const size_t first = jobs_count;

    jobs_write_elsewhere("broken", 2, 100); /* there is no version 1 */
    pthread_mutex_lock(&around.gate);
    (void)jobs_make("a", ACCOUNT_OPEN_COMMAND, 0, "");
    (void)jobs_make("broken", ACCOUNT_DEPOSIT, 1, "");
    (void)jobs_make("a", ACCOUNT_DEPOSIT, 1, "");
    run_as_one_batch(first);
    cr_assert_eq(jobs_all[first].status, 201, "%.*s", STR_ARG(jobs_all[first].body));
    cr_assert_eq(jobs_all[first + 1].status, 500, "%.*s", STR_ARG(jobs_all[first + 1].body));
    cr_assert_eq(jobs_all[first + 2].status, 200, "%.*s", STR_ARG(jobs_all[first + 2].body));
}
