#include "tests/unit/command-api/jobs.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/event_store_mem.h"
#include "common/base/clock.h"

struct jobs_fixture jobs_fixture;
struct command_job jobs_all[JOBS_MAX];
size_t jobs_count;

static struct arena arenas[JOBS_MAX];
static size_t finished;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards finished */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

void jobs_start_on(struct event_store *store) {
    struct err err;

    cr_assert_eq(shard_start(
                     &(struct shard_options){
                         .store = store,
                         .queue_max = JOBS_MAX,
                         .batch_max = JOBS_MAX,
                         .streams_max = 2 * JOBS_MAX + 1,
                         .outcome_wait_ms = 200,
                         .metrics = jobs_fixture.metrics,
                     },
                     &jobs_fixture.shard, &err),
                 ERR_OK);
}

void jobs_set_up(void) {
    jobs_fixture.store = event_store_mem_new();
    jobs_fixture.metrics = metrics_new();
    jobs_start_on(jobs_fixture.store);
}

void jobs_tear_down(void) {
    shard_stop(jobs_fixture.shard);
    shard_free(jobs_fixture.shard);
    jobs_fixture.store->ops->free(jobs_fixture.store);
    metrics_free(jobs_fixture.metrics);
    for (size_t i = 0; i < jobs_count; i++) {
        arena_release(&arenas[i]);
    }
}

static void finish(struct command_job *job) {
    (void)job;
    pthread_mutex_lock(&lock);
    finished++;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

struct command_job *jobs_make(const char *stream, enum account_command which, int64_t dollars,
                              const char *key) {
    struct command_job *job = &jobs_all[jobs_count];
    struct move_money *move = (void *)job->command.data.bytes;

    arena_init(&arenas[jobs_count], 4096, 65536);
    job->arena = &arenas[jobs_count++];
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

void jobs_submit(struct command_job *job) {
    cr_assert_eq(shard_submit(jobs_fixture.shard, &job, 1), 1);
}

size_t jobs_finished(void) {
    pthread_mutex_lock(&lock);
    const size_t count = finished;
    pthread_mutex_unlock(&lock);
    return count;
}

void jobs_wait_all(void) {
    pthread_mutex_lock(&lock);
    while (finished < jobs_count) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
}

struct command_job *jobs_run(const char *stream, enum account_command which, int64_t dollars,
                             const char *key) {
    struct command_job *job = jobs_make(stream, which, dollars, key);

    jobs_submit(job);
    jobs_wait_all();
    return job;
}

void jobs_expect_text(const struct command_job *job, const char *text) {
    cr_assert_not_null(memmem(job->body.ptr, job->body.len, text, strlen(text)), "%.*s",
                       STR_ARG(job->body));
}

void jobs_write_elsewhere(const char *stream, int64_t version, int64_t balance_minor) {
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
    cr_assert_eq(event_store_append(jobs_fixture.store, &batch, NULL), ERR_OK);
}
