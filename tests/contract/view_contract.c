/*
 * What every key view and every row view must do, and what the real ones must do besides. The in-memory views always
 * run; the real ones when DAYBOOK_TEST_REDIS_URL, DAYBOOK_TEST_QUERY_URL and DAYBOOK_TEST_READ_ADMIN_URL name servers.
 * Ids carry a prefix of this run, Redis's databases 9 and 10 are used, and only connections made here are ended, so
 * nothing else on those servers is disturbed.
 */
#include <criterion/criterion.h>
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/adapters/redis_url.h"
#include "common/adapters/view_mem.h"
#include "common/adapters/view_pg.h"
#include "common/adapters/view_redis.h"
#include "common/base/clock.h"
#include "common/base/hash.h"

enum { PARTITIONS = 6, WAIT_S = 10, REDIS_DATABASE = 9, REDIS_DATABASE_TO_KILL = 10 };
#define T0 INT64_C(1767225600000000) /* 2026-01-01T00:00:00Z */

enum kind { KIND_MEMORY, KIND_REAL };

struct views {
    enum kind kind;
    char prefix[48];
    char ids[8][64]; /* results of id() */
    size_t next_id;
    struct loop *loop;
    pthread_t thread;
    struct metrics *metrics;
    struct key_view keys;
    struct row_view rows;
    struct view_mem *mem;
    struct view_mem_client *mem_client;
    struct view_redis *redis_view;
    struct view_pg *pg;
    struct view_pg_client *pg_client;
    redisContext *redis; /* to fill */
    PGconn *database;    /* to fill */
    char redis_url[512];
    char query_url[512];
};

static struct views v;

/* --- servers --- */

static void command(const char *format, ...) PRINTF_LIKE(1, 2);
static void command(const char *format, ...) {
    va_list args;

    va_start(args, format);
    redisReply *reply = redisvCommand(v.redis, format, args);
    va_end(args);
    cr_assert_not_null(reply, "%s", v.redis->errstr);
    cr_assert_neq(reply->type, REDIS_REPLY_ERROR, "%s", reply->str);
    freeReplyObject(reply);
}

static void sql(const char *format, ...) PRINTF_LIKE(1, 2);
static void sql(const char *format, ...) {
    char text[2048];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    PGresult *result = PQexec(v.database, text);
    cr_assert(PQresultStatus(result) == PGRES_COMMAND_OK ||
                  PQresultStatus(result) == PGRES_TUPLES_OK,
              "%s", PQerrorMessage(v.database));
    PQclear(result);
}

static const char *environment(const char *name) {
    const char *value = getenv(name);

    if (value == NULL || value[0] == '\0') {
        cr_skip_test("%s is not set", name);
    }
    return value;
}

static void connect_redis(int database) {
    const char *text = environment("DAYBOOK_TEST_REDIS_URL");
    struct redis_url url;
    struct err err = {0};

    cr_assert_eq(redis_url_parse(str_from(text), &url, &err), ERR_OK, "%s", err.message);
    v.redis = redisConnect(url.host, url.port);
    cr_assert(v.redis != NULL && v.redis->err == 0);
    if (url.password[0] != '\0') {
        if (url.user[0] != '\0') {
            command("AUTH %s %s", url.user, url.password);
        } else {
            command("AUTH %s", url.password);
        }
    }
    command("SELECT %d", database);
    command("SET daybook:partitions %d", PARTITIONS);
    const char *slash = strrchr(text, '/');
    const bool has_path = slash != NULL && slash > text && slash[-1] != '/';
    (void)snprintf(v.redis_url, sizeof(v.redis_url), "%.*s/%d",
                   has_path ? (int)(slash - text) : (int)strlen(text), text, database);
}

/* --- the views on a loop of their own thread --- */

static void *run_loop(void *arg) {
    loop_run(arg);
    return NULL;
}

static void begin(enum kind kind) {
    struct err err = {0};

    v = (struct views){.kind = kind};
    (void)snprintf(v.prefix, sizeof(v.prefix), "contract-%" PRId64 "-%d", clock_wall_us(),
                   (int)getpid());
    v.metrics = metrics_new();
    cr_assert_eq(loop_new(&v.loop, &err), ERR_OK, "%s", err.message);
    if (kind == KIND_MEMORY) {
        v.mem = view_mem_new();
        v.mem_client = view_mem_client_new(v.mem, v.loop);
        v.keys = view_mem_keys(v.mem_client);
        v.rows = view_mem_rows(v.mem_client);
    }
}

static void begin_redis(int database) {
    struct err err = {0};

    connect_redis(database);
    const struct view_redis_options options = {.url = v.redis_url,
                                               .partitions = PARTITIONS,
                                               .request_timeout_ms = 2000,
                                               .connect_timeout_ms = 2000,
                                               .in_flight_max = 4096,
                                               .loop = v.loop,
                                               .metrics = v.metrics};
    cr_assert_eq(view_redis_new(&options, &v.redis_view, &err), ERR_OK, "%s", err.message);
    v.keys = view_redis_keys(v.redis_view);
}

static void begin_pg(size_t threads, size_t queue_max) {
    struct err err = {0};

    v.database = PQconnectdb(environment("DAYBOOK_TEST_READ_ADMIN_URL"));
    cr_assert_eq(PQstatus(v.database), CONNECTION_OK, "%s", PQerrorMessage(v.database));
    const char *url = environment("DAYBOOK_TEST_QUERY_URL");
    (void)snprintf(v.query_url, sizeof(v.query_url), "%s%capplication_name=%s", url,
                   strchr(url, '?') != NULL ? '&' : '?', v.prefix);
    const struct view_pg_options options = {.url = v.query_url,
                                            .threads = threads,
                                            .queue_max = queue_max,
                                            .connect_timeout_ms = 2000,
                                            .statement_timeout_ms = 5000,
                                            .metrics = v.metrics};
    cr_assert_eq(view_pg_start(&options, &v.pg, &err), ERR_OK, "%s", err.message);
    v.pg_client = view_pg_client_new(v.pg, v.loop);
    v.rows = view_pg_rows(v.pg_client);
}

static void serve(void) {
    cr_assert_eq(pthread_create(&v.thread, NULL, run_loop, v.loop), 0);
}

static void end(void) {
    loop_stop(v.loop);
    (void)pthread_join(v.thread, NULL);
    if (v.pg != NULL) {
        view_pg_stop(v.pg);
        view_pg_client_free(v.pg_client);
        view_pg_free(v.pg);
        sql("DELETE FROM daybook.accounts WHERE account_id LIKE '%s%%'", v.prefix);
        sql("DELETE FROM daybook.statements WHERE account_id LIKE '%s%%'", v.prefix);
        PQfinish(v.database);
    }
    view_redis_free(v.redis_view);
    if (v.redis != NULL) {
        redisFree(v.redis);
    }
    view_mem_client_free(v.mem_client);
    view_mem_free(v.mem);
    metrics_free(v.metrics);
    loop_free(v.loop);
}

static const char *id(const char *name) {
    char *out = v.ids[v.next_id++ % ARRAY_LEN(v.ids)];

    (void)snprintf(out, sizeof(v.ids[0]), "%s-%s", v.prefix, name);
    return out;
}

/* --- filling --- */

static const struct account_view sample = {
    .version = 7,
    .status = ACCOUNT_OPEN,
    .balance_minor = ACCOUNT_BALANCE_MINOR_MAX,
    .opened_at_us = T0 + 1,
    .updated_at_us = T0 + 999999,
    .currency = "EUR",
    .owner = "Zoë O'Neil",
};

static void put_key(const char *name, const struct account_view *account) {
    if (v.kind == KIND_MEMORY) {
        view_mem_put_key(v.mem, str_from(name), account);
        return;
    }
    const int32_t partition = hash_kafka_partition(str_of(name, strlen(name)), PARTITIONS);
    command("HSET {p%d}:account:%s version %" PRId64 " status %s currency %s balance_minor %" PRId64
            " opened_at %" PRId64 " updated_at %" PRId64,
            partition, name, account->version,
            account_status_name(account->status), account->currency, account->balance_minor,
            account->opened_at_us, account->updated_at_us);
    if (account->owner[0] != '\0') {
        command("HSET {p%d}:account:%s owner %s", partition, name, account->owner);
    }
}

static const char *time_text(int64_t wall_us) {
    static char texts[4][CLOCK_RFC3339_BYTES];
    static size_t next;
    char *out = texts[next++ % ARRAY_LEN(texts)];

    (void)clock_format_rfc3339(out, wall_us);
    return out;
}

static void put_row(const char *name, const struct account_view *account) {
    if (v.kind == KIND_MEMORY) {
        view_mem_put_row(v.mem, str_from(name), account);
        return;
    }
    char *owner = PQescapeLiteral(v.database, account->owner, strlen(account->owner));
    sql("INSERT INTO daybook.accounts VALUES ('%s', %" PRId64 ", '%s', '%s', %s, %" PRId64
        ", '%s', '%s')",
        name, account->version, account_status_name(account->status), account->currency, owner,
        account->balance_minor, time_text(account->opened_at_us),
        time_text(account->updated_at_us));
    PQfreemem(owner);
}

/* The account's entries 1 … count: opened, deposits of 5.00 each a second later, the last one closed if asked. */
static void put_lines(const char *name, int64_t count, bool closed) {
    for (int64_t i = 1; i <= count; i++) {
        const char *kind = i == 1 ? "opened" : i == count && closed ? "closed" : "deposit";
        const int64_t at_us = T0 + (i - 1) * 1000000;
        struct statement_line line = {.version = i,
                                      .amount_minor = i == 1 ? 0 : 500,
                                      .balance_minor = (i - 1) * 500,
                                      .recorded_at_us = at_us,
                                      .currency = "EUR"};
        line.event_id.bytes[0] = (uint8_t)i;
        if (v.kind == KIND_MEMORY) {
            (void)snprintf(line.kind, sizeof(line.kind), "%s", kind);
            view_mem_add_line(v.mem, str_from(name), &line);
        } else {
            char event_id[UUID_TEXT_BYTES];
            uuid_format(event_id, &line.event_id);
            sql("INSERT INTO daybook.statements VALUES ('%s', %" PRId64 ", '%s', %" PRId64
                ", %" PRId64 ", 'EUR', '%s', '%s')",
                name, i, kind, line.amount_minor, line.balance_minor, event_id, time_text(at_us));
        }
    }
}

/* --- asking from the test's thread --- */

struct ask {
    sem_t answered;
    struct str id;
    struct row_query query;
    bool inside; /* the call to the view is running */
    enum err_code code;
    bool refused;
    struct account_view account;
    struct row_result result;
    struct statement_line lines[ROW_VIEW_LIMIT_MAX];
    struct account_line accounts[ROW_VIEW_LIMIT_MAX];
};

static void on_key(void *arg, enum err_code code, const struct account_view *account) {
    struct ask *ask = arg;

    cr_assert_not(ask->inside, "an answer came inside the call");
    ask->code = code;
    ask->account = account != NULL ? *account : (struct account_view){0};
    (void)sem_post(&ask->answered);
}

static void on_row(void *arg, const struct row_result *result) {
    struct ask *ask = arg;

    cr_assert_not(ask->inside, "an answer came inside the call");
    ask->result = *result;
    ask->code = result->code;
    cr_assert_leq(result->count, (size_t)ROW_VIEW_LIMIT_MAX);
    if (result->lines != NULL) {
        memcpy(ask->lines, result->lines, result->count * sizeof(ask->lines[0]));
    }
    if (result->accounts != NULL) {
        memcpy(ask->accounts, result->accounts, result->count * sizeof(ask->accounts[0]));
    }
    (void)sem_post(&ask->answered);
}

static void refuse(struct ask *ask, enum err_code code) {
    ask->code = code;
    ask->refused = true;
    (void)sem_post(&ask->answered);
}

static void post_key(void *arg) {
    struct ask *ask = arg;

    ask->inside = true;
    const enum err_code code = v.keys.account(v.keys.self, ask->id, on_key, ask);
    ask->inside = false;
    if (code != ERR_OK) {
        refuse(ask, code);
    }
}

static void post_row(void *arg) {
    struct ask *ask = arg;

    ask->inside = true;
    const enum err_code code = v.rows.read(v.rows.self, &ask->query, on_row, ask);
    ask->inside = false;
    if (code != ERR_OK) {
        refuse(ask, code);
    }
}

static void await(struct ask *ask) {
    struct timespec limit;

    (void)clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += WAIT_S;
    cr_assert_eq(sem_timedwait(&ask->answered, &limit), 0, "no answer in time");
}

static struct ask ask_key_once(const char *name) {
    struct ask ask = {.id = str_from(name)};

    (void)sem_init(&ask.answered, 0, 0);
    cr_assert(loop_post(v.loop, post_key, &ask));
    await(&ask);
    return ask;
}

/* Until the view is connected; the in-memory one always is. */
static struct ask ask_key(const char *name) {
    const int64_t limit_us = clock_monotonic_us() + INT64_C(1000000) * WAIT_S;
    struct ask ask = ask_key_once(name);

    while (ask.code == ERR_UNAVAILABLE) {
        cr_assert_lt(clock_monotonic_us(), limit_us, "the view does not connect");
        (void)usleep(2000);
        ask = ask_key_once(name);
    }
    return ask;
}

static struct ask *ask_row(const struct row_query *query) {
    static struct ask ask;
    const int64_t limit_us = clock_monotonic_us() + INT64_C(1000000) * WAIT_S;

    do {
        ask = (struct ask){.query = *query};
        (void)sem_init(&ask.answered, 0, 0);
        cr_assert(loop_post(v.loop, post_row, &ask));
        await(&ask);
        cr_assert_lt(clock_monotonic_us(), limit_us, "the view does not connect");
    } while (ask.code == ERR_UNAVAILABLE && usleep(2000) == 0);
    return &ask;
}

static void same_account(const struct account_view *seen, const struct account_view *wanted) {
    cr_expect_eq(seen->version, wanted->version);
    cr_expect_eq(seen->status, wanted->status);
    cr_expect_eq(seen->balance_minor, wanted->balance_minor);
    cr_expect_eq(seen->opened_at_us, wanted->opened_at_us);
    cr_expect_eq(seen->updated_at_us, wanted->updated_at_us);
    cr_expect_str_eq(seen->currency, wanted->currency);
    cr_expect_str_eq(seen->owner, wanted->owner);
}

/* --- the key view's contract --- */

static void key_view_contract(void) {
    struct account_view closed = sample;
    struct ask ask;

    closed.status = ACCOUNT_CLOSED;
    closed.owner[0] = '\0';
    closed.balance_minor = 0;
    put_key(id("open"), &sample);
    put_key(id("closed"), &closed);
    serve();

    ask = ask_key(id("open"));
    cr_expect_eq(ask.code, ERR_OK);
    same_account(&ask.account, &sample);
    ask = ask_key(id("closed"));
    cr_expect_eq(ask.code, ERR_OK);
    same_account(&ask.account, &closed);
    ask = ask_key(id("nobody"));
    cr_expect_eq(ask.code, ERR_NOT_FOUND);

    closed.version = 8;
    put_key(id("open"), &closed);
    ask = ask_key(id("open"));
    cr_expect_eq(ask.account.version, 8);
}

enum { MANY = 1000 };
static struct ask many[MANY];

static void post_many_keys(void *arg) {
    (void)arg;
    for (size_t i = 0; i < MANY; i++) {
        post_key(&many[i]);
    }
}

/* All asked in one turn of the loop. */
static void key_view_answers_many_at_once(void) {
    static char names[MANY][64];

    for (size_t i = 0; i < MANY; i++) {
        struct account_view account = sample;
        account.version = (int64_t)i + 1;
        (void)snprintf(names[i], sizeof(names[i]), "%s-%zu", v.prefix, i);
        if (i % 10 != 9) {
            put_key(names[i], &account);
        }
        many[i] = (struct ask){.id = str_from(names[i])};
        (void)sem_init(&many[i].answered, 0, 0);
    }
    serve();
    (void)ask_key(names[0]);
    cr_assert(loop_post(v.loop, post_many_keys, NULL));
    for (size_t i = 0; i < MANY; i++) {
        await(&many[i]);
        cr_assert_eq(many[i].code, i % 10 != 9 ? ERR_OK : ERR_NOT_FOUND, "%zu", i);
        cr_assert_eq(many[i].account.version, i % 10 != 9 ? (int64_t)i + 1 : 0, "%zu", i);
    }
}

/* --- the row view's contract --- */

static void row_view_reads_accounts(void) {
    const struct ask *ask = NULL;
    struct account_view closed = sample;

    closed.status = ACCOUNT_CLOSED;
    closed.owner[0] = '\0';
    put_row(id("open"), &sample);
    put_row(id("closed"), &closed);
    serve();

    ask = ask_row(&(struct row_query){.read = ROW_READ_ACCOUNT, .id = str_from(id("open"))});
    cr_expect_eq(ask->code, ERR_OK);
    same_account(&ask->result.account, &sample);
    cr_expect_eq(ask->result.head_version, sample.version);
    ask = ask_row(&(struct row_query){.read = ROW_READ_ACCOUNT, .id = str_from(id("closed"))});
    same_account(&ask->result.account, &closed);
    ask = ask_row(&(struct row_query){.read = ROW_READ_ACCOUNT, .id = str_from(id("nobody"))});
    cr_expect_eq(ask->code, ERR_NOT_FOUND);
}

static void past_is(const struct row_query *query, int64_t version, enum account_status status) {
    const struct ask *ask = ask_row(query);

    cr_assert_eq(ask->code, ERR_OK);
    cr_expect_eq(ask->result.account.version, version);
    cr_expect_eq(ask->result.head_version, 4);
    if (version > 0) {
        cr_expect_eq(ask->result.account.status, status);
        cr_expect_eq(ask->result.account.balance_minor, (version - 1) * 500);
        cr_expect_eq(ask->result.account.opened_at_us, T0);
        cr_expect_eq(ask->result.account.updated_at_us, T0 + (version - 1) * 1000000);
        cr_expect_str_eq(ask->result.account.currency, "EUR");
        cr_expect_str_eq(ask->result.account.owner, sample.owner);
    }
}

static void row_view_reads_the_past(void) {
    struct row_query query = {.id = str_from(id("a"))};

    put_row(query.id.ptr, &sample);
    put_lines(query.id.ptr, 4, true);
    serve();

    query.read = ROW_READ_ACCOUNT_AT_VERSION;
    for (query.version = 1; query.version <= 4; query.version++) {
        past_is(&query, query.version, query.version == 4 ? ACCOUNT_CLOSED : ACCOUNT_OPEN);
    }
    past_is(&query, 0, ACCOUNT_NONE); /* version 5 */
    query = (struct row_query){.read = ROW_READ_ACCOUNT_AT_TIME, .id = query.id};
    query.at_us = T0 - 1;
    past_is(&query, 0, ACCOUNT_NONE);
    query.at_us = T0;
    past_is(&query, 1, ACCOUNT_OPEN);
    query.at_us = T0 + 999999;
    past_is(&query, 1, ACCOUNT_OPEN);
    query.at_us = T0 + 1000000;
    past_is(&query, 2, ACCOUNT_OPEN);
    query.at_us = T0 + INT64_C(1000000000000);
    past_is(&query, 4, ACCOUNT_CLOSED);
    query.id = str_from(id("nobody"));
    cr_expect_eq(ask_row(&query)->code, ERR_NOT_FOUND);
    query.read = ROW_READ_ACCOUNT_AT_VERSION;
    query.version = 1;
    cr_expect_eq(ask_row(&query)->code, ERR_NOT_FOUND);
}

static void statement_is(const struct row_query *query, int64_t first, size_t count, bool more) {
    const struct ask *ask = ask_row(query);

    cr_assert_eq(ask->code, ERR_OK);
    cr_expect_eq(ask->result.head_version, 5);
    cr_assert_eq(ask->result.count, count);
    cr_expect_eq(ask->result.more, more);
    for (size_t i = 0; i < count; i++) {
        const struct statement_line *line = &ask->lines[i];
        const int64_t version = first - (int64_t)i;
        cr_expect_eq(line->version, version);
        cr_expect_str_eq(line->kind, version == 1 ? "opened" : "deposit");
        cr_expect_eq(line->amount_minor, version == 1 ? 0 : 500);
        cr_expect_eq(line->balance_minor, (version - 1) * 500);
        cr_expect_eq(line->recorded_at_us, T0 + (version - 1) * 1000000);
        cr_expect_eq(line->event_id.bytes[0], (uint8_t)version);
        cr_expect_str_eq(line->currency, "EUR");
    }
}

static void row_view_pages_through_statements(void) {
    struct row_query query = {.read = ROW_READ_STATEMENT, .id = str_from(id("a")), .limit = 2};

    put_lines(query.id.ptr, 5, false);
    serve();

    statement_is(&query, 5, 2, true);
    query.before_version = 4;
    statement_is(&query, 3, 2, true);
    query.before_version = 2;
    statement_is(&query, 1, 1, false);
    query.before_version = 1;
    statement_is(&query, 0, 0, false);
    query = (struct row_query){.read = ROW_READ_STATEMENT, .id = query.id, .limit = 5};
    statement_is(&query, 5, 5, false);
    query.limit = ROW_VIEW_LIMIT_MAX;
    statement_is(&query, 5, 5, false);
    query.id = str_from(id("nobody"));
    cr_expect_eq(ask_row(&query)->code, ERR_NOT_FOUND);
}

static void row_view_lists_accounts(void) {
    static const char *const names[] = {"c", "a", "d", "b"};
    struct row_query query = {.read = ROW_READ_ACCOUNTS, .id = str_from(v.prefix), .limit = 3};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        put_row(id(names[i]), &sample);
    }
    serve();

    const struct ask *ask = ask_row(&query);
    cr_assert_eq(ask->code, ERR_OK);
    cr_assert_eq(ask->result.count, 3);
    cr_expect(ask->result.more);
    cr_expect_str_eq(ask->accounts[0].id, id("a"));
    cr_expect_str_eq(ask->accounts[2].id, id("c"));
    same_account(&ask->accounts[1].account, &sample);
    query.id = str_from(id("c"));
    ask = ask_row(&query);
    cr_expect_str_eq(ask->accounts[0].id, id("d"));
    query.id = str_from("~");
    ask = ask_row(&query);
    cr_expect_eq(ask->code, ERR_OK);
    cr_expect_eq(ask->result.count, 0);
    cr_expect_not(ask->result.more);
}

/* --- all adapters --- */

#define KEY_VIEW_TESTS(test)                                                                       \
    Test(memory_views, test, .timeout = 60) {                                                      \
        begin(KIND_MEMORY);                                                                        \
        test();                                                                                    \
        end();                                                                                     \
    }                                                                                              \
    Test(view_redis, test, .timeout = 60) {                                                        \
        begin(KIND_REAL);                                                                          \
        begin_redis(REDIS_DATABASE);                                                                             \
        test();                                                                                    \
        end();                                                                                     \
    }

#define ROW_VIEW_TESTS(test)                                                                       \
    Test(memory_views, test, .timeout = 60) {                                                      \
        begin(KIND_MEMORY);                                                                        \
        test();                                                                                    \
        end();                                                                                     \
    }                                                                                              \
    Test(view_pg, test, .timeout = 60) {                                                           \
        begin(KIND_REAL);                                                                          \
        begin_pg(2, 64);                                                                           \
        test();                                                                                    \
        end();                                                                                     \
    }

KEY_VIEW_TESTS(key_view_contract)
KEY_VIEW_TESTS(key_view_answers_many_at_once)
ROW_VIEW_TESTS(row_view_reads_accounts)
ROW_VIEW_TESTS(row_view_reads_the_past)
ROW_VIEW_TESTS(row_view_pages_through_statements)
ROW_VIEW_TESTS(row_view_lists_accounts)

/* --- Redis alone --- */

Test(view_redis, a_hash_that_makes_no_sense_is_corrupt, .timeout = 60) {
    begin(KIND_REAL);
    begin_redis(REDIS_DATABASE);
    const char *name = id("a");
    const int32_t partition = hash_kafka_partition(str_of(name, strlen(name)), PARTITIONS);
    static const char *const wrong[][2] = {{"version", "0"},      {"version", "x"},
                                           {"status", "asleep"},  {"balance_minor", "1.5"},
                                           {"currency", "EURO"},  {"opened_at", ""},
                                           {"updated_at", "now"}};
    serve();
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        put_key(name, &sample);
        command("HSET {p%d}:account:%s %s %s", partition, name, wrong[i][0], wrong[i][1]);
        cr_expect_eq(ask_key(name).code, ERR_CORRUPT, "%s", wrong[i][0]);
    }
    put_key(name, &sample);
    command("HDEL {p%d}:account:%s version", partition, name);
    cr_expect_eq(ask_key(name).code, ERR_CORRUPT);
    command("DEL {p%d}:account:%s", partition, name);
    command("SET {p%d}:account:%s text", partition, name);
    cr_expect_eq(ask_key(name).code, ERR_CORRUPT);
    command("DEL {p%d}:account:%s", partition, name);
    end();
}

/* Ends all connections that use the database, but for our own. */
static size_t kill_connections(int database) {
    size_t killed = 0;
    char field[16];
    redisReply *list = redisCommand(v.redis, "CLIENT LIST");

    cr_assert(list != NULL && list->type == REDIS_REPLY_STRING);
    (void)snprintf(field, sizeof(field), " db=%d ", database);
    char *rest = NULL;
    for (char *line = strtok_r(list->str, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        int64_t client = 0;
        if (strstr(line, field) != NULL && sscanf(line, "id=%" SCNd64, &client) == 1) {
            command("CLIENT KILL ID %" PRId64 " SKIPME yes", client);
            killed++;
        }
    }
    freeReplyObject(list);
    return killed - 1; /* the list has ourselves as well */
}

Test(view_redis, recovers_from_a_killed_connection, .timeout = 60) {
    begin(KIND_REAL);
    begin_redis(REDIS_DATABASE_TO_KILL);
    put_key(id("a"), &sample);
    serve();
    cr_expect_eq(ask_key(id("a")).code, ERR_OK);
    for (int i = 0; i < 5; i++) {
        cr_expect_eq(kill_connections(REDIS_DATABASE_TO_KILL), 1);
        cr_expect_eq(ask_key(id("a")).code, ERR_OK);
    }
    end();
}

/* --- PostgreSQL alone --- */

Test(view_pg, a_terminated_connection_goes_unnoticed_by_readers, .timeout = 60) {
    begin(KIND_REAL);
    begin_pg(1, 64);
    const struct row_query query = {.read = ROW_READ_ACCOUNT, .id = str_from(id("a"))};
    PGconn *superuser = PQconnectdb(environment("DAYBOOK_TEST_SUPERUSER_URL"));
    cr_assert_eq(PQstatus(superuser), CONNECTION_OK, "%s", PQerrorMessage(superuser));
    put_row(query.id.ptr, &sample);
    serve();
    cr_expect_eq(ask_row(&query)->code, ERR_OK);
    for (int i = 0; i < 3; i++) {
        const char *const names[] = {v.prefix};
        PGresult *result = PQexecParams(
            superuser,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = $1",
            1, NULL, names, NULL, NULL, 0);
        cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK);
        cr_expect_eq(PQntuples(result), 1);
        PQclear(result);
        struct ask ask = {.query = query};
        (void)sem_init(&ask.answered, 0, 0);
        cr_assert(loop_post(v.loop, post_row, &ask));
        await(&ask);
        /* The idle worker may have noticed first and be between two connections: then the read is refused at once. */
        cr_expect(ask.code == ERR_OK || (ask.refused && ask.code == ERR_UNAVAILABLE), "%s",
                  err_name(ask.code));
        cr_expect_eq(ask_row(&query)->code, ERR_OK);
    }
    PQfinish(superuser);
    end();
}

static void post_many_rows(void *arg) {
    (void)arg;
    for (size_t i = 0; i < MANY; i++) {
        post_row(&many[i]);
    }
}

Test(view_pg, a_full_queue_refuses_and_the_accepted_are_answered, .timeout = 60) {
    size_t refused = 0;

    begin(KIND_REAL);
    begin_pg(1, 8);
    const struct row_query query = {.read = ROW_READ_ACCOUNT, .id = str_from(id("a"))};
    put_row(query.id.ptr, &sample);
    for (size_t i = 0; i < MANY; i++) {
        many[i] = (struct ask){.query = query};
        (void)sem_init(&many[i].answered, 0, 0);
    }
    serve();
    (void)ask_row(&query);
    cr_assert(loop_post(v.loop, post_many_rows, NULL));
    for (size_t i = 0; i < MANY; i++) {
        await(&many[i]);
        refused += many[i].refused;
        cr_assert_eq(many[i].code, many[i].refused ? ERR_LIMIT : ERR_OK);
    }
    cr_expect_gt(refused, 0);
    cr_expect_leq(refused, (size_t)MANY - 8);
    end();
}
