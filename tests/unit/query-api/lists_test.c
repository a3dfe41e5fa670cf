/* Lists: accounts by id and balance, entries by kind and time, as CSV; what happened on which day.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "tests/unit/query-api/api_fixture.h"

static struct api api;

static void set_up(void) {
    api_start(&api, 100);
}

static void tear_down(void) {
    api_stop(&api);
}

TestSuite(lists, .init = set_up, .fini = tear_down, .timeout = 20);

/* The `member`s of all pages of a list, with spaces between them, in a static buffer. */
static const char *all_of(const char *target, const char *list, const char *member) {
    static char seen[4096];
    char next[512];
    struct answer answer;
    size_t len = 0;

    (void)snprintf(next, sizeof(next), "%s", target);
    seen[0] = '\0';
    for (int pages = 0; next[0] != '\0'; pages++) {
        cr_assert_lt(pages, 50, "no end");
        api_get(&api, next, &answer);
        cr_assert_eq(answer.status, 200, "%s: %s", next, answer.body);
        json_t *body = answer_body(&answer);
        const json_t *items = json_object_get(body, list);
        for (size_t i = 0; i < json_array_size(items); i++) {
            const json_t *value = json_object_get(json_array_get(items, i), member);
            const int written =
                json_is_string(value)
                    ? snprintf(seen + len, sizeof(seen) - len, "%s ", json_string_value(value))
                    : snprintf(seen + len, sizeof(seen) - len, "%lld ",
                               (long long)json_integer_value(value));
            len += (size_t)written;
        }
        const char *cursor = json_string_value(json_object_get(body, "next_cursor"));
        next[0] = '\0';
        if (cursor != NULL) {
            (void)snprintf(next, sizeof(next), "%s%ccursor=%s", target,
                           strchr(target, '?') != NULL ? '&' : '?', cursor);
        }
        json_decref(body);
    }
    return seen;
}

static void put(const char *id, int64_t balance_minor, enum account_status status,
                const char *currency) {
    struct account_view account = api_account_at(1);

    account.balance_minor = balance_minor;
    account.status = status;
    (void)snprintf(account.currency, sizeof(account.currency), "%s", currency);
    view_mem_put_row(api.store, str_from(id), &account);
}

static void put_some(void) {
    put("e", 500, ACCOUNT_OPEN, "USD");
    put("b", 900, ACCOUNT_OPEN, "USD");
    put("d", 0, ACCOUNT_CLOSED, "USD");
    put("a", 500, ACCOUNT_OPEN, "EUR");
    put("c", -7, ACCOUNT_OPEN, "EUR");
}

Test(lists, accounts_by_id_and_by_balance) {
    put_some();

    cr_expect_str_eq(all_of("/accounts?limit=2", "accounts", "id"), "a b c d e ");
    cr_expect_str_eq(all_of("/accounts?order=id&limit=200", "accounts", "id"), "a b c d e ");
    cr_expect_str_eq(all_of("/accounts?order=balance&limit=1", "accounts", "id"), "b a e d c ");
    cr_expect_str_eq(all_of("/accounts?order=balance&limit=3", "accounts", "id"), "b a e d c ");
}

Test(lists, accounts_by_status_and_currency) {
    put_some();

    cr_expect_str_eq(all_of("/accounts?status=closed", "accounts", "id"), "d ");
    cr_expect_str_eq(all_of("/accounts?status=open&limit=1", "accounts", "id"), "a b c e ");
    cr_expect_str_eq(all_of("/accounts?currency=EUR&order=balance", "accounts", "id"), "a c ");
    cr_expect_str_eq(all_of("/accounts?currency=JPY", "accounts", "id"), "");
}

Test(lists, one_order_does_not_take_the_others_cursors) {
    struct answer answer;
    char target[512];
    put_some();

    api_get(&api, "/accounts?limit=1", &answer);
    json_t *body = answer_body(&answer);
    (void)snprintf(target, sizeof(target), "/accounts?order=balance&cursor=%s",
                   json_string_value(json_object_get(body, "next_cursor")));
    json_decref(body);
    api_get(&api, target, &answer);
    answer_is_problem(&answer, 400, "cursor_invalid");
}

Test(lists, wrong_values_are_refused_by_name) {
    static const char *const targets[] = {
        "/accounts?status=asleep",
        "/accounts?order=owner",
        "/accounts?currency=usd",
        "/accounts?limit=201",
        "/accounts/a1/transactions?kind=transfer",
        "/accounts/a1/transactions?from=2026-01-01",
        "/accounts/a1/transactions?limit=0",
        "/activity?from=2026-13-01",
        "/activity?to=2026-01-01T00:00:00Z",
        "/events?type=no%20name",
        "/events?aggregate_type=",
        "/events?from_position=0",
    };
    struct answer answer;

    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        api_get(&api, targets[i], &answer);
        cr_expect_eq(answer.status, 400, "%s", targets[i]);
        answer_is_problem(&answer, 400, "parameter_invalid");
    }
}

Test(lists, entries_by_kind_and_time) {
    api_put_account(&api, "a1", 9);
    const char *base = "/accounts/a1/transactions?limit=2&";
    char target[256];

    (void)snprintf(target, sizeof(target), "%skind=opened", base);
    cr_expect_str_eq(all_of(target, "transactions", "version"), "1 ");
    (void)snprintf(target, sizeof(target), "%skind=deposit", base);
    cr_expect_str_eq(all_of(target, "transactions", "version"), "9 8 7 6 5 4 3 2 ");
    (void)snprintf(target, sizeof(target), "%sfrom=2026-01-01T00:00:02Z&to=2026-01-01T00:00:05Z",
                   base);
    cr_expect_str_eq(all_of(target, "transactions", "version"), "5 4 3 ");
    (void)snprintf(target, sizeof(target), "%sfrom=2026-01-01T00:00:02.000001Z", base);
    cr_expect_str_eq(all_of(target, "transactions", "version"), "9 8 7 6 5 4 ");
    (void)snprintf(target, sizeof(target), "%sto=2020-01-01T00:00:00Z", base);
    cr_expect_str_eq(all_of(target, "transactions", "version"), "");
}

Test(lists, entries_that_arrive_between_two_pages_neither_repeat_nor_hide_any) {
    struct answer answer;
    char target[512];
    api_put_account(&api, "a1", 5);

    /* One cursor for pages of any length: the next page is the last. */
    api_get(&api, "/accounts/a1/transactions?limit=2", &answer);
    json_t *body = answer_body(&answer);
    (void)snprintf(target, sizeof(target), "/accounts/a1/transactions?limit=9&cursor=%s",
                   json_string_value(json_object_get(body, "next_cursor")));
    json_decref(body);
    api_deposit(&api, "a1", 6, true);
    api_deposit(&api, "a1", 7, true);
    cr_expect_str_eq(all_of(target, "transactions", "version"), "3 2 1 ");
}

Test(lists, entries_as_csv_for_those_who_ask) {
    struct answer answer;
    static const struct {
        const char *accept;
        bool csv;
    } cases[] = {{"text/csv", true},
                 {"TEXT/CSV", true},
                 {"text/csv, application/json;q=0.5", true},
                 {"application/json, text/csv", false},
                 {"application/json;q=0.2, text/csv;q=0.9", true},
                 {"text/csv;q=0", false},
                 {"text/html, */*", false},
                 {"", false}};
    api_put_account(&api, "a1", 3);

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char headers[128];
        (void)snprintf(headers, sizeof(headers), "Accept: %s\r\n", cases[i].accept);
        api_call(&api, "GET", "/accounts/a1/transactions?limit=2", headers, &answer);
        cr_expect_eq(answer.status, 200);
        cr_expect_str_eq(answer_header(&answer, "Content-Type"),
                         cases[i].csv ? "text/csv; charset=utf-8; header=present"
                                      : "application/json",
                         "%s", cases[i].accept);
        cr_expect_str_eq(answer_header(&answer, "Vary"), "Accept");
    }
    api_call(&api, "GET", "/accounts/a1/transactions?limit=2", "Accept: text/csv\r\n", &answer);
    cr_expect_str_eq(answer.body,
                     "version,kind,amount,balance,currency,event_id,recorded_at\r\n"
                     "3,deposit,100.00,200.00,USD,00000000-0000-0000-0000-000000000003,"
                     "2026-01-01T00:00:02.000000Z\r\n"
                     "2,deposit,100.00,100.00,USD,00000000-0000-0000-0000-000000000002,"
                     "2026-01-01T00:00:01.000000Z\r\n");
    char target[512];
    (void)snprintf(target, sizeof(target), "/accounts/a1/transactions?cursor=%s",
                   answer_header(&answer, "Daybook-Next-Cursor"));
    cr_expect_str_eq(all_of(target, "transactions", "version"), "1 ");
}

Test(lists, activity_sums_are_exact_beyond_64_bits) {
    struct answer answer;
    const struct activity_line line = {.day_us = API_OPENED_US,
                                       .currency = "USD",
                                       .opened = 2,
                                       .deposits = 3,
                                       .deposited_minor = "123456789012345678901234567890",
                                       .withdrawn_minor = "5"};
    const struct activity_line yen = {.day_us = API_OPENED_US + INT64_C(86400000000),
                                      .currency = "JPY",
                                      .deposited_minor = "0",
                                      .withdrawn_minor = "17"};
    view_mem_add_activity(api.store, &line);
    view_mem_add_activity(api.store, &yen);

    api_get(&api, "/activity?from=2026-01-01&to=2026-01-02", &answer);
    cr_expect_str_eq(answer.body,
                     "{\"activity\":[{\"day\":\"2026-01-01\",\"currency\":\"USD\",\"opened\":2,"
                     "\"closed\":0,\"deposits\":3,\"withdrawals\":0,"
                     "\"deposited\":\"1234567890123456789012345678.90\",\"withdrawn\":\"0.05\"},"
                     "{\"day\":\"2026-01-02\",\"currency\":\"JPY\",\"opened\":0,\"closed\":0,"
                     "\"deposits\":0,\"withdrawals\":0,\"deposited\":\"0\",\"withdrawn\":\"17\"}]}"
                     "\n");
    cr_expect_str_eq(all_of("/activity?from=2026-01-02&to=2026-01-02", "activity", "day"),
                     "2026-01-02 ");
    api_get(&api, "/activity?from=2025-01-01&to=2026-01-02", &answer);
    answer_is_problem(&answer, 400, "range_too_wide");
    api_get(&api, "/activity?from=2026-01-02&to=2026-01-01", &answer);
    answer_is_problem(&answer, 400, "parameters_conflict");
}

Test(lists, every_answer_says_how_old_its_data_are) {
    static const char *const targets[] = {"/accounts/a1",
                                          "/accounts/a1/balance",
                                          "/accounts/a1?version=2",
                                          "/accounts/a1?at=2026-01-01T00:00:01Z",
                                          "/accounts/a1/transactions",
                                          "/accounts",
                                          "/events",
                                          "/events/aggregate/a1"};
    struct answer answer;
    api_put_account(&api, "a1", 3);

    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        api_get(&api, targets[i], &answer);
        cr_assert_eq(answer.status, 200, "%s", targets[i]);
        const int64_t recorded_us =
            API_OPENED_US + (strchr(targets[i], '=') != NULL ? 1 : 2) * 1000000;
        const int64_t age_ms = (clock_wall_us() - recorded_us) / 1000;
        const int64_t seen_ms = strtoll(answer_header(&answer, "Daybook-Age-Ms"), NULL, 10);
        cr_expect(seen_ms <= age_ms && seen_ms > age_ms - 10000, "%s: %lld ms", targets[i],
                  (long long)seen_ms);
    }
}
