/*
 * What every log view must do, and what PostgreSQL's must do besides: never show a position while a
 * smaller one may still appear. The real one runs when DAYBOOK_TEST_LOG_URL and
 * DAYBOOK_TEST_WRITE_ADMIN_URL name a server; events of this run carry a stream id and an aggregate
 * type of their own.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/adapters/log_mem.h"
#include "common/adapters/view_log_pg.h"
#include "common/base/clock.h"

static struct {
    bool real;
    char stream[48];
    char type[48]; /* of the aggregate */
    struct loop *loop;
    pthread_t thread;
    struct metrics *metrics;
    struct log_mem *mem;
    struct log_mem_client *mem_client;
    struct view_log_pg *pg;
    struct view_log_pg_client *pg_client;
    struct log_view view;
    PGconn *writers[2];
    int64_t version;
    int64_t t0_us; /* now: times in the log rise with positions, more or less */
} l;

static const char *environment(const char *name) {
    const char *value = getenv(name);

    if (value == NULL || value[0] == '\0') {
        cr_skip_test("%s is not set", name);
    }
    return value;
}

static void *run_loop(void *arg) {
    loop_run(arg);
    return NULL;
}

static void begin(bool real) {
    struct err err = {0};

    l.real = real;
    (void)snprintf(l.stream, sizeof(l.stream), "log-%" PRId64, clock_wall_us());
    (void)snprintf(l.type, sizeof(l.type), "contract%" PRId64, clock_wall_us());
    l.t0_us = clock_wall_us() - 60000000;
    l.metrics = metrics_new();
    cr_assert_eq(loop_new(&l.loop, &err), ERR_OK);
    if (real) {
        for (size_t i = 0; i < ARRAY_LEN(l.writers); i++) {
            l.writers[i] = PQconnectdb(environment("DAYBOOK_TEST_WRITE_ADMIN_URL"));
            cr_assert_eq(PQstatus(l.writers[i]), CONNECTION_OK);
        }
        const struct pg_pool_options options = {.url = environment("DAYBOOK_TEST_LOG_URL"),
                                                .threads = 2,
                                                .queue_max = 64,
                                                .connect_timeout_ms = 2000,
                                                .statement_timeout_ms = 5000,
                                                .metrics = l.metrics};
        cr_assert_eq(view_log_pg_start(options, &l.pg, &err), ERR_OK, "%s", err.message);
        l.pg_client = view_log_pg_client_new(l.pg, l.loop);
        l.view = view_log_pg_view(l.pg_client);
    } else {
        l.mem = log_mem_new();
        l.mem_client = log_mem_client_new(l.mem, l.loop);
        l.view = log_mem_view(l.mem_client);
    }
    cr_assert_eq(pthread_create(&l.thread, NULL, run_loop, l.loop), 0);
}

static void end(void) {
    loop_stop(l.loop);
    (void)pthread_join(l.thread, NULL);
    if (l.real) {
        view_log_pg_stop(l.pg);
        view_log_pg_client_free(l.pg_client);
        view_log_pg_free(l.pg);
        PQfinish(l.writers[0]);
        PQfinish(l.writers[1]);
    }
    log_mem_client_free(l.mem_client);
    log_mem_free(l.mem);
    metrics_free(l.metrics);
    loop_free(l.loop);
}

static void sql(size_t writer, const char *text) {
    PGresult *result = PQexec(l.writers[writer], text);

    cr_assert(PQresultStatus(result) == PGRES_COMMAND_OK ||
                  PQresultStatus(result) == PGRES_TUPLES_OK,
              "%s", PQerrorMessage(l.writers[writer]));
    PQclear(result);
}

static void event_id(char out[UUID_TEXT_BYTES], int64_t version) {
    struct uuid id = {{0}};
    const uint64_t time = strtoull(l.stream + 4, NULL, 10);

    for (unsigned i = 0; i < 8; i++) {
        id.bytes[i] = (uint8_t)(time >> (56 - 8 * i));
        id.bytes[8 + i] = (uint8_t)((uint64_t)version >> (56 - 8 * i));
    }
    uuid_format(out, &id);
}

/* The stream's next event, recorded a second after the one before. */
static void append(size_t writer, const char *type) {
    const int64_t version = ++l.version;
    char id[UUID_TEXT_BYTES];
    char time[CLOCK_RFC3339_BYTES];
    char text[1024];

    event_id(id, version);
    (void)clock_format_rfc3339(time, l.t0_us + version * 1000000);
    if (l.real) {
        (void)snprintf(text, sizeof(text),
                       "INSERT INTO daybook.events (event_id, aggregate_type, stream_id, version,"
                       " event_type, schema_version, payload, actor, recorded_at) VALUES ('%s',"
                       " '%s', '%s', %" PRId64 ", '%s', 1, '{\"n\":%" PRId64 "}', 'me', '%s')",
                       id, l.type, l.stream, version, type, version, time);
        sql(writer, text);
        return;
    }
    struct recorded_event event = {
        .aggregate_type = str_from(l.type),
        .stream_id = str_from(l.stream),
        .version = version,
        .event_type = str_from(type),
        .schema_version = 1,
        .actor = STR("me"),
        .recorded_at_us = l.t0_us + version * 1000000,
    };
    cr_assert(uuid_parse(str_from(id), &event.event_id));
    (void)snprintf(text, sizeof(text), "{\"n\":%" PRId64 "}", version);
    event.payload = str_from(text);
    log_mem_append(l.mem, &event);
}

/* --- asking from the test's thread --- */

struct ask {
    sem_t answered;
    struct log_query query;
    enum err_code code;
    struct log_result result;
    int64_t versions[LOG_VIEW_LIMIT_MAX];
    char payload[64]; /* of the first event, and its actor */
    char actor[16];
};

static void on_answer(void *arg, const struct log_result *result) {
    struct ask *ask = arg;

    ask->code = result->code;
    ask->result = *result;
    for (size_t i = 0; i < result->count; i++) {
        ask->versions[i] = result->events[i].version;
    }
    if (result->count > 0) {
        cr_assert(str_copy(ask->payload, sizeof(ask->payload), result->events[0].payload));
        cr_assert(str_copy(ask->actor, sizeof(ask->actor), result->events[0].actor));
    }
    (void)sem_post(&ask->answered);
}

static void post(void *arg) {
    struct ask *ask = arg;
    const enum err_code code = l.view.read(l.view.self, &ask->query, on_answer, ask);

    if (code != ERR_OK) {
        ask->code = code;
        (void)sem_post(&ask->answered);
    }
}

/* Valid until the next call. */
static const struct ask *read_log(const struct log_query *query) {
    static struct ask ask;
    const int64_t limit_us = clock_monotonic_us() + 10000000;
    struct timespec limit;

    do {
        ask = (struct ask){.query = *query};
        (void)sem_init(&ask.answered, 0, 0);
        (void)clock_gettime(CLOCK_REALTIME, &limit);
        limit.tv_sec += 10;
        cr_assert(loop_post(l.loop, post, &ask));
        cr_assert_eq(sem_timedwait(&ask.answered, &limit), 0, "no answer in time");
        cr_assert_lt(clock_monotonic_us(), limit_us, "it does not connect");
    } while (ask.code == ERR_UNAVAILABLE && usleep(2000) == 0);
    return &ask;
}

/* Of this run's events. */
static struct log_query mine(size_t limit) {
    return (struct log_query){.read = LOG_READ_EVENTS,
                              .aggregate_type = str_from(l.type),
                              .from_us = INT64_MIN,
                              .to_us = INT64_MAX,
                              .limit = limit};
}

/* Follows the pages to their end: how many events, their versions in steps from `first`. */
static size_t page_through(struct log_query query, int64_t first, int64_t step) {
    size_t seen = 0;

    for (int pages = 0;; pages++) {
        const struct ask *ask = read_log(&query);
        cr_assert_lt(pages, 1000);
        cr_assert_eq(ask->code, ERR_OK, "%s", err_name(ask->code));
        for (size_t i = 0; i < ask->result.count; i++, seen++) {
            cr_assert_eq(ask->versions[i], first + (int64_t)seen * step);
        }
        if (!ask->result.more) {
            return seen;
        }
        query.place = ask->result.last;
    }
}

/* --- the contract --- */

static void pages_go_both_ways(void) {
    for (int i = 0; i < 25; i++) {
        append(0, i % 5 == 0 ? "Fifth" : "Other");
    }
    struct log_query query = mine(4);
    cr_expect_eq(page_through(query, 1, 1), 25);
    query.backwards = true;
    cr_expect_eq(page_through(query, 25, -1), 25);
    query.event_type = STR("Fifth");
    cr_expect_eq(page_through(query, 21, -5), 5);
    query = mine(4);
    query.from_us = l.t0_us + 3000000;
    query.to_us = l.t0_us + 9000000;
    cr_expect_eq(page_through(query, 3, 1), 6);
    query.backwards = true;
    cr_expect_eq(page_through(query, 8, -1), 6);
    query.read = LOG_READ_SETTLED;
    cr_expect_gt(read_log(&query)->result.settled, 0);
}

static void streams_and_events(void) {
    char id[UUID_TEXT_BYTES];
    struct log_query query = {.read = LOG_READ_AGGREGATE,
                              .id = str_from(l.stream),
                              .aggregate_type = str_from(l.type),
                              .limit = 3};

    for (int i = 0; i < 7; i++) {
        append(0, "It");
    }
    cr_expect_eq(page_through(query, 1, 1), 7);
    cr_expect_eq(read_log(&query)->result.head_version, 7);
    query.backwards = true;
    cr_expect_eq(page_through(query, 7, -1), 7);
    query.backwards = false;
    query.place = 7;
    const struct ask *ask = read_log(&query);
    cr_expect(ask->code == ERR_OK && ask->result.count == 0);
    query.aggregate_type = STR("nothing");
    cr_expect_eq(read_log(&query)->code, ERR_NOT_FOUND);
    query.read = LOG_READ_EVENT;
    event_id(id, 4);
    cr_assert(uuid_parse(str_from(id), &query.event_id));
    ask = read_log(&query);
    cr_assert_eq(ask->code, ERR_OK);
    cr_expect_eq(ask->versions[0], 4);
    cr_expect_str_eq(ask->payload, "{\"n\":4}");
    cr_expect_str_eq(ask->actor, "me");
    event_id(id, 99);
    cr_assert(uuid_parse(str_from(id), &query.event_id));
    cr_expect_eq(read_log(&query)->code, ERR_NOT_FOUND);
}

#define LOG_TESTS(test)                  \
    Test(log_mem, test, .timeout = 60) { \
        begin(false);                    \
        test();                          \
        end();                           \
    }                                    \
    Test(log_pg, test, .timeout = 60) {  \
        begin(true);                     \
        test();                          \
        end();                           \
    }

LOG_TESTS(pages_go_both_ways)
LOG_TESTS(streams_and_events)

/* --- PostgreSQL alone --- */

Test(log_pg, nothing_is_shown_beyond_a_position_that_may_still_appear, .timeout = 60) {
    begin(true);
    /* From here on one page reaches the end, however long the log is. */
    const struct log_query end_of_log = {.read = LOG_READ_SETTLED};
    struct log_query query = mine(10);
    query.place = read_log(&end_of_log)->result.settled;
    append(0, "Before");
    cr_expect_eq(page_through(query, 1, 1), 1);

    sql(0, "BEGIN");
    append(0, "Late");  /* version 2 takes its position */
    append(1, "Early"); /* version 3 a later one, and is committed first */
    const struct ask *ask = read_log(&query);
    cr_expect_eq(ask->result.count, 1, "an event behind an open position is shown");
    cr_expect_lt(ask->result.settled, INT64_MAX);
    sql(0, "COMMIT");
    cr_expect_eq(page_through(query, 1, 1), 3);

    sql(0, "BEGIN");
    append(0, "Never");
    append(1, "Fifth");
    cr_expect_eq(read_log(&query)->result.count, 3);
    sql(0, "ROLLBACK");
    ask = read_log(&query);
    cr_assert_eq(ask->result.count, 4);
    cr_expect_eq(ask->versions[3], 5, "4 was given up");
    end();
}

Test(log_pg, a_long_transaction_elsewhere_disturbs_nobody, .timeout = 60) {
    begin(true);
    sql(0, "BEGIN; CREATE TEMP TABLE elsewhere (i int); INSERT INTO elsewhere VALUES (1)");
    append(1, "It");
    cr_expect_eq(page_through(mine(10), 1, 1), 1);
    sql(0, "ROLLBACK");
    end();
}

Test(log_pg, its_role_can_only_read, .timeout = 60) {
    PGconn *reader = PQconnectdb(environment("DAYBOOK_TEST_LOG_URL"));
    static const char *const writes[] = {"DELETE FROM daybook.events",
                                         "UPDATE daybook.events SET version = 0",
                                         "TRUNCATE daybook.events",
                                         "INSERT INTO daybook.events DEFAULT VALUES",
                                         "SELECT * FROM daybook.command_outcomes",
                                         "CREATE TABLE daybook.mine (i int)"};

    cr_assert_eq(PQstatus(reader), CONNECTION_OK);
    for (size_t i = 0; i < ARRAY_LEN(writes); i++) {
        PGresult *result = PQexec(reader, writes[i]);
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        cr_expect_str_eq(state != NULL ? state : "done", "42501", "%s", writes[i]);
        PQclear(result);
    }
    PQfinish(reader);
}
