/* The shard against the store in memory: decisions, keys, conflicts, lost answers. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "command-api/shard.h"
#include "common/adapters/event_store_mem.h"
#include "common/base/clock.h"
#include "common/domain/account.h"

enum { JOBS = 64 };

static struct {
    struct event_store *store;
    struct shard *shard;
    struct metrics *metrics;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t finished;
} fixture = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static struct command_job jobs[JOBS];
static struct arena arenas[JOBS];
static size_t job_count;

/* `store` is what the shard sees, fixture.store or something around it. */
static void start_on(struct event_store *store) {
    struct err err;

    cr_assert_eq(shard_start(
                     &(struct shard_options){
                         .store = store,
                         .queue_max = JOBS,
                         .batch_max = JOBS,
                         .streams_max = JOBS + 1,
                         .outcome_wait_ms = 200,
                         .metrics = fixture.metrics,
                     },
                     &fixture.shard, &err),
                 ERR_OK);
}

static void set_up(void) {
    fixture.store = event_store_mem_new();
    fixture.metrics = metrics_new();
    start_on(fixture.store);
}

static void tear_down(void) {
    shard_stop(fixture.shard);
    shard_free(fixture.shard);
    fixture.store->ops->free(fixture.store);
    metrics_free(fixture.metrics);
    for (size_t i = 0; i < job_count; i++) {
        arena_release(&arenas[i]);
    }
}

static void finish(struct command_job *job) {
    (void)job;
    pthread_mutex_lock(&fixture.lock);
    fixture.finished++;
    pthread_cond_signal(&fixture.changed);
    pthread_mutex_unlock(&fixture.lock);
}

static struct command_job *make_job(const char *stream, enum account_command which, int64_t dollars,
                                    const char *key) {
    struct command_job *job = &jobs[job_count];
    struct move_money *move = (void *)job->command.data.bytes;

    arena_init(&arenas[job_count], 4096, 65536);
    job->arena = &arenas[job_count++];
    job->aggregate = &account_aggregate;
    job->command.type = &account_aggregate.commands[which];
    cr_assert(str_copy(job->command.stream_id, sizeof(job->command.stream_id), str_from(stream)));
    if (which == ACCOUNT_DEPOSIT || which == ACCOUNT_WITHDRAW) {
        move->amount.coefficient = dollars;
    }
    job->expected_version = EXPECT_ANY;
    job->idempotency_key = str_from(key);
    job->request_hash = which * 1000 + dollars;
    job->correlation_id = STR("corr");
    job->finish = finish;
    return job;
}

static void submit(struct command_job *job) {
    cr_assert_eq(shard_submit(fixture.shard, &job, 1), 1);
}

static void wait_all(void) {
    pthread_mutex_lock(&fixture.lock);
    while (fixture.finished < job_count) {
        pthread_cond_wait(&fixture.changed, &fixture.lock);
    }
    pthread_mutex_unlock(&fixture.lock);
}

static struct command_job *run(const char *stream, enum account_command which, int64_t dollars,
                               const char *key) {
    struct command_job *job = make_job(stream, which, dollars, key);

    submit(job);
    wait_all();
    return job;
}

static void expect_text(const struct command_job *job, const char *text) {
    cr_assert_not_null(memmem(job->body.ptr, job->body.len, text, strlen(text)), "%.*s",
                       STR_ARG(job->body));
}

TestSuite(shard, .init = set_up, .fini = tear_down, .timeout = 10);

Test(shard, accepts_and_answers_with_the_version) {
    cr_assert_eq(run("a", ACCOUNT_OPEN_COMMAND, 0, "")->status, 201);
    const struct command_job *job = run("a", ACCOUNT_DEPOSIT, 5, "");
    cr_assert_eq(job->status, 200);
    cr_assert_eq(job->version, 2);
    expect_text(job, "\"balance\":\"5.00\"");
    cr_assert_eq(event_store_mem_count(fixture.store), 2);
}

Test(shard, rejections_leave_no_event) {
    cr_assert_eq(run("a", ACCOUNT_DEPOSIT, 5, "")->status, 404);
    cr_assert_eq(event_store_mem_count(fixture.store), 0);
}

Test(shard, many_commands_on_one_stream_are_decided_in_order) {
    submit(make_job("a", ACCOUNT_OPEN_COMMAND, 0, ""));
    for (int i = 0; i < 30; i++) {
        submit(make_job("a", ACCOUNT_DEPOSIT, 1, ""));
    }
    submit(make_job("a", ACCOUNT_WITHDRAW, 31, ""));
    submit(make_job("a", ACCOUNT_WITHDRAW, 30, ""));
    wait_all();
    for (size_t i = 0; i < 31; i++) {
        cr_assert_eq(jobs[i].version, (int64_t)i + 1);
    }
    cr_assert_eq(jobs[31].status, 409);
    cr_assert_eq(jobs[32].status, 200);
    expect_text(&jobs[32], "\"balance\":\"0.00\"");
}

Test(shard, a_repeated_key_gets_the_first_answer) {
    run("a", ACCOUNT_OPEN_COMMAND, 0, "");
    const struct command_job *first = run("a", ACCOUNT_DEPOSIT, 5, "k");
    const struct command_job *again = run("a", ACCOUNT_DEPOSIT, 5, "k");
    cr_assert(again->replayed);
    cr_assert_not(first->replayed);
    cr_assert_eq(again->status, 200);
    cr_assert(str_eq(first->body, again->body));
    const struct command_job *other = run("a", ACCOUNT_DEPOSIT, 6, "k");
    cr_assert_eq(other->status, 422);
    cr_assert_eq(event_store_mem_count(fixture.store), 2);
}

Test(shard, a_key_repeated_while_the_first_runs_has_one_effect) {
    submit(make_job("a", ACCOUNT_OPEN_COMMAND, 0, ""));
    for (int i = 0; i < 10; i++) {
        submit(make_job("a", ACCOUNT_DEPOSIT, 5, "k"));
    }
    wait_all();
    for (size_t i = 1; i < job_count; i++) {
        cr_assert_eq(jobs[i].status, 200);
        cr_assert_eq(jobs[i].version, 2);
    }
    cr_assert_eq(event_store_mem_count(fixture.store), 2);
}

/* Another replica: deposits 1.00 behind the shard's back. */
static void write_elsewhere(const char *stream, int64_t version, int64_t balance_minor) {
    struct uuid_source uuids;
    char payload[128];

    (void)snprintf(payload, sizeof(payload),
                   "{\"amount_minor\":100,\"balance_minor\":%" PRId64 ",\"currency\":\"USD\"}",
                   balance_minor);
    uuid_source_init(&uuids);
    const struct recorded_event event = {
        .event_id = uuid_next(&uuids, clock_wall_us()),
        .aggregate_type = STR("account"),
        .stream_id = str_from(stream),
        .version = version,
        .event_type = STR("MoneyDeposited"),
        .schema_version = 1,
        .payload = str_from(payload),
        .recorded_at_us = clock_wall_us(),
    };
    const struct append_batch batch = {&event, 1, NULL, 0};
    cr_assert_eq(fixture.store->ops->append(fixture.store, &batch, NULL), ERR_OK);
}

Test(shard, a_conflict_is_loaded_and_decided_again) {
    run("a", ACCOUNT_OPEN_COMMAND, 0, "");
    run("a", ACCOUNT_DEPOSIT, 5, "");
    write_elsewhere("a", 3, 600);
    const struct command_job *job = run("a", ACCOUNT_WITHDRAW, 6, "");
    cr_assert_eq(job->status, 200, "%.*s", STR_ARG(job->body));
    cr_assert_eq(job->version, 4);
    expect_text(job, "\"balance\":\"0.00\"");
}

Test(shard, an_unmet_precondition_is_412_with_the_version) {
    run("a", ACCOUNT_OPEN_COMMAND, 0, "");
    struct command_job *job = make_job("a", ACCOUNT_DEPOSIT, 5, "");
    job->expected_version = 7;
    submit(job);
    wait_all();
    cr_assert_eq(job->status, 412);
    cr_assert_eq(job->version, 1);
}

Test(shard, a_commit_whose_answer_was_lost_is_found_out) {
    run("a", ACCOUNT_OPEN_COMMAND, 0, "");
    event_store_mem_fail_next(fixture.store, ERR_OUTCOME_UNKNOWN, false);
    cr_assert_eq(run("a", ACCOUNT_DEPOSIT, 5, "")->status, 200);
    cr_assert_eq(event_store_mem_count(fixture.store), 2, "not written twice");
    event_store_mem_fail_next(fixture.store, ERR_OUTCOME_UNKNOWN, true);
    cr_assert_eq(run("a", ACCOUNT_DEPOSIT, 5, "")->version, 3);
    cr_assert_eq(event_store_mem_count(fixture.store), 3, "written after all");
}

Test(shard, an_outage_is_503_and_passes) {
    run("a", ACCOUNT_OPEN_COMMAND, 0, "");
    event_store_mem_fail_next(fixture.store, ERR_UNAVAILABLE, true);
    cr_assert_eq(run("a", ACCOUNT_DEPOSIT, 5, "")->status, 503);
    const struct command_job *job = run("a", ACCOUNT_DEPOSIT, 5, "");
    cr_assert_eq(job->status, 200);
    cr_assert_eq(job->version, 2);
}

Test(shard, refused_data_fail_alone) {
    submit(make_job("a", ACCOUNT_OPEN_COMMAND, 0, ""));
    wait_all();
    /* The next append is refused for its data: with several jobs each is tried alone. */
    event_store_mem_fail_next(fixture.store, ERR_INVALID, true);
    for (int i = 0; i < 5; i++) {
        submit(make_job("a", ACCOUNT_DEPOSIT, 1, ""));
    }
    wait_all();
    size_t failed = 0;
    for (size_t i = 1; i < job_count; i++) {
        failed += jobs[i].status == 500;
        cr_assert(jobs[i].status == 200 || jobs[i].status == 500);
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

static enum err_code append_around(struct event_store *store, const struct append_batch *batch,
                                   struct err *err) {
    (void)store;
    pthread_mutex_lock(&around.gate);
    pthread_mutex_unlock(&around.gate);
    for (size_t i = 0; i < batch->event_count; i++) {
        if (str_eq(batch->events[i].stream_id, str_from(around.stream))) {
            around.tried++;
            if (around.times-- > 0) {
                around.version++;
                write_elsewhere(around.stream, around.version, (around.version - 1) * 100);
            }
            break;
        }
    }
    return fixture.store->ops->append(fixture.store, batch, err);
}

static enum err_code load_around(struct event_store *store, const struct stream_from *streams,
                                 size_t count, event_store_snapshot_fn *snapshot_fn,
                                 event_store_event_fn *fn, void *arg, struct err *err) {
    (void)store;
    return fixture.store->ops->load(fixture.store, streams, count, snapshot_fn, fn, arg, err);
}

static enum err_code was_appended_around(struct event_store *store,
                                         const struct append_batch *batch, bool *appended,
                                         struct err *err) {
    (void)store;
    return fixture.store->ops->was_appended(fixture.store, batch, appended, err);
}

static enum err_code find_outcomes_around(struct event_store *store, const struct outcome_key *keys,
                                          size_t count, event_store_outcome_fn *fn, void *arg,
                                          struct err *err) {
    (void)store;
    return fixture.store->ops->find_outcomes(fixture.store, keys, count, fn, arg, err);
}

static enum err_code check_around(struct event_store *store, struct err *err) {
    (void)store;
    return fixture.store->ops->check(fixture.store, err);
}

static void set_up_around(void) {
    fixture.store = event_store_mem_new();
    fixture.metrics = metrics_new();
    around.ops = (struct event_store_ops){.load = load_around,
                                          .append = append_around,
                                          .was_appended = was_appended_around,
                                          .find_outcomes = find_outcomes_around,
                                          .check = check_around};
    around.base.ops = &around.ops;
    around.stream = "hot";
    start_on(&around.base);
    run("hot", ACCOUNT_OPEN_COMMAND, 0, "");
    around.version = 1;
    around.tried = 0;
}

TestSuite(shard_contended, .init = set_up_around, .fini = tear_down, .timeout = 10);

Test(shard_contended, others_first_a_few_times_cost_only_time) {
    around.times = SHARD_CONFLICT_TRIES_MAX - 1;
    const struct command_job *job = run("hot", ACCOUNT_DEPOSIT, 5, "");
    cr_assert_eq(job->status, 200, "%.*s", STR_ARG(job->body));
    cr_assert_eq(job->version, 1 + SHARD_CONFLICT_TRIES_MAX);
}

Test(shard_contended, others_first_each_time_is_409_with_the_actual_version) {
    around.times = 1000;
    const struct command_job *job = run("hot", ACCOUNT_DEPOSIT, 5, "k");
    cr_assert_eq(job->status, 409);
    expect_text(job, "version_conflict");
    cr_assert_eq(around.tried, SHARD_CONFLICT_TRIES_MAX);
    cr_assert_eq(job->version, around.version);
    around.times = 0;
    cr_assert_eq(run("hot", ACCOUNT_DEPOSIT, 5, "k")->status, 200, "no answer was kept for it");
}

/* Jobs that come while the gate is shut are one batch. */
static void run_as_one_batch(size_t first) {
    submit(make_job("plug", ACCOUNT_OPEN_COMMAND, 0, ""));
    for (size_t i = first; i < job_count - 1; i++) {
        submit(&jobs[i]);
    }
    pthread_mutex_unlock(&around.gate);
    wait_all();
}

Test(shard_contended, a_repeated_key_shares_a_conflict_unmarked) {
    const size_t first = job_count;

    around.times = 1000;
    pthread_mutex_lock(&around.gate);
    (void)make_job("hot", ACCOUNT_DEPOSIT, 5, "k");
    (void)make_job("hot", ACCOUNT_DEPOSIT, 5, "k");
    (void)make_job("hot", ACCOUNT_DEPOSIT, 6, "k");
    run_as_one_batch(first);
    for (size_t i = first; i < first + 3; i++) {
        cr_assert_eq(jobs[i].status, 409, "%zu: %d", i, jobs[i].status);
        cr_assert_not(jobs[i].replayed);
    }
    around.times = 0;
    cr_assert_eq(run("hot", ACCOUNT_DEPOSIT, 6, "k")->status, 200, "no answer was kept for it");
}

Test(shard_contended, a_key_used_before_answers_each_repetition_by_itself) {
    const int64_t version = run("hot", ACCOUNT_DEPOSIT, 5, "k")->version;
    const size_t first = job_count;

    pthread_mutex_lock(&around.gate);
    (void)make_job("hot", ACCOUNT_DEPOSIT, 6, "k");
    (void)make_job("hot", ACCOUNT_DEPOSIT, 5, "k");
    (void)make_job("hot", ACCOUNT_DEPOSIT, 6, "k");
    run_as_one_batch(first);
    cr_assert_eq(jobs[first].status, 422);
    expect_text(&jobs[first], "idempotency_key_reused");
    cr_assert_eq(jobs[first + 1].status, 200, "%d", jobs[first + 1].status);
    cr_assert_eq(jobs[first + 1].version, version);
    cr_assert(jobs[first + 1].replayed);
    cr_assert_eq(jobs[first + 2].status, 422);
    cr_assert_not(jobs[first + 2].replayed);
}

Test(shard_contended, a_stream_that_is_lost_to_others_takes_no_neighbour_with_it) {
    static const char *const cold[] = {"a", "b", "c", "d"};
    const size_t first = job_count;

    around.times = 1000;
    pthread_mutex_lock(&around.gate);
    for (size_t i = 0; i < 4; i++) {
        (void)make_job(cold[i], ACCOUNT_OPEN_COMMAND, 0, i % 2 == 0 ? "k" : "");
        (void)make_job("hot", ACCOUNT_DEPOSIT, 1, "");
        (void)make_job(cold[i], ACCOUNT_DEPOSIT, 2, "");
    }
    run_as_one_batch(first);
    for (size_t i = first; i < job_count; i++) {
        const bool hot = strcmp(jobs[i].command.stream_id, "hot") == 0;
        cr_assert_eq(jobs[i].status < 300, !hot, "%s: %d %.*s", jobs[i].command.stream_id,
                     jobs[i].status, STR_ARG(jobs[i].body));
        cr_assert(!hot || jobs[i].version == around.version);
    }
}

Test(shard_contended, a_stream_that_cannot_be_read_fails_alone) {
    const size_t first = job_count;

    write_elsewhere("broken", 2, 100); /* there is no version 1 */
    pthread_mutex_lock(&around.gate);
    (void)make_job("a", ACCOUNT_OPEN_COMMAND, 0, "");
    (void)make_job("broken", ACCOUNT_DEPOSIT, 1, "");
    (void)make_job("a", ACCOUNT_DEPOSIT, 1, "");
    run_as_one_batch(first);
    cr_assert_eq(jobs[first].status, 201, "%.*s", STR_ARG(jobs[first].body));
    cr_assert_eq(jobs[first + 1].status, 500, "%.*s", STR_ARG(jobs[first + 1].body));
    cr_assert_eq(jobs[first + 2].status, 200, "%.*s", STR_ARG(jobs[first + 2].body));
}
