/*
 * Requests' first lines, "METHOD /path?query", against the command API's routes and against a
 * table made to be awkward. What must hold, by an oracle that reads URLs on its own:
 *  1. The first row with a handler for the method is found, HEAD as GET; a path with rows for other
 *     methods only gets just these in Allow; any other path is not found.
 *  2. Parameters come percent-decoded, at most once; a malformed escape or a hidden NUL is a bad
 *     URL, never a parameter.
 *  3. What was decoded, written with every byte escaped, is read as the same again.
 */
#include <string.h>

#include "common/http/router.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/fake_server.h"

enum { LINE_BYTES_MAX = 4096, PIECES_MAX = 2 * HTTP_QUERY_PARAMS_MAX };

struct pieces {
    struct str piece[PIECES_MAX];
    size_t count;
    bool bad; /* malformed, or more than fit */
    char text[LINE_BYTES_MAX];
    size_t used;
};

static const char *const method_names[] = {"GET",    "HEAD",  "POST",    "PUT",
                                           "DELETE", "PATCH", "OPTIONS", "other"};

static enum http_result never(void *context, struct http_request *request) {
    (void)context;
    (void)request;
    EXPECT(false, "the router calls no handler");
    return HTTP_DONE;
}

static const struct http_route awkward[] = {
    {HTTP_GET, "/", never, NULL, NULL},
    {HTTP_GET, "/a", never, NULL, NULL},
    {HTTP_PUT, "/a", never, NULL, NULL},
    {HTTP_DELETE, "/a", NULL, NULL, NULL},
    {HTTP_GET, "/a/", never, NULL, NULL},
    {HTTP_GET, "/a/fixed", never, NULL, NULL},
    {HTTP_GET, "/a/{b}", never, NULL, NULL},
    {HTTP_POST, "/{a}/b", never, NULL, NULL},
    {HTTP_PATCH, "/{a}/{b}/{c}/{d}", never, NULL, NULL},
    {HTTP_GET, "/a//b", never, NULL, NULL},
    {HTTP_POST, "/%41", never, NULL, NULL},
    {HTTP_GET, "/a/{second}", never, NULL, NULL},
};

/* --- the oracle --- */

static int digit(char c) {
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    const char *at = c == '\0' ? NULL : strchr(digits, c);

    return at == NULL ? -1 : (int)((at - digits) % 16);
}

static void add_decoded(struct pieces *out, struct str raw, bool query) {
    const size_t begin = out->used;

    if (out->count == PIECES_MAX) {
        out->bad = true;
        return;
    }
    while (raw.len > 0) {
        size_t taken = 1;
        char c = raw.ptr[0];
        if (c == '%') {
            const int high = raw.len > 1 ? digit(raw.ptr[1]) : -1;
            const int low = raw.len > 2 ? digit(raw.ptr[2]) : -1;
            c = (char)(16 * high + low);
            out->bad = out->bad || high < 0 || low < 0 || c == '\0';
            taken = raw.len > 2 ? 3 : raw.len;
        }
        out->text[out->used++] = query && raw.ptr[0] == '+' ? ' ' : c;
        raw = str_of(raw.ptr + taken, raw.len - taken);
    }
    out->piece[out->count++] = str_of(out->text + begin, out->used - begin);
}

/* Pattern and path side by side, a character at a time. */
static bool matches(const char *pattern, const char *path, struct pieces *params) {
    *params = (struct pieces){.count = 0};
    while (*pattern != '\0') {
        if (*pattern != '{') {
            if (*pattern++ != *path++) {
                return false;
            }
            continue;
        }
        const size_t len = strcspn(path, "/");
        if (len == 0) {
            return false;
        }
        add_decoded(params, str_of(path, len), false);
        path += len;
        pattern = strchr(pattern, '}') + 1;
    }
    return *path == '\0';
}

static void expected_allow(const bool methods[HTTP_OTHER], struct buf *out) {
    for (int i = 0; i < HTTP_OTHER; i++) {
        if (methods[i] || i == HTTP_OPTIONS || (i == HTTP_HEAD && methods[HTTP_GET])) {
            buf_printf(out, "%s%s", out->len == 0 ? "" : ", ", method_names[i]);
        }
    }
}

/* --- the properties --- */

/* A copy with nothing behind it, so that AddressSanitizer sees a step too far. */
static struct str alone(const char *text) {
    const size_t len = strlen(text);
    char *copy = malloc(len > 0 ? len : 1);

    EXPECT(copy != NULL, "no memory");
    memcpy(copy, text, len);
    return str_of(copy, len);
}

static void give_back(struct str copy) {
    free((void *)(uintptr_t)copy.ptr);
}

static void put_escaped(struct buf *out, struct str text) {
    for (size_t i = 0; i < text.len; i++) {
        buf_printf(out, i % 2 == 0 ? "%%%02x" : "%%%02X", (unsigned)(unsigned char)text.ptr[i]);
    }
}

/* The route's path with every parameter escaped leads there with the same parameters. */
static void check_path_again(const struct http_route *routes, size_t count,
                             const struct http_route *route, const struct http_request *first) {
    const struct http_route *found = NULL;
    struct buf path;
    struct buf allow;
    size_t next = 0;

    buf_init(&path, 4 * LINE_BYTES_MAX);
    buf_init(&allow, 128);
    for (const char *p = route->path; *p != '\0';) {
        if (*p != '{') {
            buf_put_char(&path, *p++);
            continue;
        }
        put_escaped(&path, first->path_params[next++].value);
        p = strchr(p, '}') + 1;
    }
    struct http_request *again = fake_server_request(1, &(struct fake_call){.header_count = 0});
    EXPECT(router_match(routes, count, route->method, buf_str(&path), again, &found, &allow) ==
               ROUTER_FOUND,
           "%s is not found", path.ptr);
    /* Escaped, a parameter is no row's literal: they are compared as sent. */
    EXPECT(found == route, "%s leads to %s, not to %s", path.ptr, found->path, route->path);
    for (size_t i = 0; i < next; i++) {
        EXPECT(str_eq(again->path_params[i].value, first->path_params[i].value),
               "parameter %zu of %s", i, path.ptr);
    }
    buf_release(&path);
    buf_release(&allow);
}

static void check_routes(const struct http_route *routes, size_t count, enum http_method method,
                         const char *path) {
    const enum http_method wanted = method == HTTP_HEAD ? HTTP_GET : method;
    const struct http_route *expected = NULL;
    static struct pieces params;
    static struct pieces here;
    bool methods[HTTP_OTHER] = {false};
    bool known = false;

    for (size_t i = 0; i < count; i++) {
        if (!matches(routes[i].path, path, &here)) {
            continue;
        }
        known = true;
        methods[routes[i].method] = true;
        if (expected == NULL && routes[i].method == wanted && routes[i].handler != NULL) {
            expected = &routes[i];
            params = here;
            for (size_t p = 0; p < here.count; p++) { /* the texts moved with it */
                params.piece[p].ptr = params.text + (here.piece[p].ptr - here.text);
            }
        }
    }

    struct http_request *request = fake_server_request(0, &(struct fake_call){.header_count = 0});
    const struct http_route *found = NULL;
    struct buf allow;
    struct buf list;
    buf_init(&allow, 128);
    buf_init(&list, 128);
    const struct str sent = alone(path);
    const enum router_verdict verdict =
        router_match(routes, count, method, sent, request, &found, &allow);
    give_back(sent);
    if (known && expected == NULL) {
        expected_allow(methods, &list);
    }
    EXPECT(found == expected, "%s: %s", path, found != NULL ? found->path : "no route");
    EXPECT(str_eq(buf_str(&allow), buf_str(&list)), "Allow of %s: %.*s", path,
           STR_ARG(buf_str(&allow)));
    buf_release(&allow);
    buf_release(&list);
    EXPECT(verdict == (!known             ? ROUTER_NOT_FOUND
                       : expected == NULL ? ROUTER_METHOD_NOT_ALLOWED
                       : params.bad       ? ROUTER_BAD_URL
                                          : ROUTER_FOUND),
           "%s: verdict %d", path, (int)verdict);
    if (verdict != ROUTER_FOUND) {
        return;
    }
    EXPECT(request->path_param_count == params.count, "%s: parameters", path);
    for (size_t i = 0; i < params.count; i++) {
        EXPECT(str_eq(request->path_params[i].value, params.piece[i]), "%s: parameter %zu", path,
               i);
    }
    check_path_again(routes, count, found, request);
}

static void check_query_again(const struct http_request *first) {
    struct http_request *again = fake_server_request(1, &(struct fake_call){.header_count = 0});
    struct buf query;

    buf_init(&query, 4 * LINE_BYTES_MAX);
    for (size_t i = 0; i < first->query_count; i++) {
        buf_put_text(&query, "&");
        put_escaped(&query, first->query[i].name);
        buf_put_text(&query, "=");
        put_escaped(&query, first->query[i].value);
    }
    EXPECT(router_parse_query(buf_str(&query), again), "refused again: %s", query.ptr);
    EXPECT(again->query_count == first->query_count, "%s: another number", query.ptr);
    for (size_t i = 0; i < again->query_count; i++) {
        EXPECT(str_eq(again->query[i].name, first->query[i].name) &&
                   str_eq(again->query[i].value, first->query[i].value),
               "%s: another parameter", query.ptr);
    }
    buf_release(&query);
}

static void check_query(const char *query) {
    struct http_request *request = fake_server_request(0, &(struct fake_call){.header_count = 0});
    static struct pieces wanted;

    wanted = (struct pieces){.count = 0};
    for (const char *at = query; *at != '\0';) {
        const size_t len = strcspn(at, "&");
        const size_t name = strcspn(at, "=") < len ? strcspn(at, "=") : len;
        if (len > 0) {
            add_decoded(&wanted, str_of(at, name), true);
            const size_t skip = name < len ? name + 1 : name;
            add_decoded(&wanted, str_of(at + skip, len - skip), true);
        }
        at += len + (at[len] == '&');
    }
    const struct str sent = alone(query);
    const bool taken = router_parse_query(sent, request);
    give_back(sent);
    EXPECT(taken == !wanted.bad, "?%s", query);
    if (!taken) {
        return;
    }
    EXPECT(2 * request->query_count == wanted.count, "?%s: %zu parameters", query,
           request->query_count);
    for (size_t i = 0; i < request->query_count; i++) {
        EXPECT(str_eq(request->query[i].name, wanted.piece[2 * i]) &&
                   str_eq(request->query[i].value, wanted.piece[2 * i + 1]),
               "?%s: parameter %zu", query, i);
    }
    check_query_again(request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char line[LINE_BYTES_MAX];
    size_t count = 0;
    const struct http_route *routes = fake_server_routes(&count);

    if (!str_copy(line, sizeof(line), str_of((const char *)data, size))) {
        return 0;
    }
    char *path = strchr(line, ' '); /* a NUL ends the line, as no URL can hold one */
    if (path == NULL) {
        return 0;
    }
    *path++ = '\0';
    enum http_method method = HTTP_GET;
    while (method != HTTP_OTHER && strcmp(method_names[method], line) != 0) {
        method++;
    }
    EXPECT(http_method_parse(str_from(line)) == method, "%s", line);
    EXPECT(strcmp(http_method_name(method), method_names[method]) == 0, "%s", line);

    char *query = strchr(path, '?');
    if (query != NULL) {
        *query++ = '\0';
        check_query(query);
    }
    check_routes(routes, count, method, path);
    check_routes(awkward, ARRAY_LEN(awkward), method, path);
    return 0;
}
