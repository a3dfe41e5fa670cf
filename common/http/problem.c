#include "common/http/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PROBLEM_BYTES_MAX = 4096, DETAIL_BYTES = 512 };

void problem_render(struct buf *out, int status, const char *code, const char *title,
                    struct str detail, struct str members, struct str correlation_id) {
    buf_printf(out, "{\"type\":\"urn:daybook:problem:%s\",\"title\":", code);
    buf_put_json_str(out, str_from(title));
    buf_printf(out, ",\"status\":%d,\"detail\":", status);
    buf_put_json_str(out, str_is_utf8(detail) ? detail : STR("not shown: not UTF-8"));
    buf_printf(out, ",\"code\":\"%s\"", code);
    if (members.len > 0) {
        buf_put_char(out, ',');
        buf_put_str(out, members);
    }
    if (correlation_id.len > 0) {
        buf_put_text(out, ",\"correlation_id\":");
        buf_put_json_str(out, correlation_id);
    }
    buf_put_text(out, "}\n");
}

static bool has_header(const struct http_response *response, const char *name) {
    for (size_t i = 0; i < response->header_count; i++) {
        if (strcmp(response->headers[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static enum http_result respond(struct http_request *request, int status, const char *code,
                                const char *title, struct str members, const char *format,
                                va_list args) PRINTF_LIKE(6, 0);
static enum http_result respond(struct http_request *request, int status, const char *code,
                                const char *title, struct str members, const char *format,
                                va_list args) {
    char detail[DETAIL_BYTES];
    struct buf body;

    (void)vsnprintf(detail, sizeof(detail), format, args);
    buf_init(&body, PROBLEM_BYTES_MAX);
    problem_render(&body, status, code, title, str_from(detail), members, request->correlation_id);
    struct str kept = arena_str(&request->arena, buf_str(&body));
    buf_release(&body);
    if (kept.ptr == NULL) {
        kept = STR("{\"type\":\"about:blank\",\"title\":\"Out of memory\"}\n");
    }
    if (status == 503 && !has_header(&request->response, "Retry-After")) {
        http_respond_header(request, "Retry-After", STR("1"));
    }
    http_respond(request, status, "application/problem+json", kept);
    return HTTP_DONE;
}

enum http_result problem_respond(struct http_request *request, int status, const char *code,
                                 const char *title, const char *detail_format, ...) {
    va_list args;

    va_start(args, detail_format);
    const enum http_result result =
        respond(request, status, code, title, (struct str){0}, detail_format, args);
    va_end(args);
    return result;
}

enum http_result problem_respond_with(struct http_request *request, int status, const char *code,
                                      const char *title, struct str members,
                                      const char *detail_format, ...) {
    va_list args;

    va_start(args, detail_format);
    const enum http_result result =
        respond(request, status, code, title, members, detail_format, args);
    va_end(args);
    return result;
}
