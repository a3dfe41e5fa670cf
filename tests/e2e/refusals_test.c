/* Every request that must be refused, as a table: status and code of each, all problem+json. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "../support/environment.h"
#include "../support/http_client.h"

#define GATEWAY "DAYBOOK_TEST_GATEWAY"
#define JSON "Content-Type: application/json"
#define ID_128                                                         \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

struct refusal {
    const char *what;
    const char *method;
    const char *path; /* %s: an open account */
    const char *content_type;
    const char *body;
    size_t body_len;
    int status;
    const char *code;
};

static const struct refusal refusals[] = {
    {"bad JSON", "POST", "/accounts", JSON, "{\"id\": ", 0, 400, "invalid_json"},
    {"trailing garbage", "POST", "/accounts", JSON, "{} x", 0, 400, "invalid_json"},
    {"not an object", "POST", "/accounts", JSON, "[1]", 0, 400, "not_an_object"},
    {"a bare number", "POST", "/accounts", JSON, "1", 0, 400, "not_an_object"},
    {"missing field", "POST", "/accounts/%s/deposit", JSON, "{}", 0, 400, "missing_field"},
    {"unknown field", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":1,\"x\":1}", 0, 400,
     "unknown_field"},
    {"id in a deposit", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":1,\"id\":\"a\"}", 0, 400,
     "unknown_field"},
    {"duplicate key", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":1,\"amount\":1}", 0, 400,
     "invalid_json"},
    {"duplicate by case", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":1,\"Amount\":1}", 0,
     400, "duplicate_field"},
    {"wrong type", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":true}", 0, 400, "wrong_type"},
    {"null", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":null}", 0, 400, "wrong_type"},
    {"id of a wrong type", "POST", "/accounts", JSON, "{\"id\":7}", 0, 400, "wrong_type"},
    {"negative", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":-1}", 0, 422,
     "amount_not_positive"},
    {"zero", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":\"0.00\"}", 0, 422,
     "amount_not_positive"},
    {"too many decimals", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":0.001}", 0, 422,
     "amount_too_precise"},
    {"too large", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":1000000000000.01}", 0, 422,
     "amount_too_large"},
    {"larger than any", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":99999999999999999999}",
     0, 422, "amount_too_large"},
    {"NaN", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":NaN}", 0, 400, "invalid_json"},
    {"Infinity", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":Infinity}", 0, 400,
     "invalid_json"},
    {"NaN as text", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":\"NaN\"}", 0, 422,
     "amount_invalid"},
    {"1e400", "POST", "/accounts/%s/deposit", JSON, "{\"amount\":1e400}", 0, 422,
     "amount_too_large"},
    {"empty id", "POST", "/accounts", JSON, "{\"id\":\"\"}", 0, 400, "id_invalid"},
    {"overlong id", "POST", "/accounts", JSON, "{\"id\":\"" ID_128 "x\"}", 0, 400, "id_invalid"},
    {"ill-formed id", "POST", "/accounts", JSON, "{\"id\":\"a b\"}", 0, 400, "id_invalid"},
    {"ill-formed id in the path", "POST", "/accounts/a%%20b/deposit", JSON, "{\"amount\":1}", 0,
     400, "id_invalid"},
    {"ill-formed id in a read", "GET", "/accounts/a%%20b", NULL, NULL, 0, 400, "id_invalid"},
    {"unknown currency", "POST", "/accounts", JSON, "{\"currency\":\"ZZZ\"}", 0, 422,
     "currency_unknown"},
    {"bad UTF-8", "POST", "/accounts", JSON, "{\"owner\":\"\xff\"}", 0, 400, "invalid_json"},
    {"NUL", "POST", "/accounts", JSON, "{\"owner\":\"a\0b\"}", 15, 400, "invalid_json"},
    {"escaped NUL", "POST", "/accounts", JSON, "{\"owner\":\"a\\u0000b\"}", 0, 400, "invalid_json"},
    {"wrong content type", "POST", "/accounts", "Content-Type: text/plain", "{}", 0, 415,
     "unsupported_media_type"},
    {"wrong charset", "POST", "/accounts", "Content-Type: application/json; charset=latin1", "{}",
     0, 415, "unsupported_media_type"},
    {"no body", "POST", "/accounts/%s/deposit", JSON, NULL, 0, 400, "body_missing"},
    {"unknown account", "POST", "/accounts/nobody-here/deposit", JSON, "{\"amount\":1}", 0, 404,
     "account_not_found"},
    {"unknown account, read", "GET", "/accounts/nobody-here", NULL, NULL, 0, 404,
     "account_not_found"},
    {"unknown path", "GET", "/nothing", NULL, NULL, 0, 404, "not_found"},
    {"unknown path, written", "POST", "/nothing", JSON, "{}", 0, 404, "not_found"},
    {"unknown action", "POST", "/accounts/%s/steal", JSON, "{}", 0, 404, "not_found"},
    {"malformed escape", "GET", "/accounts/%%zz", NULL, NULL, 0, 400, NULL},
    {"unknown parameter", "GET", "/accounts/%s?colour=red", NULL, NULL, 0, 400,
     "unknown_parameter"},
    {"bad min_version", "GET", "/accounts/%s?min_version=x", NULL, NULL, 0, 400, NULL},
    {"bad cursor", "GET", "/accounts/%s/transactions?cursor=x", NULL, NULL, 0, 400,
     "cursor_invalid"},
    {"wrong method: PUT", "PUT", "/accounts", JSON, "{}", 0, 405, "method_not_allowed"},
    {"wrong method: DELETE", "DELETE", "/accounts/%s", NULL, NULL, 0, 405, "method_not_allowed"},
    {"wrong method: GET of a command", "GET", "/accounts/%s/deposit", NULL, NULL, 0, 405,
     "method_not_allowed"},
    {"wrong method: POST of a read", "POST", "/accounts/%s/balance", JSON, "{}", 0, 405,
     "method_not_allowed"},
};

static void check_problem(const struct http_answer *a, const struct refusal *r) {
    cr_expect_eq(a->status, r->status, "%s: %d %s", r->what, a->status, a->body);
    cr_expect_not_null(strstr(http_answer_header(a, "Content-Type"), "application/problem+json"),
                       "%s: %s", r->what, http_answer_header(a, "Content-Type"));
    cr_expect_eq(http_answer_number(a, "status"), r->status, "%s: %s", r->what, a->body);
    cr_expect_neq(http_answer_text(a, "type")[0], '\0', "%s: %s", r->what, a->body);
    cr_expect_neq(http_answer_text(a, "title")[0], '\0', "%s: %s", r->what, a->body);
    cr_expect_neq(http_answer_text(a, "detail")[0], '\0', "%s: %s", r->what, a->body);
    if (r->code != NULL) {
        cr_expect_str_eq(http_answer_text(a, "code"), r->code, "%s: %s", r->what, a->body);
    }
    if (r->status == 405) {
        cr_expect_neq(http_answer_header(a, "Allow")[0], '\0', "%s: no Allow", r->what);
    }
}

Test(refusals, each_is_a_problem_with_its_code) {
    char id[96];
    char body[160];

    (void)snprintf(id, sizeof(id), "%s", fresh_id("refused"));
    (void)snprintf(body, sizeof(body), "{\"id\":\"%s\"}", id);
    struct http_answer a = http_post(url_of(GATEWAY, "/accounts"), body);
    cr_assert_eq(a.status, 201, "%s", a.body);
    http_answer_release(&a);
    a = http_get(url_of(GATEWAY, "/accounts/%s?min_version=1&timeout_ms=10000", id));
    cr_assert_eq(a.status, 200, "%s", a.body);
    http_answer_release(&a);
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        const struct refusal *r = &refusals[i];
        char path[512];
        /* The table's own formats: one %s at most. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        (void)snprintf(path, sizeof(path), r->path, id);
#pragma GCC diagnostic pop
        a = http_call(&(struct http_call){.method = r->method,
                                          .url = url_of(GATEWAY, "%s", path),
                                          .body = r->body,
                                          .body_len = r->body_len,
                                          .headers = {r->content_type}});
        check_problem(&a, r);
        http_answer_release(&a);
    }
}

/* At the command API itself: what a gateway makes of such headers is its own affair. */
Test(refusals, headers_that_can_not_be_understood) {
    static const struct {
        const char *headers[2];
        const char *code;
    } cases[] = {
        {{"Idempotency-Key: a", "Idempotency-Key: b"}, "idempotency_key_invalid"},
        {{"Idempotency-Key;", NULL}, "idempotency_key_invalid"}, /* ";" sends it empty */
        {{"If-Match: \"05\"", NULL}, "if_match_invalid"},
        {{"If-Match: \"1\"", "If-Match: \"2\""}, "if_match_invalid"},
        {{"If-Match;", NULL}, "if_match_invalid"},
        {{"If-Match: *", "If-None-Match: *"}, "if_none_match_invalid"},
        {{"If-None-Match: \"1\"", NULL}, "if_none_match_invalid"},
        {{"If-None-Match: *", "If-None-Match: *"}, "if_none_match_invalid"},
        {{"If-None-Match;", NULL}, "if_none_match_invalid"},
        {{"X-Actor: a\tb", NULL}, "header_invalid"},
        {{"X-Causation-ID: \xff", NULL}, "header_invalid"},
    };
    const char *id = fresh_id("headers");

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct http_answer a = http_call(
            &(struct http_call){.method = "POST",
                                .url = url_of("DAYBOOK_TEST_COMMAND_API", "/accounts/%s/close", id),
                                .headers = {cases[i].headers[0], cases[i].headers[1]}});
        cr_expect_eq(a.status, 400, "%s: %d %s", cases[i].headers[0], a.status, a.body);
        cr_expect_str_eq(http_answer_text(&a, "code"), cases[i].code, "%s: %s", cases[i].headers[0],
                         a.body);
        http_answer_release(&a);
    }
}

Test(refusals, a_body_over_the_limit_is_413) {
    static char body[20000];

    memset(body, ' ', sizeof(body) - 1);
    struct http_answer a = http_post(url_of(GATEWAY, "/accounts"), body);
    cr_assert_eq(a.status, 413, "%s", a.body);
    cr_assert_str_eq(http_answer_text(&a, "code"), "body_too_large");
    cr_assert_not_null(strstr(a.body, "16384"), "the limit is named");
    http_answer_release(&a);
}

Test(refusals, head_and_options_are_handled) {
    const char *id = fresh_id("head");
    char body[160];

    (void)snprintf(body, sizeof(body), "{\"id\":\"%s\"}", id);
    struct http_answer a = http_post(url_of(GATEWAY, "/accounts"), body);
    cr_assert_eq(a.status, 201);
    http_answer_release(&a);
    a = http_get(url_of(GATEWAY, "/accounts/%s?min_version=1&timeout_ms=10000", id));
    cr_assert_eq(a.status, 200);
    http_answer_release(&a);
    a = http_call(
        &(struct http_call){.method = "HEAD", .url = url_of(GATEWAY, "/accounts/%s", id)});
    cr_assert_eq(a.status, 200);
    cr_assert_str_eq(a.body, "");
    cr_assert_str_eq(http_answer_header(&a, "ETag"), "\"1\"");
    http_answer_release(&a);
    a = http_call(&(struct http_call){.method = "OPTIONS", .url = url_of(GATEWAY, "/accounts")});
    cr_assert_eq(a.status, 204, "%d", a.status);
    cr_assert_str_eq(http_answer_header(&a, "Allow"), "GET, HEAD, POST, OPTIONS");
    http_answer_release(&a);
}

/* The same table must hold at each API directly; here the ones whose answer the gateway could hide.
 */
Test(refusals, the_apis_answer_alike_without_the_gateway) {
    struct http_answer a = http_call(&(struct http_call){
        .method = "DELETE", .url = url_of("DAYBOOK_TEST_COMMAND_API", "/accounts")});
    cr_assert_eq(a.status, 405);
    cr_assert_str_eq(http_answer_header(&a, "Allow"), "GET, HEAD, POST, OPTIONS");
    http_answer_release(&a);
    a = http_call(&(struct http_call){.method = "DELETE",
                                      .url = url_of("DAYBOOK_TEST_QUERY_API", "/accounts")});
    cr_assert_eq(a.status, 405);
    cr_assert_str_eq(http_answer_header(&a, "Allow"), "GET, HEAD, POST, OPTIONS");
    http_answer_release(&a);
}
