/* The command API's document against what it does: every path and method is served, nothing else
 * is; every answer of a set of calls has a documented status and the documented members. (The query
 * API's document is checked in its unit tests.) */
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "../support/environment.h"
#include "../support/http_client.h"

#define API "DAYBOOK_TEST_COMMAND_API"

static json_t *document(void) {
    struct http_answer a = http_get(url_of(API, "/openapi.json"));

    cr_assert_eq(a.status, 200);
    cr_assert_not_null(a.json);
    json_t *kept = json_incref(a.json);
    http_answer_release(&a);
    return kept;
}

/* Follows a "$ref" within the document. */
static const json_t *resolve(const json_t *root, const json_t *node) {
    const char *ref = json_string_value(json_object_get(node, "$ref"));
    char path[256];

    if (ref == NULL) {
        return node;
    }
    (void)snprintf(path, sizeof(path), "%s", ref + 2); /* behind "#/" */
    const json_t *at = root;
    for (char *part = path, *next = NULL; part != NULL; part = next) {
        next = strchr(part, '/');
        if (next != NULL) {
            *next++ = '\0';
        }
        at = json_object_get(at, part);
    }
    cr_assert_not_null(at, "%s leads nowhere", ref);
    return at;
}

static void check_members(const json_t *root, const json_t *schema, const struct http_answer *a,
                          const char *what) {
    const json_t *properties = json_object_get(schema, "properties");
    const bool closed = json_is_false(json_object_get(schema, "additionalProperties"));
    size_t i;
    json_t *name;
    const char *key;
    json_t *value;

    json_array_foreach(json_object_get(schema, "required"), i, name) {
        cr_expect_not_null(json_object_get(a->json, json_string_value(name)), "%s lacks %s: %s",
                           what, json_string_value(name), a->body);
    }
    json_object_foreach(a->json, key, value) {
        const json_t *property = json_object_get(properties, key);
        if (property == NULL) {
            cr_expect_not(closed, "%s has the undocumented member %s", what, key);
            continue;
        }
        const char *type = json_string_value(json_object_get(resolve(root, property), "type"));
        if (type != NULL && strcmp(type, "string") == 0) {
            cr_expect(json_is_string(value), "%s: %s is no string", what, key);
        } else if (type != NULL && strcmp(type, "integer") == 0) {
            cr_expect(json_is_integer(value), "%s: %s is no integer", what, key);
        }
    }
}

static void check_answer(const json_t *root, const char *method, const char *path,
                         const struct http_answer *a) {
    const json_t *operation =
        json_object_get(json_object_get(json_object_get(root, "paths"), path), method);
    char status[16];
    char what[128];

    (void)snprintf(status, sizeof(status), "%d", a->status);
    (void)snprintf(what, sizeof(what), "%s %s %d", method, path, a->status);
    const json_t *response = json_object_get(json_object_get(operation, "responses"), status);
    cr_assert_not_null(response, "%s is not documented: %s", what, a->body);
    response = resolve(root, response);
    const json_t *content = json_object_get(response, "content");
    const char *type;
    json_t *media;
    json_object_foreach((json_t *)(uintptr_t)content, type, media) {
        cr_expect_eq(strncmp(http_answer_header(a, "Content-Type"), type, strlen(type)), 0,
                     "%s: %s", what, http_answer_header(a, "Content-Type"));
        if (a->json != NULL) {
            check_members(root, resolve(root, json_object_get(media, "schema")), a, what);
        }
    }
    const char *code = http_answer_text(a, "code");
    if (code[0] != '\0') {
        char quoted[128];
        (void)snprintf(quoted, sizeof(quoted), "`%s`", code);
        cr_expect_not_null(
            strstr(json_string_value(json_object_get(response, "description")), quoted),
            "%s: the code %s is not documented", what, code);
    }
}

static void call(const json_t *root, const char *path, const char *url, const char *body,
                 const char *header, int status) {
    struct http_answer a =
        http_call(&(struct http_call){.method = "POST",
                                      .url = url,
                                      .body = body,
                                      .headers = {"Content-Type: application/json", header}});
    cr_expect_eq(a.status, status, "%s: %d %s", path, a.status, a.body);
    check_answer(root, "post", path, &a);
    http_answer_release(&a);
}

Test(openapi, answers_are_as_documented) {
    json_t *root = document();
    const char *id = fresh_id("openapi");
    char body[160];
    char key[160];
    const char *deposit = "/accounts/{id}/deposit";
    const char *withdraw = "/accounts/{id}/withdraw";
    const char *close = "/accounts/{id}/close";

    (void)snprintf(body, sizeof(body), "{\"id\":\"%s\",\"owner\":\"Ada\"}", id);
    (void)snprintf(key, sizeof(key), "Idempotency-Key: %s", fresh_id("k"));
    call(root, "/accounts", url_of(API, "/accounts"), body, NULL, 201);
    call(root, "/accounts", url_of(API, "/accounts"), body, NULL, 409);
    call(root, "/accounts", url_of(API, "/accounts"), "{", NULL, 400);
    call(root, "/accounts", url_of(API, "/accounts"), "{\"currency\":\"ZZZ\"}", NULL, 422);
    call(root, "/accounts", url_of(API, "/accounts?x=1"), "{}", NULL, 400);
    call(root, deposit, url_of(API, "/accounts/%s/deposit", id), "{\"amount\":2}", key, 200);
    call(root, deposit, url_of(API, "/accounts/%s/deposit", id), "{\"amount\":3}", key, 422);
    call(root, deposit, url_of(API, "/accounts/%s/deposit", id), "{\"amount\":0.001}", NULL, 422);
    call(root, deposit, url_of(API, "/accounts/%s/deposit", id), "{\"amount\":1}",
         "If-Match: \"9\"", 412);
    call(root, deposit, url_of(API, "/accounts/%s/deposit", id), "{\"amount\":1}", "If-Match: x",
         400);
    call(root, deposit, url_of(API, "/accounts/nobody/deposit"), "{\"amount\":1}", NULL, 404);
    call(root, withdraw, url_of(API, "/accounts/%s/withdraw", id), "{\"amount\":3}", NULL, 409);
    call(root, close, url_of(API, "/accounts/%s/close", id), "{}", NULL, 409);
    call(root, withdraw, url_of(API, "/accounts/%s/withdraw", id), "{\"amount\":2}", NULL, 200);
    call(root, close, url_of(API, "/accounts/%s/close", id), "{}", NULL, 200);
    call(root, close, url_of(API, "/accounts/%s/close", id), "{}", NULL, 409);
    json_decref(root);
}

Test(openapi, every_documented_path_is_served_and_get_answers_as_documented) {
    json_t *root = document();
    const char *path;
    json_t *item;

    json_object_foreach(json_object_get(root, "paths"), path, item) {
        const char *method;
        json_t *operation;
        char concrete[128];
        (void)snprintf(concrete, sizeof(concrete), "%s", path);
        char *brace = strstr(concrete, "{id}");
        if (brace != NULL) {
            memcpy(brace, "some", 4);
        }
        struct http_answer a =
            http_call(&(struct http_call){.method = "OPTIONS", .url = url_of(API, "%s", concrete)});
        cr_expect_eq(a.status, 204, "%s", path);
        json_object_foreach(item, method, operation) {
            char upper[8] = "";
            for (size_t i = 0; method[i] != '\0' && i < sizeof(upper) - 1; i++) {
                upper[i] = (char)(method[i] - 'a' + 'A');
            }
            cr_expect_not_null(strstr(http_answer_header(&a, "Allow"), upper), "%s %s", method,
                               path);
        }
        http_answer_release(&a);
        if (json_object_get(item, "get") != NULL) {
            a = http_get(url_of(API, "%s", concrete));
            check_answer(root, "get", path, &a);
            http_answer_release(&a);
        }
    }
    json_decref(root);
}
