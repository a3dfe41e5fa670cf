/* Through the gateway: what users do. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/environment.h"
#include "../support/http_client.h"

#define GATEWAY "DAYBOOK_TEST_GATEWAY"

static void open_account(const char *id) {
    char body[256];

    (void)snprintf(body, sizeof(body), "{\"id\": \"%s\"}", id);
    struct http_answer answer = http_post(url_of(GATEWAY, "/accounts"), body);
    cr_assert_eq(answer.status, 201, "%s", answer.body);
    http_answer_release(&answer);
}

static void move(const char *id, const char *action, const char *amount, int status) {
    char body[256];

    (void)snprintf(body, sizeof(body), "{\"amount\": \"%s\"}", amount);
    struct http_answer answer = http_post(url_of(GATEWAY, "/accounts/%s/%s", id, action), body);
    cr_assert_eq(answer.status, status, "%s %s: %s", action, amount, answer.body);
    http_answer_release(&answer);
}

static void expect_balance(const char *id, int version, const char *balance) {
    struct http_answer answer = http_get(
        url_of(GATEWAY, "/accounts/%s/balance?min_version=%d&timeout_ms=10000", id, version));
    cr_assert_eq(answer.status, 200, "%s", answer.body);
    cr_assert_str_eq(http_answer_text(&answer, "balance"), balance);
    cr_assert_geq(http_answer_number(&answer, "version"), version);
    http_answer_release(&answer);
}

static bool balance_is_350(void *arg) {
    struct http_answer answer = http_get(arg);
    const bool is =
        answer.status == 200 && strcmp(http_answer_text(&answer, "balance"), "350.00") == 0;

    http_answer_release(&answer);
    return is;
}

/* The predecessor's requests word for word, but for the id and that reads follow writes at once. */
Test(accounts, the_five_requests_end_with_350) {
    static const char *const headers[] = {"Content-Type: application/json"};
    const char *id = fresh_id("account123");
    char body[256];
    char url[512];

    (void)snprintf(body, sizeof(body), "{\"ID\": \"%s\"}", id);
    struct http_answer a = http_post(url_of(GATEWAY, "/accounts"), body);
    cr_assert_eq(a.status, 201, "%s", a.body);
    http_answer_release(&a);
    a = http_post(url_of(GATEWAY, "/accounts/%s/deposit", id), "{\"Amount\": 500.00}");
    cr_assert_eq(a.status, 200, "%s", a.body);
    cr_assert_str_eq(http_answer_text(&a, "balance"), "500.00");
    http_answer_release(&a);
    a = http_call(&(struct http_call){.method = "GET",
                                      .url = url_of(GATEWAY, "/accounts/%s/balance", id),
                                      .headers = {headers[0]}});
    cr_assert(a.status == 200 || a.status == 404, "%s", a.body);
    http_answer_release(&a);
    a = http_post(url_of(GATEWAY, "/accounts/%s/withdraw", id), "{\"Amount\": 150.00}");
    cr_assert_eq(a.status, 200, "%s", a.body);
    cr_assert_str_eq(http_answer_text(&a, "balance"), "350.00");
    http_answer_release(&a);
    (void)snprintf(url, sizeof(url), "%s", url_of(GATEWAY, "/accounts/%s/balance", id));
    cr_assert(eventually(balance_is_350, url, 10000));
}

Test(accounts, opening_answers_201_with_location_and_version) {
    const char *id = fresh_id("open");
    char body[256];
    char location[256];

    (void)snprintf(body, sizeof(body), "{\"id\":\"%s\",\"owner\":\"Ada\",\"currency\":\"EUR\"}",
                   id);
    struct http_answer a = http_post(url_of(GATEWAY, "/accounts"), body);
    cr_assert_eq(a.status, 201, "%s", a.body);
    (void)snprintf(location, sizeof(location), "/accounts/%s", id);
    cr_assert_str_eq(http_answer_header(&a, "Location"), location);
    cr_assert_str_eq(http_answer_header(&a, "ETag"), "\"1\"");
    cr_assert_str_eq(http_answer_text(&a, "id"), id);
    cr_assert_str_eq(http_answer_text(&a, "currency"), "EUR");
    cr_assert_str_eq(http_answer_text(&a, "owner"), "Ada");
    http_answer_release(&a);
    a = http_post(url_of(GATEWAY, "/accounts"), body);
    cr_assert_eq(a.status, 409);
    cr_assert_str_eq(http_answer_text(&a, "code"), "account_exists");
    http_answer_release(&a);
}

Test(accounts, without_an_id_one_is_made) {
    struct http_answer a = http_post(url_of(GATEWAY, "/accounts"), "{}");

    cr_assert_eq(a.status, 201, "%s", a.body);
    cr_assert_eq(strlen(http_answer_text(&a, "id")), 36);
    http_answer_release(&a);
}

Test(accounts, deposits_withdrawals_and_closing_follow_the_rules) {
    const char *id = fresh_id("rules");

    open_account(id);
    move(id, "deposit", "100.00", 200);
    move(id, "withdraw", "100.01", 409);
    struct http_answer a = http_post(url_of(GATEWAY, "/accounts/%s/close", id), "");
    cr_assert_eq(a.status, 409, "%s", a.body);
    cr_assert_str_eq(http_answer_text(&a, "code"), "balance_not_zero");
    http_answer_release(&a);
    move(id, "withdraw", "100.00", 200);
    a = http_call(
        &(struct http_call){.method = "POST", .url = url_of(GATEWAY, "/accounts/%s/close", id)});
    cr_assert_eq(a.status, 200, "%s", a.body);
    cr_assert_str_eq(http_answer_text(&a, "status"), "closed");
    http_answer_release(&a);
    a = http_post(url_of(GATEWAY, "/accounts/%s/deposit", id), "{\"amount\":1}");
    cr_assert_eq(a.status, 409);
    cr_assert_str_eq(http_answer_text(&a, "code"), "account_closed");
    http_answer_release(&a);
    a = http_get(url_of(GATEWAY, "/accounts/%s?min_version=4&timeout_ms=10000", id));
    cr_assert_eq(a.status, 200, "%s", a.body);
    cr_assert_str_eq(http_answer_text(&a, "status"), "closed");
    cr_assert_str_eq(http_answer_header(&a, "ETag"), "\"4\"");
    http_answer_release(&a);
}

Test(accounts, amounts_beyond_a_double_stay_exact) {
    const char *id = fresh_id("exact");

    open_account(id);
    for (int i = 0; i < 90; i++) {
        move(id, "deposit", "1000000000000.00", 200);
    }
    move(id, "deposit", "71992547409.91", 200);
    move(id, "deposit", "0.01", 409);
    expect_balance(id, 92, "90071992547409.91");
}

Test(accounts, transactions_are_newest_first_and_paged) {
    const char *id = fresh_id("history");
    char cursor[256] = "";
    int seen = 0;
    int last = 1000;

    open_account(id);
    for (int i = 0; i < 24; i++) {
        move(id, "deposit", "1.00", 200);
    }
    for (int page = 0; page < 10; page++) {
        struct http_answer a = http_get(url_of(GATEWAY,
                                               "/accounts/%s/transactions?limit=10&min_version=25"
                                               "&timeout_ms=10000%s%s",
                                               id, cursor[0] ? "&cursor=" : "", cursor));
        cr_assert_eq(a.status, 200, "%s", a.body);
        const json_t *list = json_object_get(a.json, "transactions");
        size_t i;
        json_t *entry;
        json_array_foreach(list, i, entry) {
            const int version = (int)json_integer_value(json_object_get(entry, "version"));
            cr_assert_lt(version, last);
            last = version;
            seen++;
        }
        (void)snprintf(cursor, sizeof(cursor), "%s", http_answer_text(&a, "next_cursor"));
        http_answer_release(&a);
        if (cursor[0] == '\0') {
            break;
        }
        if (page == 0) {
            move(id, "deposit", "1.00", 200); /* arrives meanwhile: the pages don't shift */
        }
    }
    cr_assert_eq(seen, 25);
    cr_assert_eq(last, 1);
}

Test(accounts, the_past_can_be_read) {
    const char *id = fresh_id("past");

    open_account(id);
    move(id, "deposit", "10.00", 200);
    move(id, "deposit", "10.00", 200);
    expect_balance(id, 3, "20.00");
    struct http_answer a =
        http_get(url_of(GATEWAY, "/accounts/%s/transactions?min_version=3&timeout_ms=10000", id));
    cr_assert_eq(a.status, 200);
    http_answer_release(&a);
    a = http_get(url_of(GATEWAY, "/accounts/%s/balance?version=2", id));
    cr_assert_eq(a.status, 200, "%s", a.body);
    cr_assert_str_eq(http_answer_text(&a, "balance"), "10.00");
    http_answer_release(&a);
    a = http_get(url_of(GATEWAY, "/accounts/%s/balance?version=9", id));
    cr_assert_eq(a.status, 404, "%s", a.body);
    cr_assert_str_eq(http_answer_text(&a, "code"), "version_not_reached");
    http_answer_release(&a);
}

Test(accounts, the_list_holds_new_accounts) {
    const char *id = fresh_id("list");

    open_account(id);
    expect_balance(id, 1, "0.00");
    struct http_answer a = http_get(url_of(GATEWAY, "/accounts?limit=2"));
    cr_assert_eq(a.status, 200, "%s", a.body);
    cr_assert_leq(json_array_size(json_object_get(a.json, "accounts")), 2);
    cr_assert_gt(json_array_size(json_object_get(a.json, "accounts")), 0);
    http_answer_release(&a);
}

Test(accounts, a_version_not_written_is_said_to_be_behind_in_bounded_time) {
    const char *id = fresh_id("behind");
    const double begin = now_seconds();

    open_account(id);
    struct http_answer a =
        http_get(url_of(GATEWAY, "/accounts/%s?min_version=7&timeout_ms=300", id));
    cr_assert_eq(a.status, 504, "%s", a.body);
    cr_assert_str_eq(http_answer_text(&a, "code"), "projection_behind");
    cr_assert_lt(now_seconds() - begin, 3.0);
    http_answer_release(&a);
}

Test(accounts, a_repeated_key_has_one_effect) {
    const char *id = fresh_id("key");
    char key[160];

    open_account(id);
    (void)snprintf(key, sizeof(key), "Idempotency-Key: \"%s\"", fresh_id("k"));
    for (int i = 0; i < 3; i++) {
        struct http_answer a =
            http_call(&(struct http_call){.method = "POST",
                                          .url = url_of(GATEWAY, "/accounts/%s/deposit", id),
                                          .body = i == 1 ? "{\"Amount\": 5.0}" : "{\"amount\": 5}",
                                          .headers = {"Content-Type: application/json", key}});
        cr_assert_eq(a.status, 200, "%s", a.body);
        cr_assert_str_eq(http_answer_text(&a, "balance"), "5.00");
        cr_assert_str_eq(http_answer_header(&a, "Idempotency-Replayed"), i > 0 ? "true" : "");
        http_answer_release(&a);
    }
    struct http_answer a =
        http_call(&(struct http_call){.method = "POST",
                                      .url = url_of(GATEWAY, "/accounts/%s/deposit", id),
                                      .body = "{\"amount\": 6}",
                                      .headers = {"Content-Type: application/json", key}});
    cr_assert_eq(a.status, 422, "%s", a.body);
    cr_assert_str_eq(http_answer_text(&a, "code"), "idempotency_key_reused");
    http_answer_release(&a);
    expect_balance(id, 2, "5.00");
}

Test(accounts, a_rejection_is_replayed_too) {
    const char *id = fresh_id("rejected");
    char key[160];

    open_account(id);
    (void)snprintf(key, sizeof(key), "Idempotency-Key: %s", fresh_id("k"));
    for (int i = 0; i < 2; i++) {
        struct http_answer a =
            http_call(&(struct http_call){.method = "POST",
                                          .url = url_of(GATEWAY, "/accounts/%s/withdraw", id),
                                          .body = "{\"amount\": 5}",
                                          .headers = {"Content-Type: application/json", key}});
        cr_assert_eq(a.status, 409, "%s", a.body);
        cr_assert_str_eq(http_answer_text(&a, "code"), "insufficient_funds");
        cr_assert_str_eq(http_answer_header(&a, "Idempotency-Replayed"), i > 0 ? "true" : "");
        http_answer_release(&a);
        move(id, "deposit", "100.00", 200); /* would be accepted now: the first answer stands */
    }
}

Test(accounts, preconditions_are_held) {
    const char *id = fresh_id("match");

    open_account(id);
    struct http_answer a = http_call(
        &(struct http_call){.method = "POST",
                            .url = url_of(GATEWAY, "/accounts/%s/deposit", id),
                            .body = "{\"amount\": 5}",
                            .headers = {"Content-Type: application/json", "If-Match: \"2\""}});
    cr_assert_eq(a.status, 412, "%s", a.body);
    cr_assert_eq(http_answer_number(&a, "version"), 1);
    http_answer_release(&a);
    a = http_call(
        &(struct http_call){.method = "POST",
                            .url = url_of(GATEWAY, "/accounts/%s/deposit", id),
                            .body = "{\"amount\": 5}",
                            .headers = {"Content-Type: application/json", "If-Match: \"1\""}});
    cr_assert_eq(a.status, 200, "%s", a.body);
    http_answer_release(&a);
}
