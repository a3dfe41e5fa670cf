#include "tests/contract/view_fixture.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/adapters/redis_url.h"
#include "common/base/clock.h"
#include "common/base/hash.h"

enum { WAIT_S = 10, KEYS_LIVE_S = 600 };

struct views v;

/* --- servers --- */

void command(const char *format, ...) {
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
    /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it was, on the line above */
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    PGresult *result = PQexec(v.database, text);
    cr_assert(PQresultStatus(result) == PGRES_COMMAND_OK ||
                  PQresultStatus(result) == PGRES_TUPLES_OK,
              "%s", PQerrorMessage(v.database));
    PQclear(result);
}

const char *environment(const char *name) {
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

void begin(enum kind kind) {
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

void begin_redis(int database) {
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

void begin_pg(size_t threads, size_t queue_max) {
    struct err err = {0};

    v.database = PQconnectdb(environment("DAYBOOK_TEST_READ_ADMIN_URL"));
    cr_assert_eq(PQstatus(v.database), CONNECTION_OK, "%s", PQerrorMessage(v.database));
    const char *url = environment("DAYBOOK_TEST_QUERY_URL");
    (void)snprintf(v.query_url, sizeof(v.query_url), "%s%capplication_name=%s", url,
                   strchr(url, '?') != NULL ? '&' : '?', v.prefix);
    const struct pg_pool_options options = {.url = v.query_url,
                                            .threads = threads,
                                            .queue_max = queue_max,
                                            .connect_timeout_ms = 2000,
                                            .statement_timeout_ms = 5000,
                                            .metrics = v.metrics};
    cr_assert_eq(view_pg_start(options, &v.pg, &err), ERR_OK, "%s", err.message);
    v.pg_client = pg_pool_client_new(v.pg, v.loop);
    v.rows = view_pg_rows(v.pg_client);
}

void serve(void) {
    cr_assert_eq(pthread_create(&v.thread, NULL, run_loop, v.loop), 0);
}

void end(void) {
    loop_stop(v.loop);
    (void)pthread_join(v.thread, NULL);
    if (v.pg != NULL) {
        pg_pool_stop(v.pg);
        pg_pool_client_free(v.pg_client);
        pg_pool_free(v.pg);
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

const char *id(const char *name) {
    char *out = v.ids[v.next_id++ % ARRAY_LEN(v.ids)];

    (void)snprintf(out, sizeof(v.ids[0]), "%s-%s", v.prefix, name);
    return out;
}

/* --- filling --- */

const struct account_view sample = {
    .version = 7,
    .status = ACCOUNT_OPEN,
    .balance_minor = ACCOUNT_BALANCE_MINOR_MAX,
    .opened_at_us = T0 + 1,
    .updated_at_us = T0 + 999999,
    .currency = "EUR",
    .owner = "Zoë O'Neil",
};

void put_key(const char *name, const struct account_view *account) {
    if (v.kind == KIND_MEMORY) {
        view_mem_put_key(v.mem, str_from(name), account);
        return;
    }
    const int32_t partition = hash_kafka_partition(str_of(name, strlen(name)), PARTITIONS);
    const char *owner = account->owner[0] != '\0' ? account->owner : "\\0";
    command("SET {p%d}:account:%s %" PRId64 "\t%s\t%s\t%s\t%" PRId64 "\t%" PRId64 "\t%" PRId64,
            partition, name, account->version, account_status_name(account->status),
            account->currency, owner, account->balance_minor, account->opened_at_us,
            account->updated_at_us);
    command("EXPIRE {p%d}:account:%s %d", partition, name, KEYS_LIVE_S);
}

static const char *time_text(int64_t wall_us) {
    static char texts[4][CLOCK_RFC3339_BYTES];
    static size_t next;
    char *out = texts[next++ % ARRAY_LEN(texts)];

    (void)clock_format_rfc3339(out, wall_us);
    return out;
}

void put_row(const char *name, const struct account_view *account) {
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

void put_lines(const char *name, int64_t count, bool closed) {
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
    if (ask->rows != NULL && result->lines != NULL) {
        memcpy(ask->rows->lines, result->lines, result->count * sizeof(result->lines[0]));
        ask->result.lines = ask->rows->lines;
    }
    if (ask->rows != NULL && result->accounts != NULL) {
        memcpy(ask->rows->accounts, result->accounts, result->count * sizeof(result->accounts[0]));
        ask->result.accounts = ask->rows->accounts;
    }
    (void)sem_post(&ask->answered);
}

static void refuse(struct ask *ask, enum err_code code) {
    ask->code = code;
    ask->refused = true;
    (void)sem_post(&ask->answered);
}

void post_key(void *arg) {
    struct ask *ask = arg;

    ask->inside = true;
    const enum err_code code = v.keys.account(v.keys.self, ask->id, on_key, ask);
    ask->inside = false;
    if (code != ERR_OK) {
        refuse(ask, code);
    }
}

void post_row(void *arg) {
    struct ask *ask = arg;

    ask->inside = true;
    const enum err_code code = v.rows.read(v.rows.self, &ask->query, on_row, ask);
    ask->inside = false;
    if (code != ERR_OK) {
        refuse(ask, code);
    }
}

void await(struct ask *ask) {
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

struct ask ask_key(const char *name) {
    const int64_t limit_us = clock_monotonic_us() + INT64_C(1000000) * WAIT_S;
    struct ask ask = ask_key_once(name);

    while (ask.code == ERR_UNAVAILABLE) {
        cr_assert_lt(clock_monotonic_us(), limit_us, "the view does not connect");
        (void)usleep(2000);
        ask = ask_key_once(name);
    }
    return ask;
}

const struct ask *ask_row(const struct row_query *query) {
    static struct copied_rows rows;
    static struct ask ask;
    const int64_t limit_us = clock_monotonic_us() + INT64_C(1000000) * WAIT_S;

    do {
        ask = (struct ask){.query = *query, .rows = &rows};
        (void)sem_init(&ask.answered, 0, 0);
        cr_assert(loop_post(v.loop, post_row, &ask));
        await(&ask);
        cr_assert_lt(clock_monotonic_us(), limit_us, "the view does not connect");
    } while (ask.code == ERR_UNAVAILABLE && usleep(2000) == 0);
    return &ask;
}

void same_account(const struct account_view *seen, const struct account_view *wanted) {
    cr_expect_eq(seen->version, wanted->version);
    cr_expect_eq(seen->status, wanted->status);
    cr_expect_eq(seen->balance_minor, wanted->balance_minor);
    cr_expect_eq(seen->opened_at_us, wanted->opened_at_us);
    cr_expect_eq(seen->updated_at_us, wanted->updated_at_us);
    cr_expect_str_eq(seen->currency, wanted->currency);
    cr_expect_str_eq(seen->owner, wanted->owner);
}
