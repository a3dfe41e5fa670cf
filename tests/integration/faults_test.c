/* Each part is killed or taken away; what was acknowledged is there, and the read model gets to
 * show it. One test after another: they share the stack. */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/environment.h"
#include "../support/http_client.h"
#include "../support/relay_process.h"
#include "../support/shell.h"

#define GATEWAY "DAYBOOK_TEST_GATEWAY"

struct account {
    char id[96];
    long long acknowledged; /* deposits of 1.00 that were answered 200 */
};

static void open_account(struct account *account, const char *prefix) {
    char body[160];

    *account = (struct account){0};
    (void)snprintf(account->id, sizeof(account->id), "%s", fresh_id(prefix));
    (void)snprintf(body, sizeof(body), "{\"id\":\"%s\"}", account->id);
    /* A server that the test before took away may not be reconnected to everywhere yet. */
    const double deadline = now_seconds() + 30;
    for (int status = 0; status != 201;) {
        struct http_answer a = http_post(url_of(GATEWAY, "/accounts"), body);
        status = a.status;
        cr_assert(status == 201 || status == 503, "%d %s", status, a.body);
        cr_assert_lt(now_seconds(), deadline, "%s", a.body);
        http_answer_release(&a);
    }
}

/* One deposit with a key of its own, repeated until it has an answer that stands. */
static void deposit_surely(struct account *account) {
    const double deadline = now_seconds() + 60;
    char key[160];

    (void)snprintf(key, sizeof(key), "Idempotency-Key: %s", fresh_id("k"));
    for (;;) {
        struct http_answer a = http_call(
            &(struct http_call){.method = "POST",
                                .url = url_of(GATEWAY, "/accounts/%s/deposit", account->id),
                                .body = "{\"amount\":1}",
                                .headers = {"Content-Type: application/json", key}});
        const int status = a.status;
        if (status != 200) {
            cr_assert(status == 503 || status == 0, "%d %s", status, a.body);
            cr_assert_lt(now_seconds(), deadline, "no answer within a minute: %d %s", status,
                         a.body);
        }
        http_answer_release(&a);
        if (status == 200) {
            account->acknowledged++;
            return;
        }
    }
}

static void deposit_many(struct account *account, int count) {
    for (int i = 0; i < count; i++) {
        deposit_surely(account);
    }
}

static bool is_visible(void *arg) {
    const struct account *account = arg;
    char balance[32];
    struct http_answer a =
        http_get(url_of(GATEWAY, "/accounts/%s/balance?min_version=%lld&timeout_ms=2000",
                        account->id, account->acknowledged + 1));

    (void)snprintf(balance, sizeof(balance), "%lld.00", account->acknowledged);
    const bool is = a.status == 200 && strcmp(http_answer_text(&a, "balance"), balance) == 0;
    http_answer_release(&a);
    return is;
}

/* The log has each acknowledged deposit once; the read models follow, in both stores. */
static void expect_all(struct account *account) {
    char sql[256];
    PGconn *pg = PQconnectdb(stack_environment("DAYBOOK_TEST_COMMAND_URL"));

    (void)snprintf(sql, sizeof(sql),
                   "SELECT count(*), max(version) FROM daybook.events WHERE "
                   "stream_id = '%s'",
                   account->id);
    PGresult *result = PQexec(pg, sql);
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(pg));
    (void)snprintf(sql, sizeof(sql), "%lld", account->acknowledged + 1);
    cr_assert_str_eq(PQgetvalue(result, 0, 0), sql);
    cr_assert_str_eq(PQgetvalue(result, 0, 1), sql);
    PQclear(result);
    PQfinish(pg);
    cr_assert(eventually(is_visible, account, 60000), "not visible: %s", account->id);
}

static void kill_and_restart(const char *name) {
    struct account account;

    open_account(&account, name);
    deposit_many(&account, 5);
    cr_assert(stack("kill", name));
    if (strcmp(name, "command-api") == 0 || strcmp(name, "query-api") == 0 ||
        strcmp(name, "gateway") == 0) {
        cr_assert(stack("start", name));
        deposit_many(&account, 5);
    } else {
        deposit_many(&account, 5); /* commands go on without it */
        cr_assert(stack("start", name));
    }
    expect_all(&account);
}

TestSuite(faults, .timeout = 180);

Test(faults, command_api_killed) {
    kill_and_restart("command-api");
}

Test(faults, relay_killed) {
    kill_and_restart("relay");
}

/* Events come to Kafka again; the read models stay right. */
Test(faults, relay_that_lost_its_slot) {
    struct account account;

    open_account(&account, "slot");
    deposit_many(&account, 5);
    relay_drop_slot("daybook_relay");
    deposit_many(&account, 5);
    expect_all(&account);
    cr_assert(stack("stop", "relay"));
    relay_drop_slot("daybook_relay");
    deposit_many(&account, 5);
    cr_assert(stack("start", "relay"));
    expect_all(&account);
}

Test(faults, projector_killed) {
    kill_and_restart("projector");
}

Test(faults, query_api_killed) {
    kill_and_restart("query-api");
}

Test(faults, postgresql_gone_for_a_while) {
    struct account account;

    open_account(&account, "pg");
    deposit_many(&account, 3);
    cr_assert(stack("stop", "postgres"));
    const double begin = now_seconds();
    struct http_answer a =
        http_post(url_of(GATEWAY, "/accounts/%s/deposit", account.id), "{\"amount\":1}");
    cr_assert_eq(a.status, 503, "%s", a.body);
    cr_assert_neq(http_answer_header(&a, "Retry-After")[0], '\0');
    cr_assert_lt(now_seconds() - begin, 12.0, "bounded");
    http_answer_release(&a);
    cr_assert(stack("start", "postgres"));
    deposit_many(&account, 3);
    expect_all(&account);
}

Test(faults, kafka_gone_for_a_while) {
    struct account account;

    open_account(&account, "kafka");
    cr_assert(stack("kill", "kafka"));
    deposit_many(&account, 5); /* commands don't need it */
    cr_assert(stack("start", "kafka"));
    deposit_many(&account, 5);
    expect_all(&account);
}

Test(faults, redis_gone_for_a_while) {
    struct account account;

    open_account(&account, "redis");
    deposit_many(&account, 3);
    expect_all(&account);
    cr_assert(stack("stop", "redis"));
    struct http_answer a = http_get(url_of(GATEWAY, "/accounts/%s", account.id));
    cr_assert_eq(a.status, 200, "answered from PostgreSQL: %s", a.body);
    cr_assert_str_eq(http_answer_header(&a, "Daybook-Source"), "postgresql");
    http_answer_release(&a);
    cr_assert(stack("start", "redis"));
    deposit_many(&account, 3);
    expect_all(&account);
}

static bool is_in_redis(void *arg) {
    struct http_answer a = http_get(arg);
    const bool is =
        a.status == 200 && strcmp(http_answer_header(&a, "Daybook-Source"), "redis") == 0;

    http_answer_release(&a);
    return is;
}

Test(faults, redis_that_lost_its_data_is_filled_again) {
    struct account account;
    char url[512];

    open_account(&account, "flush");
    deposit_many(&account, 3);
    expect_all(&account);
    cr_assert(strncmp(redis_command("FLUSHALL"), "OK", 2) == 0);
    /* It is noticed without an event. */
    (void)snprintf(url, sizeof(url), "%s", url_of(GATEWAY, "/accounts/%s", account.id));
    cr_assert(eventually(is_in_redis, url, 60000));
    expect_all(&account);
}
