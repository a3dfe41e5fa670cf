#include "common/http/router.h"

#include <string.h>

static const char *const method_names[] = {
    [HTTP_GET] = "GET",         [HTTP_HEAD] = "HEAD",     [HTTP_POST] = "POST",
    [HTTP_PUT] = "PUT",         [HTTP_DELETE] = "DELETE", [HTTP_PATCH] = "PATCH",
    [HTTP_OPTIONS] = "OPTIONS", [HTTP_OTHER] = "other",
};

enum http_method http_method_parse(struct str name) {
    for (int i = HTTP_GET; i < HTTP_OTHER; i++) {
        if (str_eq(name, str_from(method_names[i]))) {
            return (enum http_method)i;
        }
    }
    return HTTP_OTHER;
}

const char *http_method_name(enum http_method method) {
    return method_names[method];
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Decodes percent-escapes (RFC 3986 section 2.1) and, in queries, '+'. False when malformed. */
static bool decode(struct str raw, bool query, struct arena *arena, struct str *out) {
    char *text = arena_alloc(arena, raw.len + 1);
    size_t len = 0;

    if (text == NULL) {
        return false;
    }
    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.ptr[i];
        if (c == '%') {
            const int high = i + 2 < raw.len ? hex_value(raw.ptr[i + 1]) : -1;
            const int low = i + 2 < raw.len ? hex_value(raw.ptr[i + 2]) : -1;
            if (high < 0 || low < 0 || (high == 0 && low == 0)) {
                return false;
            }
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && query) {
            c = ' ';
        }
        text[len++] = c;
    }
    *out = str_of(text, len);
    return true;
}

/* Does the raw path fit the pattern? Parameters are collected undecoded. */
static bool fits(const char *pattern, struct str path, struct http_param *params, size_t *count) {
    const char *at = path.ptr;
    const char *const end = path.ptr + path.len;

    *count = 0;
    while (*pattern != '\0') {
        if (*pattern != '{') {
            if (at == end || *at != *pattern) {
                return false;
            }
            at++;
            pattern++;
            continue;
        }
        const char *name_end = strchr(pattern, '}');
        const char *slash = memchr(at, '/', (size_t)(end - at));
        const char *value_end = slash != NULL ? slash : end;
        if (value_end == at || *count == HTTP_PATH_PARAMS_MAX) {
            return false;
        }
        params[*count].name = str_of(pattern + 1, (size_t)(name_end - pattern - 1));
        params[*count].value = str_of(at, (size_t)(value_end - at));
        (*count)++;
        at = value_end;
        pattern = name_end + 1;
    }
    return at == end;
}

static void put_allow(struct buf *allow, unsigned methods) {
    for (int method = HTTP_GET; method < HTTP_OTHER; method++) {
        if (methods & (1u << method)) {
            if (allow->len > 0) {
                buf_put_text(allow, ", ");
            }
            buf_put_text(allow, method_names[method]);
        }
    }
}

enum router_verdict router_match(const struct http_route *routes, size_t count,
                                 enum http_method method, struct str path,
                                 struct http_request *request, const struct http_route **found,
                                 struct buf *allow) {
    const enum http_method wanted = method == HTTP_HEAD ? HTTP_GET : method;
    struct http_param params[HTTP_PATH_PARAMS_MAX];
    unsigned methods = 0;
    size_t param_count = 0;

    *found = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t fitted = 0;
        struct http_param here[HTTP_PATH_PARAMS_MAX];
        if (!fits(routes[i].path, path, here, &fitted)) {
            continue;
        }
        methods |= 1u << routes[i].method;
        if (routes[i].method == wanted && routes[i].handler != NULL && *found == NULL) {
            *found = &routes[i];
            memcpy(params, here, sizeof(here));
            param_count = fitted;
        }
    }
    if (methods == 0) {
        return ROUTER_NOT_FOUND;
    }
    methods |= 1u << HTTP_OPTIONS;
    methods |= (methods & (1u << HTTP_GET)) ? 1u << HTTP_HEAD : 0u;
    if (*found == NULL) {
        put_allow(allow, methods);
        return ROUTER_METHOD_NOT_ALLOWED;
    }
    for (size_t i = 0; i < param_count; i++) {
        if (!decode(params[i].value, false, &request->arena, &params[i].value)) {
            return ROUTER_BAD_URL;
        }
        request->path_params[i] = params[i];
    }
    request->path_param_count = param_count;
    return ROUTER_FOUND;
}

bool router_parse_query(struct str query, struct http_request *request) {
    while (query.len > 0) {
        const char *end = memchr(query.ptr, '&', query.len);
        const size_t len = end != NULL ? (size_t)(end - query.ptr) : query.len;
        const struct str pair = str_of(query.ptr, len);
        const size_t skip = end != NULL ? len + 1 : len;
        query = str_of(query.ptr + skip, query.len - skip);
        if (pair.len == 0) {
            continue;
        }
        if (request->query_count == HTTP_QUERY_PARAMS_MAX) {
            return false;
        }
        const char *equals = memchr(pair.ptr, '=', pair.len);
        const size_t name_len = equals != NULL ? (size_t)(equals - pair.ptr) : pair.len;
        const size_t value_at = equals != NULL ? name_len + 1 : name_len;
        struct http_param *param = &request->query[request->query_count];
        if (!decode(str_of(pair.ptr, name_len), true, &request->arena, &param->name) ||
            !decode(str_of(pair.ptr + value_at, pair.len - value_at), true, &request->arena,
                    &param->value)) {
            return false;
        }
        request->query_count++;
    }
    return true;
}
