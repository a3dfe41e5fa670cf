/* The past by version and time; pages of entries; the list of accounts. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/query-api/api_fixture.h"

static struct api api;

static void set_up(void) {
    api_start(&api, 100);
}

static void tear_down(void) {
    api_stop(&api);
}

TestSuite(past, .init = set_up, .fini = tear_down, .timeout = 20);

static void balance_is(const char *target, const char *balance, int64_t version) {
    struct answer answer;

    api_get(&api, target, &answer);
    cr_assert_eq(answer.status, 200, "%s: %s", target, answer.body);
    json_t *body = answer_body(&answer);
    cr_expect_str_eq(json_string_value(json_object_get(body, "balance")), balance, "%s", target);
    cr_expect_eq(json_integer_value(json_object_get(body, "version")), version, "%s", target);
    json_decref(body);
}

Test(past, each_version_shows_the_balance_it_had) {
    api_put_account(&api, "a1", 4);

    balance_is("/accounts/a1/balance?version=1", "0.00", 1);
    balance_is("/accounts/a1/balance?version=2", "100.00", 2);
    balance_is("/accounts/a1/balance?version=4", "300.00", 4);
    balance_is("/accounts/a1?version=3", "200.00", 3);
    cr_expect_eq(view_mem_key_calls(api.store), 0);
}

Test(past, a_time_shows_what_had_been_recorded_by_then) {
    api_put_account(&api, "a1", 4);

    balance_is("/accounts/a1/balance?at=2026-01-01T00:00:00Z", "0.00", 1);
    balance_is("/accounts/a1/balance?at=2026-01-01T00:00:00.999999Z", "0.00", 1);
    balance_is("/accounts/a1/balance?at=2026-01-01T00:00:01Z", "100.00", 2);
    balance_is("/accounts/a1?at=2026-01-01T02:00:02.5%2B02:00", "200.00", 3);
    balance_is("/accounts/a1/balance?at=2026-02-01T00:00:00Z", "300.00", 4);
}

Test(past, a_version_not_reached_names_the_current_one) {
    struct answer answer;
    api_put_account(&api, "a1", 4);

    api_get(&api, "/accounts/a1?version=5", &answer);
    answer_is_problem(&answer, 404, "version_not_reached");
    json_t *body = answer_body(&answer);
    cr_expect_eq(json_integer_value(json_object_get(body, "current_version")), 4);
    json_decref(body);
}

Test(past, a_time_before_the_opening_and_an_unknown_account_are_told_apart) {
    struct answer answer;
    api_put_account(&api, "a1", 4);

    api_get(&api, "/accounts/a1/balance?at=2025-12-31T23:59:59.999999Z", &answer);
    answer_is_problem(&answer, 404, "account_not_found_at");
    api_get(&api, "/accounts/nobody?at=2026-01-02T00:00:00Z", &answer);
    answer_is_problem(&answer, 404, "account_not_found");
    api_get(&api, "/accounts/nobody?version=1", &answer);
    answer_is_problem(&answer, 404, "account_not_found");
}

Test(past, an_account_is_closed_from_its_closing_on_only) {
    struct statement_line line = {.version = 2,
                                  .recorded_at_us = API_OPENED_US + 1000000,
                                  .kind = "closed",
                                  .currency = "USD"};
    struct answer answer;
    api_put_account(&api, "a1", 1);
    view_mem_add_line(api.store, STR("a1"), &line);

    api_get(&api, "/accounts/a1?version=1", &answer);
    cr_expect_not_null(strstr(answer.body, "\"status\":\"open\""));
    api_get(&api, "/accounts/a1?version=2", &answer);
    cr_expect_not_null(strstr(answer.body, "\"status\":\"closed\""));
}

Test(past, has_an_entity_tag_of_its_own_version) {
    struct answer answer;
    api_put_account(&api, "a1", 4);

    api_call(&api, "GET", "/accounts/a1?version=2", "If-None-Match: \"4\"\r\n", &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(answer_header(&answer, "ETag"), "\"2\"");
    api_call(&api, "GET", "/accounts/a1?version=2", "If-None-Match: \"2\"\r\n", &answer);
    cr_expect_eq(answer.status, 304);
}

/* --- transactions --- */

TestSuite(transactions, .init = set_up, .fini = tear_down, .timeout = 20);

/* Reads a page; checks that it holds the versions from `first` down, `count` of them. Writes the
 * cursor, or "". */
static void page_is(const char *target, int64_t first, size_t count, char cursor[128]) {
    struct answer answer;

    api_get(&api, target, &answer);
    cr_assert_eq(answer.status, 200, "%s: %s", target, answer.body);
    json_t *body = answer_body(&answer);
    const json_t *lines = json_object_get(body, "transactions");
    cr_expect_eq(json_array_size(lines), count, "%s", target);
    for (size_t i = 0; i < json_array_size(lines); i++) {
        const json_t *version = json_object_get(json_array_get(lines, i), "version");
        cr_expect_eq(json_integer_value(version), first - (int64_t)i, "%s, entry %zu", target, i);
    }
    const char *next = json_string_value(json_object_get(body, "next_cursor"));
    (void)snprintf(cursor, 128, "%s", next != NULL ? next : "");
    json_decref(body);
}

Test(transactions, an_entry_has_all_its_members) {
    struct answer answer;
    api_put_account(&api, "a1", 2);

    api_get(&api, "/accounts/a1/transactions", &answer);
    cr_expect_str_eq(answer.body,
                     "{\"id\":\"a1\",\"transactions\":["
                     "{\"version\":2,\"kind\":\"deposit\",\"amount\":\"100.00\",\"balance\":"
                     "\"100.00\",\"currency\":\"USD\",\"event_id\":"
                     "\"00000000-0000-0000-0000-000000000002\",\"recorded_at\":"
                     "\"2026-01-01T00:00:01.000000Z\"},"
                     "{\"version\":1,\"kind\":\"opened\",\"amount\":\"0.00\",\"balance\":\"0.00\","
                     "\"currency\":\"USD\",\"event_id\":\"00000000-0000-0000-0000-000000000001\","
                     "\"recorded_at\":\"2026-01-01T00:00:00.000000Z\"}]}\n");
    cr_expect_str_eq(answer_header(&answer, "Daybook-Version"), "2");
}

Test(transactions, pages_neither_skip_nor_repeat_while_entries_arrive) {
    char target[256];
    char cursor[128];
    api_put_account(&api, "a1", 7);

    page_is("/accounts/a1/transactions?limit=3", 7, 3, cursor);
    cr_assert_str_not_empty(cursor);
    api_deposit(&api, "a1", 8, true);
    api_deposit(&api, "a1", 9, true);
    (void)snprintf(target, sizeof(target), "/accounts/a1/transactions?limit=3&cursor=%s", cursor);
    page_is(target, 4, 3, cursor);
    cr_assert_str_not_empty(cursor);
    (void)snprintf(target, sizeof(target), "/accounts/a1/transactions?limit=3&cursor=%s", cursor);
    page_is(target, 1, 1, cursor);
    cr_expect_str_empty(cursor);
}

Test(transactions, a_page_that_ends_with_the_first_entry_has_no_cursor) {
    char cursor[128];
    api_put_account(&api, "a1", 3);

    page_is("/accounts/a1/transactions?limit=3", 3, 3, cursor);
    cr_expect_str_empty(cursor);
    page_is("/accounts/a1/transactions?limit=200", 3, 3, cursor);
    cr_expect_str_empty(cursor);
}

Test(transactions, fifty_entries_come_unless_another_limit_is_asked_for) {
    char cursor[128];
    api_put_account(&api, "a1", 210);

    page_is("/accounts/a1/transactions", 210, 50, cursor);
    page_is("/accounts/a1/transactions?limit=200", 210, 200, cursor);
    cr_expect_str_not_empty(cursor);
}

Test(transactions, a_cursor_that_is_none_of_this_account_is_refused) {
    struct answer answer;
    char target[256];
    char cursor[128];
    static const char *const garbage[] = {"x",  "AAAA", "AAAAAAAAAAAAAAAA", "%00",
                                          "++", "",     "gDsGCAAAAAAAAAAC"};
    api_put_account(&api, "a1", 3);
    api_put_account(&api, "a2", 3);

    for (size_t i = 0; i < ARRAY_LEN(garbage); i++) {
        (void)snprintf(target, sizeof(target), "/accounts/a1/transactions?cursor=%s", garbage[i]);
        api_get(&api, target, &answer);
        cr_expect_eq(answer.status, 400, "%s", target);
    }
    page_is("/accounts/a2/transactions?limit=1", 3, 1, cursor);
    (void)snprintf(target, sizeof(target), "/accounts/a1/transactions?cursor=%s", cursor);
    api_get(&api, target, &answer);
    answer_is_problem(&answer, 400, "cursor_invalid");
}

Test(transactions, of_an_unknown_account_are_404) {
    struct answer answer;

    api_get(&api, "/accounts/nobody/transactions", &answer);
    answer_is_problem(&answer, 404, "account_not_found");
}

/* --- the list --- */

TestSuite(accounts_list, .init = set_up, .fini = tear_down, .timeout = 20);

static size_t list_page(const char *target, char first[64], char cursor[128]) {
    struct answer answer;

    api_get(&api, target, &answer);
    cr_assert_eq(answer.status, 200, "%s: %s", target, answer.body);
    json_t *body = answer_body(&answer);
    const json_t *accounts = json_object_get(body, "accounts");
    const char *id = json_string_value(json_object_get(json_array_get(accounts, 0), "id"));
    const char *next = json_string_value(json_object_get(body, "next_cursor"));
    const size_t count = json_array_size(accounts);
    (void)snprintf(first, 64, "%s", id != NULL ? id : "");
    (void)snprintf(cursor, 128, "%s", next != NULL ? next : "");
    json_decref(body);
    return count;
}

Test(accounts_list, is_in_the_order_of_ids_page_by_page) {
    char first[64];
    char cursor[128];
    char target[256];
    api_put_account(&api, "c", 1);
    api_put_account(&api, "a", 2);
    api_put_account(&api, "e", 1);

    cr_expect_eq(list_page("/accounts?limit=2", first, cursor), 2);
    cr_expect_str_eq(first, "a");
    cr_assert_str_not_empty(cursor);
    /* One that comes before the cursor is not seen any more, one that comes after it is. */
    api_put_account(&api, "b", 1);
    api_put_account(&api, "d", 1);
    (void)snprintf(target, sizeof(target), "/accounts?limit=2&cursor=%s", cursor);
    cr_expect_eq(list_page(target, first, cursor), 2);
    cr_expect_str_eq(first, "d");
    cr_expect_str_empty(cursor);
}

Test(accounts_list, may_be_empty) {
    struct answer answer;

    api_get(&api, "/accounts", &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(answer.body, "{\"accounts\":[]}\n");
    cr_expect_str_eq(answer_header(&answer, "Daybook-Source"), "postgresql");
}

Test(accounts_list, refuses_cursors_of_other_lists) {
    struct answer answer;
    char cursor[128];
    char target[256];
    api_put_account(&api, "a1", 3);

    page_is("/accounts/a1/transactions?limit=1", 3, 1, cursor);
    (void)snprintf(target, sizeof(target), "/accounts?cursor=%s", cursor);
    api_get(&api, target, &answer);
    answer_is_problem(&answer, 400, "cursor_invalid");
    api_get(&api, "/accounts?cursor=garbage", &answer);
    answer_is_problem(&answer, 400, "cursor_invalid");
}
