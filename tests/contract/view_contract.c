/*
 * What every key view and every row view must do, and what the real ones must do besides. The
 * in-memory views always run; the real ones when DAYBOOK_TEST_REDIS_URL, DAYBOOK_TEST_QUERY_URL and
 * DAYBOOK_TEST_READ_ADMIN_URL name servers. Ids carry a prefix of this run, Redis's databases 9 and
 * 10 are used, and only connections made here are ended, so nothing else on those servers is
 * disturbed.
 */
#include "tests/contract/view_fixture.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"

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
        const struct statement_line *line = &ask->result.lines[i];
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
    cr_expect_str_eq(ask->result.accounts[0].id, id("a"));
    cr_expect_str_eq(ask->result.accounts[2].id, id("c"));
    same_account(&ask->result.accounts[1].account, &sample);
    query.id = str_from(id("c"));
    ask = ask_row(&query);
    cr_expect_str_eq(ask->result.accounts[0].id, id("d"));
    query.id = str_from("~");
    ask = ask_row(&query);
    cr_expect_eq(ask->code, ERR_OK);
    cr_expect_eq(ask->result.count, 0);
    cr_expect_not(ask->result.more);
}

/* --- all adapters --- */

#define KEY_VIEW_TESTS(test)                  \
    Test(memory_views, test, .timeout = 60) { \
        begin(KIND_MEMORY);                   \
        test();                               \
        end();                                \
    }                                         \
    Test(view_redis, test, .timeout = 60) {   \
        begin(KIND_REAL);                     \
        begin_redis(REDIS_DATABASE);          \
        test();                               \
        end();                                \
    }

#define ROW_VIEW_TESTS(test)                  \
    Test(memory_views, test, .timeout = 60) { \
        begin(KIND_MEMORY);                   \
        test();                               \
        end();                                \
    }                                         \
    Test(view_pg, test, .timeout = 60) {      \
        begin(KIND_REAL);                     \
        begin_pg(2, 64);                      \
        test();                               \
        end();                                \
    }

KEY_VIEW_TESTS(key_view_contract)
KEY_VIEW_TESTS(key_view_answers_many_at_once)
ROW_VIEW_TESTS(row_view_reads_accounts)
ROW_VIEW_TESTS(row_view_reads_the_past)
ROW_VIEW_TESTS(row_view_pages_through_statements)
ROW_VIEW_TESTS(row_view_lists_accounts)

/* --- Redis alone --- */

Test(view_redis, a_row_that_makes_no_sense_is_corrupt, .timeout = 60) {
    begin(KIND_REAL);
    begin_redis(REDIS_DATABASE);
    const char *name = id("a");
    const int32_t partition = hash_kafka_partition(str_of(name, strlen(name)), PARTITIONS);
    static const char *const right = "7\topen\tEUR\tZoë\t1\t2\t3";
    static const char *const wrong[] = {
        "",
        "text",
        "0\topen\tEUR\tZoë\t1\t2\t3",
        "x\topen\tEUR\tZoë\t1\t2\t3",
        "\\0\topen\tEUR\tZoë\t1\t2\t3",
        "7\tasleep\tEUR\tZoë\t1\t2\t3",
        "7\topen\tEURO\tZoë\t1\t2\t3",
        "7\topen\tEUR\tZoë\t1.5\t2\t3",
        "7\topen\tEUR\tZoë\t1\t\t3",
        "7\topen\tEUR\tZoë\t1\t2\tnow",
        "7\topen\tEUR\tZoë\t1\t2",
        "7\topen\tEUR\tZoë\t1\t2\t3\t",
        "7\topen\tEUR\tZoë\t1\t2\t3\t4",
    };
    serve();
    command("SET {p%d}:account:%s %s", partition, name, right);
    cr_expect_eq(ask_key(name).code, ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        command("SET {p%d}:account:%s %s", partition, name, wrong[i]);
        cr_expect_eq(ask_key(name).code, ERR_CORRUPT, "%s", wrong[i]);
    }
    command("DEL {p%d}:account:%s", partition, name);
    command("RPUSH {p%d}:account:%s %s", partition, name, right);
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
        if (strncmp(line, "id=", 3) == 0 && strstr(line, field) != NULL) {
            const int64_t client = strtoll(line + 3, NULL, 10);
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
        PGresult *result =
            PQexecParams(superuser,
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
        /* The idle worker may have noticed first and be between two connections: then the read is
         * refused at once. */
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
