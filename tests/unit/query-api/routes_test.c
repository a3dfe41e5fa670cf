/* The table of paths: what the query API answers, what it leaves to the command API, and that its
 * document says so. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/http/read_paths.h"
#include "tests/unit/query-api/api_fixture.h"

static struct api api;

static void set_up(void) {
    api_start(&api, 100);
}

static void tear_down(void) {
    api_stop(&api);
}

TestSuite(routes, .init = set_up, .fini = tear_down, .timeout = 20);

static bool serves(const char *path) {
    for (size_t i = 0; i < api.routes.count; i++) {
        const struct http_route *route = &api.routes.table[i];
        if (route->handler != NULL && route->method == HTTP_GET && strcmp(route->path, path) == 0) {
            return true;
        }
    }
    return false;
}

Test(routes, the_table_of_read_paths_is_what_is_served) {
    size_t served = 0;

    for (size_t i = 0; i < http_read_path_count; i++) {
        cr_expect(serves(http_read_paths[i]), "%s", http_read_paths[i]);
    }
    for (size_t i = 0; i < api.routes.count; i++) {
        served += api.routes.table[i].handler != NULL;
    }
    cr_expect_eq(served, http_read_path_count + 1, "one more: /openapi.json");
}

Test(routes, allow_lists_the_methods_of_both_apis) {
    struct answer answer;

    api_call(&api, "OPTIONS", "/accounts", "", &answer);
    cr_expect_eq(answer.status, 204);
    cr_expect_str_eq(answer_header(&answer, "Allow"), "GET, HEAD, POST, OPTIONS");
    api_call(&api, "DELETE", "/accounts/a1", "", &answer);
    answer_is_problem(&answer, 405, "method_not_allowed");
    cr_expect_str_eq(answer_header(&answer, "Allow"), "GET, HEAD, OPTIONS");
    api_call(&api, "POST", "/accounts/a1/deposit", "Content-Length: 0\r\n", &answer);
    answer_is_problem(&answer, 405, "method_not_allowed");
    api_get(&api, "/accounts/a1/deposit", &answer);
    answer_is_problem(&answer, 405, "method_not_allowed");
    cr_expect_str_eq(answer_header(&answer, "Allow"), "POST, OPTIONS");
}

Test(routes, an_unknown_path_is_404) {
    static const char *const targets[] = {"/",
                                          "/account",
                                          "/accounts/",
                                          "/accounts/a1/",
                                          "/accounts/a1/balance/x",
                                          "/accounts//balance"};
    struct answer answer;

    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        api_get(&api, targets[i], &answer);
        answer_is_problem(&answer, 404, "not_found");
    }
}

/* --- the document --- */

static json_t *document(void) {
    static struct answer answer;

    api_get(&api, "/openapi.json", &answer);
    cr_assert_eq(answer.status, 200);
    cr_assert_str_eq(answer_header(&answer, "Content-Type"), "application/json");
    return answer_body(&answer);
}

Test(routes, the_document_describes_exactly_what_is_served) {
    json_t *root = document();
    json_t *paths = json_object_get(root, "paths");
    static const char *const builtin[] = {"/health", "/ready", "/metrics"};
    const char *path = NULL;
    json_t *item = NULL;

    cr_expect_str_eq(json_string_value(json_object_get(root, "openapi")), "3.1.0");
    for (size_t i = 0; i < api.routes.count; i++) {
        if (api.routes.table[i].handler != NULL) {
            cr_expect_not_null(json_object_get(paths, api.routes.table[i].path), "%s",
                               api.routes.table[i].path);
        }
    }
    json_object_foreach(paths, path, item) {
        bool known = serves(path);
        for (size_t i = 0; i < ARRAY_LEN(builtin); i++) {
            known = known || strcmp(path, builtin[i]) == 0;
        }
        cr_expect(known, "%s is documented and not served", path);
        cr_expect_not_null(json_object_get(item, "get"), "%s", path);
        cr_expect_eq(json_object_size(item), 1, "%s has other methods", path);
    }
    json_decref(root);
}

/* Every "$ref" in the document must lead somewhere. */
static void check_refs(const json_t *root, const json_t *node) {
    const json_t *ref = json_object_get(node, "$ref");
    const char *key = NULL;
    json_t *value = NULL;
    size_t index = 0;

    if (ref != NULL) {
        char path[256];
        (void)snprintf(path, sizeof(path), "%s", json_string_value(ref));
        const json_t *at = root;
        char *rest = NULL;
        for (char *part = strtok_r(path, "/", &rest); part != NULL;
             part = strtok_r(NULL, "/", &rest)) {
            at = strcmp(part, "#") == 0 ? root : json_object_get(at, part);
        }
        cr_expect_not_null(at, "%s leads nowhere", json_string_value(ref));
    }
    union {
        const json_t *in;
        json_t *out;
    } alias = {.in = node};
    json_object_foreach(alias.out, key, value) {
        check_refs(root, value);
    }
    json_array_foreach(alias.out, index, value) {
        check_refs(root, value);
    }
}

Test(routes, every_reference_in_the_document_leads_somewhere) {
    json_t *root = document();

    check_refs(root, root);
    json_decref(root);
}

/* Follows one "$ref". */
static const json_t *resolve(const json_t *root, const json_t *node) {
    const char *ref = json_string_value(json_object_get(node, "$ref"));
    char group[64];
    char name[64];

    if (ref == NULL || sscanf(ref, "#/components/%63[^/]/%63s", group, name) != 2) {
        return node;
    }
    return json_object_get(json_object_get(json_object_get(root, "components"), group), name);
}

/* The answer's status is documented for the path, and the problem's code for the status. */
static void is_documented(const json_t *root, const char *path, const char *target,
                          const char *headers) {
    struct answer answer;
    char status[8];
    const json_t *operation =
        json_object_get(json_object_get(json_object_get(root, "paths"), path), "get");

    api_call(&api, "GET", target, headers, &answer);
    (void)snprintf(status, sizeof(status), "%d", answer.status);
    const json_t *response =
        resolve(root, json_object_get(json_object_get(operation, "responses"), status));
    cr_assert_not_null(response, "%s: %s is not documented", target, status);
    if (answer.body_len == 0) {
        cr_expect_null(json_object_get(response, "content"), "%s", target);
        return;
    }
    if (strncmp(answer_header(&answer, "Content-Type"), "text/", 5) == 0) {
        cr_expect_not_null(json_object_get(json_object_get(response, "content"),
                                           answer_header(&answer, "Content-Type")),
                           "%s", target);
        return;
    }
    const json_t *content = json_object_get(json_object_get(response, "content"),
                                            answer_header(&answer, "Content-Type"));
    cr_assert_not_null(content, "%s: %s as %s", target, status,
                       answer_header(&answer, "Content-Type"));
    json_t *body = answer_body(&answer);
    const json_t *code = json_object_get(body, "code");
    if (code != NULL) {
        const json_t *all = json_object_get(json_object_get(content, "schema"), "allOf");
        const json_t *codes = json_object_get(
            json_object_get(json_object_get(json_array_get(all, 1), "properties"), "code"), "enum");
        bool known = false;
        for (size_t i = 0; i < json_array_size(codes); i++) {
            known = known || json_equal(code, json_array_get(codes, i));
        }
        cr_expect(known, "%s: %s %s is not documented", target, status, json_string_value(code));
    } else {
        const json_t *schema = resolve(root, json_object_get(content, "schema"));
        const json_t *properties = json_object_get(schema, "properties");
        const char *key = NULL;
        json_t *value = NULL;
        json_object_foreach(body, key, value) {
            cr_expect_not_null(json_object_get(properties, key), "%s: member %s", target, key);
        }
        const json_t *required = json_object_get(schema, "required");
        for (size_t i = 0; i < json_array_size(required); i++) {
            const char *name = json_string_value(json_array_get(required, i));
            cr_expect_not_null(json_object_get(body, name), "%s lacks %s", target, name);
        }
    }
    json_decref(body);
}

Test(routes, what_is_answered_is_documented) {
    json_t *root = document();
    api_put_account(&api, "a1", 3);
    static const char *const one[] = {"/accounts/{id}", "/accounts/{id}/balance"};
    static const char *const queries[] = {"",
                                          "?version=1",
                                          "?version=9",
                                          "?at=2020-01-01T00:00:00Z",
                                          "?at=9999-01-01T00:00:00Z",
                                          "?at=x",
                                          "?version=1&version=2",
                                          "?version=1&at=2026-01-01T00:00:00Z",
                                          "?foo=1",
                                          "?min_version=9&timeout_ms=0"};
    char target[128];

    for (size_t i = 0; i < ARRAY_LEN(one); i++) {
        const char *end = i == 0 ? "" : "/balance";
        for (size_t j = 0; j < ARRAY_LEN(queries); j++) {
            (void)snprintf(target, sizeof(target), "/accounts/a1%s%s", end, queries[j]);
            is_documented(root, one[i], target, "");
        }
        (void)snprintf(target, sizeof(target), "/accounts/a1%s", end);
        is_documented(root, one[i], target, "If-None-Match: *\r\n");
        (void)snprintf(target, sizeof(target), "/accounts/nobody%s", end);
        is_documented(root, one[i], target, "");
        (void)snprintf(target, sizeof(target), "/accounts/a%%20b%s", end);
        is_documented(root, one[i], target, "");
    }
    is_documented(root, "/accounts/{id}/transactions", "/accounts/a1/transactions?limit=1", "");
    is_documented(root, "/accounts/{id}/transactions", "/accounts/a1/transactions?cursor=x", "");
    is_documented(root, "/accounts/{id}/transactions", "/accounts/nobody/transactions", "");
    is_documented(root, "/accounts", "/accounts?limit=1", "");
    is_documented(root, "/accounts", "/accounts?limit=0", "");
    view_mem_set_moods(api.store, VIEW_MEM_DOWN, VIEW_MEM_DOWN);
    is_documented(root, "/accounts", "/accounts", "");
    is_documented(root, "/accounts/{id}", "/accounts/a1", "");
    view_mem_set_moods(api.store, VIEW_MEM_FULL, VIEW_MEM_FULL);
    is_documented(root, "/accounts/{id}/transactions", "/accounts/a1/transactions", "");
    json_decref(root);
}

Test(routes, what_is_answered_from_the_log_is_documented) {
    json_t *root = document();
    static const struct {
        const char *path;
        const char *target;
        const char *headers;
    } calls[] = {
        {"/events", "/events?limit=1", ""},
        {"/events", "/events?limit=1001", ""},
        {"/events", "/events?direction=sideways", ""},
        {"/events", "/events?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", ""},
        {"/events", "/events?cursor=x", ""},
        {"/events/aggregate/{id}", "/events/aggregate/a1?limit=1", ""},
        {"/events/aggregate/{id}", "/events/aggregate/nobody", ""},
        {"/events/aggregate/{id}", "/events/aggregate/a%20b", ""},
        {"/events/{event_id}", "/events/01a1fc28-987e-7658-a2aa-893ef52aa34b", ""},
        {"/events/{event_id}", "/events/x", ""},
        {"/events/stream", "/events/stream?foo=1", ""},
        {"/events/stream", "/events/stream", "Last-Event-ID: x\r\n"},
        {"/accounts/{id}/stream", "/accounts/nobody/stream", ""},
        {"/accounts/{id}/transactions", "/accounts/a1/transactions", "Accept: text/csv\r\n"},
        {"/accounts/{id}/transactions", "/accounts/a1/transactions?kind=x", ""},
        {"/accounts", "/accounts?status=open&order=balance&currency=USD&limit=1", ""},
        {"/accounts", "/accounts?currency=XYZZY", ""},
        {"/activity", "/activity", ""},
        {"/activity", "/activity?from=2020-01-01", ""},
        {"/activity", "/activity?from=yesterday", ""},
    };

    api_put_account(&api, "a1", 3);
    api_put_account(&api, "a2", 3);
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        is_documented(root, calls[i].path, calls[i].target, calls[i].headers);
    }
    log_mem_set_mood(api.log, LOG_MEM_DOWN);
    is_documented(root, "/events", "/events", "");
    is_documented(root, "/events/stream", "/events/stream", "");
    log_mem_set_mood(api.log, LOG_MEM_FULL);
    is_documented(root, "/events/{event_id}", "/events/01a1fc28-987e-7658-a2aa-893ef52aa34b", "");
    log_mem_set_mood(api.log, LOG_MEM_FAILS);
    is_documented(root, "/accounts/{id}/stream", "/accounts/a1/stream", "");
    json_decref(root);
}
