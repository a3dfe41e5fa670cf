/* Accounts now: bodies, headers, and in which order the views are asked. */
#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/query-api/api_fixture.h"

static struct api api;

static void set_up(void) {
    api_start(&api, 100);
}

static void tear_down(void) {
    api_stop(&api);
}

TestSuite(reads, .init = set_up, .fini = tear_down, .timeout = 20);

Test(reads, an_account_is_answered_from_the_key_view) {
    struct answer answer;
    api_put_account(&api, "a1", 3);

    api_get(&api, "/accounts/a1", &answer);

    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(answer.body,
                     "{\"id\":\"a1\",\"version\":3,\"status\":\"open\",\"currency\":\"USD\","
                     "\"owner\":\"Ada \\\"L\\\"\",\"balance\":\"200.00\","
                     "\"opened_at\":\"2026-01-01T00:00:00.000000Z\","
                     "\"updated_at\":\"2026-01-01T00:00:02.000000Z\"}\n");
    cr_expect_str_eq(answer_header(&answer, "Content-Type"), "application/json");
    cr_expect_str_eq(answer_header(&answer, "ETag"), "\"3\"");
    cr_expect_str_eq(answer_header(&answer, "Daybook-Version"), "3");
    cr_expect_str_eq(answer_header(&answer, "Daybook-Source"), "redis");
    cr_expect_eq(view_mem_row_calls(api.store), 0);
}

Test(reads, a_balance_is_an_exact_decimal_in_the_currencys_digits) {
    struct answer answer;
    struct account_view account = api_account_at(2);
    account.balance_minor = ACCOUNT_BALANCE_MINOR_MAX;
    view_mem_put_key(api.store, STR("usd"), &account);
    memcpy(account.currency, "JPY", 4);
    view_mem_put_key(api.store, STR("jpy"), &account);

    api_get(&api, "/accounts/usd/balance", &answer);
    cr_expect_str_eq(answer.body, "{\"id\":\"usd\",\"balance\":\"90071992547409.91\","
                                  "\"currency\":\"USD\",\"version\":2}\n");
    api_get(&api, "/accounts/jpy/balance", &answer);
    cr_expect_str_eq(answer.body, "{\"id\":\"jpy\",\"balance\":\"9007199254740991\","
                                  "\"currency\":\"JPY\",\"version\":2}\n");
}

Test(reads, an_account_without_an_owner_has_no_owner_member) {
    struct answer answer;
    struct account_view account = api_account_at(1);
    account.owner[0] = '\0';
    view_mem_put_key(api.store, STR("a1"), &account);

    api_get(&api, "/accounts/a1", &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_null(strstr(answer.body, "owner"));
}

Test(reads, a_matching_entity_tag_is_answered_304_without_a_body) {
    static const char *const matching[] = {"\"3\"", "W/\"3\"", "\"1\", \"3\"", "\"2\",W/\"3\" ",
                                           "*"};
    static const char *const others[] = {"\"2\"", "3", "\"33\"", "W/\"2\", \"4\""};
    struct answer answer;
    char header[64];
    char length[16];
    api_put_account(&api, "a1", 3);
    api_get(&api, "/accounts/a1/balance", &answer);
    (void)snprintf(length, sizeof(length), "%zu", answer.body_len);

    for (size_t i = 0; i < ARRAY_LEN(matching); i++) {
        (void)snprintf(header, sizeof(header), "If-None-Match: %s\r\n", matching[i]);
        api_call(&api, "GET", "/accounts/a1/balance", header, &answer);
        cr_expect_eq(answer.status, 304, "%s", header);
        cr_expect_eq(answer.body_len, 0);
        cr_expect_str_eq(answer_header(&answer, "Content-Length"), length); /* the 200's */
        cr_expect_str_eq(answer_header(&answer, "Content-Type"), "");
        cr_expect_str_eq(answer_header(&answer, "ETag"), "\"3\"");
        cr_expect_str_eq(answer_header(&answer, "Daybook-Version"), "3");
    }
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        (void)snprintf(header, sizeof(header), "If-None-Match: %s\r\n", others[i]);
        api_call(&api, "GET", "/accounts/a1/balance", header, &answer);
        cr_expect_eq(answer.status, 200, "%s", header);
    }
}

Test(reads, head_has_the_headers_of_get_and_no_body) {
    struct answer get;
    struct answer head;
    api_put_account(&api, "a1", 3);

    api_get(&api, "/accounts/a1", &get);
    api_call(&api, "HEAD", "/accounts/a1", "", &head);

    char length[16];
    (void)snprintf(length, sizeof(length), "%zu", get.body_len);
    cr_expect_eq(head.status, 200);
    cr_expect_eq(head.body_len, 0);
    cr_expect_str_eq(answer_header(&head, "ETag"), "\"3\"");
    cr_expect_str_eq(answer_header(&head, "Content-Length"), length);
}

Test(reads, a_missing_key_is_looked_up_in_the_row_view) {
    struct answer answer;
    api_put_account(&api, "a1", 2);
    view_mem_drop_key(api.store, STR("a1"));

    api_get(&api, "/accounts/a1", &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(answer_header(&answer, "Daybook-Source"), "postgresql");
    cr_expect_eq(view_mem_key_calls(api.store), 1);
    cr_expect_eq(view_mem_row_calls(api.store), 1);
}

Test(reads, an_account_that_neither_view_has_is_404) {
    struct answer answer;

    api_get(&api, "/accounts/nobody", &answer);
    answer_is_problem(&answer, 404, "account_not_found");
    api_get(&api, "/accounts/nobody/balance", &answer);
    answer_is_problem(&answer, 404, "account_not_found");
    cr_expect_str_eq(answer_header(&answer, "Daybook-Source"), "postgresql");
}

Test(reads, a_key_view_that_is_down_or_fails_is_replaced_by_the_row_view) {
    struct answer answer;
    api_put_account(&api, "a1", 2);

    view_mem_set_moods(api.store, VIEW_MEM_DOWN, VIEW_MEM_WELL);
    api_get(&api, "/accounts/a1/balance", &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(answer_header(&answer, "Daybook-Source"), "postgresql");

    view_mem_set_moods(api.store, VIEW_MEM_FAILS, VIEW_MEM_WELL);
    api_get(&api, "/accounts/a1/balance", &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(answer_header(&answer, "Daybook-Source"), "postgresql");
}

Test(reads, without_the_row_view_the_key_view_still_answers_what_it_has) {
    struct answer answer;
    api_put_account(&api, "a1", 2);
    view_mem_set_moods(api.store, VIEW_MEM_WELL, VIEW_MEM_DOWN);

    api_get(&api, "/accounts/a1", &answer);
    cr_expect_eq(answer.status, 200);
    /* Whether it exists can't be known: not a 404. */
    api_get(&api, "/accounts/nobody", &answer);
    answer_is_problem(&answer, 503, "read_model_unavailable");
}

Test(reads, both_views_down_is_503_with_retry_after) {
    static const char *const targets[] = {"/accounts/a1",
                                          "/accounts/a1/balance",
                                          "/accounts/a1?version=1",
                                          "/accounts/a1/transactions",
                                          "/accounts",
                                          "/accounts/a1?min_version=1"};
    struct answer answer;
    api_put_account(&api, "a1", 2);

    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        view_mem_set_moods(api.store, VIEW_MEM_DOWN, VIEW_MEM_DOWN);
        api_get(&api, targets[i], &answer);
        answer_is_problem(&answer, 503, "read_model_unavailable");
        cr_expect_str_eq(answer_header(&answer, "Retry-After"), "1", "%s", targets[i]);
        view_mem_set_moods(api.store, VIEW_MEM_FAILS, VIEW_MEM_FAILS);
        api_get(&api, targets[i], &answer);
        answer_is_problem(&answer, 503, "read_model_unavailable");
    }
}

Test(reads, a_full_queue_is_503_overloaded) {
    struct answer answer;

    view_mem_set_moods(api.store, VIEW_MEM_WELL, VIEW_MEM_FULL);
    api_get(&api, "/accounts", &answer);
    answer_is_problem(&answer, 503, "overloaded");
    cr_expect_str_eq(answer_header(&answer, "Retry-After"), "1");
    view_mem_set_moods(api.store, VIEW_MEM_FULL, VIEW_MEM_WELL);
    api_get(&api, "/accounts/a1", &answer);
    answer_is_problem(&answer, 503, "overloaded");
}

Test(reads, a_currency_that_is_none_is_500_and_not_a_wrong_amount) {
    struct answer answer;
    struct account_view account = api_account_at(2);
    memcpy(account.currency, "XQQ", 4);
    view_mem_put_key(api.store, STR("a1"), &account);

    api_get(&api, "/accounts/a1/balance", &answer);
    answer_is_problem(&answer, 500, "read_model_corrupt");
    api_get(&api, "/accounts/a1", &answer);
    answer_is_problem(&answer, 500, "read_model_corrupt");
}

Test(reads, ids_are_percent_decoded_and_checked) {
    struct answer answer;
    api_put_account(&api, "a:1", 1);

    api_get(&api, "/accounts/a%3A1/balance", &answer);
    cr_expect_eq(answer.status, 200);
    static const char *const wrong[] = {"/accounts/a%20b", "/accounts/.hidden",
                                        "/accounts/%C3%A4/balance", "/accounts/a%2Fb",
                                        "/accounts/a$/transactions"};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        api_get(&api, wrong[i], &answer);
        answer_is_problem(&answer, 400, "id_invalid");
    }
    api_get(&api, "/accounts/a%00b", &answer);
    answer_is_problem(&answer, 400, "bad_url");
    char target[256] = "/accounts/";
    memset(target + strlen(target), 'x', STREAM_ID_BYTES_MAX + 1);
    api_get(&api, target, &answer);
    answer_is_problem(&answer, 400, "id_invalid");
}

Test(reads, wrong_parameters_are_refused_by_name) {
    static const struct {
        const char *target;
        const char *code;
        const char *detail; /* part of it */
    } rows[] = {
        {"/accounts/a1?min_version=0", "parameter_invalid", "min_version must be"},
        {"/accounts/a1?min_version=-1", "parameter_invalid", "min_version must be"},
        {"/accounts/a1?min_version=9223372036854775808", "parameter_invalid", "min_version"},
        {"/accounts/a1?min_version=1.5", "parameter_invalid", "min_version must be"},
        {"/accounts/a1?min_version=", "parameter_invalid", "min_version must be"},
        {"/accounts/a1?min_version=1&timeout_ms=10001", "parameter_invalid", "0 to 10000"},
        {"/accounts/a1?timeout_ms=-1", "parameter_invalid", "timeout_ms must be"},
        {"/accounts/a1?version=0", "parameter_invalid", "version must be"},
        {"/accounts/a1?version=x", "parameter_invalid", "version must be"},
        {"/accounts/a1?at=yesterday", "parameter_invalid", "RFC 3339"},
        {"/accounts/a1?at=2026-01-01", "parameter_invalid", "RFC 3339"},
        {"/accounts/a1?at=2026-02-30T00:00:00Z", "parameter_invalid", "RFC 3339"},
        {"/accounts/a1?at=9999-01-01T00:00:00Z", "time_in_future", "future"},
        {"/accounts/a1?version=1&at=2026-01-01T00:00:00Z", "parameters_conflict", "one"},
        {"/accounts/a1?version=1&min_version=1", "parameters_conflict", "min_version"},
        {"/accounts/a1?version=1&version=2", "parameter_repeated", "once"},
        {"/accounts/a1?limit=5", "unknown_parameter", "\"limit\""},
        {"/accounts/a1?Version=5", "unknown_parameter", "\"Version\""},
        {"/accounts/a1/balance?foo=1", "unknown_parameter", "min_version, timeout_ms, version, at"},
        {"/accounts/a1/transactions?limit=0", "parameter_invalid", "1 to 200"},
        {"/accounts/a1/transactions?limit=201", "parameter_invalid", "1 to 200"},
        {"/accounts/a1/transactions?version=1", "unknown_parameter", "\"version\""},
        {"/accounts?limit=abc", "parameter_invalid", "1 to 200"},
        {"/accounts?min_version=1", "unknown_parameter", "limit, cursor"},
        {"/accounts?=1", "unknown_parameter", "\"\""},
    };
    struct answer answer;
    api_put_account(&api, "a1", 2);

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        api_get(&api, rows[i].target, &answer);
        answer_is_problem(&answer, 400, rows[i].code);
        json_t *body = answer_body(&answer);
        const char *detail = json_string_value(json_object_get(body, "detail"));
        cr_expect_not_null(strstr(detail, rows[i].detail), "%s: %s", rows[i].target, detail);
        json_decref(body);
    }
}
