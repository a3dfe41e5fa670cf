/* From a complete request to its handler, or to its refusal. */
#include "common/http/http_internal.h"

#include "common/base/clock.h"
#include "common/http/correlation_id.h"
#include "common/http/problem.h"
#include "common/http/router.h"

enum { ALLOW_BYTES_MAX = 128 };

static void set_correlation_id(struct exchange *exchange) {
    struct http_request *request = &exchange->public;
    const struct str sent = http_request_header(request, "X-Correlation-ID");

    if (correlation_id_is_acceptable(sent)) {
        request->correlation_id = arena_str(&request->arena, sent);
    } else {
        char text[UUID_TEXT_BYTES];
        const struct uuid id = uuid_next(&exchange->thread->uuids, clock_wall_us());
        uuid_format(text, &id);
        request->correlation_id = arena_str(&request->arena, str_from(text));
    }
    if (request->correlation_id.ptr == NULL) {
        request->correlation_id = STR("unknown");
    }
}

static enum http_result refuse_method(struct http_request *request, struct str allow,
                                      enum http_method method) {
    http_respond_header(request, "Allow", allow);
    if (method == HTTP_OPTIONS) {
        http_respond(request, 204, NULL, (struct str){0});
        return HTTP_DONE;
    }
    return problem_respond(request, 405, "method_not_allowed", "Method not allowed",
                           "this path answers to %.*s", STR_ARG(allow));
}

/* Probes and metrics are answered also when all else is refused. */
static bool is_builtin(const struct http_server *server, const struct http_route *route) {
    return (size_t)(route - server->routes) >= server->options.route_count;
}

static enum http_result route_request(struct exchange *exchange, enum http_method method) {
    struct http_request *request = &exchange->public;
    struct http_server *server = exchange->thread->server;
    const struct http_route *route = NULL;
    struct buf allow;
    enum http_result result;

    buf_init(&allow, ALLOW_BYTES_MAX);
    const size_t path_end = request->path.len;
    switch (router_match(server->routes, server->route_count, method, request->path, request,
                         &route, &allow)) {
    case ROUTER_FOUND:
        request->route = route;
        if (!is_builtin(server, route) && !http_peer_has_place(exchange->thread, exchange->peer)) {
            result = problem_respond(request, 503, "too_many_connections", "Too many connections",
                                     "all connections are in use; try again");
            break;
        }
        if (server->options.tracer != NULL && !is_builtin(server, route)) {
            http_trace_begin(exchange);
        }
        if (server->options.auth != NULL &&
            !http_auth_permits(exchange, is_builtin(server, route))) {
            result = HTTP_DONE;
            break;
        }
        if (path_end < exchange->uri.len &&
            !router_parse_query(
                str_of(exchange->uri.ptr + path_end + 1, exchange->uri.len - path_end - 1),
                request)) {
            result = problem_respond(request, 400, "bad_url", "Bad URL",
                                     "the query is malformed or has more than %d parameters",
                                     HTTP_QUERY_PARAMS_MAX);
            break;
        }
        result = route->handler(route->context, request);
        break;
    case ROUTER_METHOD_NOT_ALLOWED:
        result = refuse_method(request, buf_str(&allow), method);
        break;
    case ROUTER_BAD_URL:
        result = problem_respond(request, 400, "bad_url", "Bad URL",
                                 "the path has a malformed percent-escape");
        break;
    case ROUTER_NOT_FOUND:
    default:
        if (method == HTTP_OPTIONS && str_eq(request->path, STR("*"))) {
            result = refuse_method(request, STR("GET, HEAD, POST, OPTIONS"), method);
        } else {
            result = problem_respond(request, 404, "not_found", "Not found",
                                     "there is nothing at this path");
        }
        break;
    }
    buf_release(&allow);
    return result;
}

static enum http_method prepare(struct exchange *exchange, const char *method_name) {
    struct http_request *request = &exchange->public;
    const enum http_method method = http_method_parse(str_from(method_name));

    request->method = method == HTTP_HEAD ? HTTP_GET : method;
    request->head_only = method == HTTP_HEAD;
    set_correlation_id(exchange);
    return method;
}

static enum http_result refuse_large_body(struct exchange *exchange) {
    return problem_respond(&exchange->public, 413, "body_too_large", "Body too large",
                           "a body may have at most %zu bytes",
                           exchange->thread->server->options.body_bytes_max);
}

bool http_dispatch_refuse_early(struct exchange *exchange, const char *method_name) {
    const struct str length = http_request_header(&exchange->public, "Content-Length");
    uint64_t announced = 0;

    if (length.len == 0 || !str_to_u64(length, &announced) ||
        announced <= exchange->thread->server->options.body_bytes_max) {
        return false;
    }
    exchange->body_too_large = true;
    if (announced <= HTTP_DISCARD_BYTES_MAX &&
        http_request_header(&exchange->public, "Expect").len == 0) {
        return false;
    }
    (void)prepare(exchange, method_name);
    (void)refuse_large_body(exchange);
    return true;
}

enum http_result http_dispatch(struct exchange *exchange, const char *method_name) {
    struct http_request *request = &exchange->public;
    struct http_server *server = exchange->thread->server;
    const enum http_method method = prepare(exchange, method_name);

    request->body = buf_str(&exchange->body);
    if (exchange->uri_too_long) {
        return problem_respond(request, 414, "url_too_long", "URL too long",
                               "a URL may have at most %zu bytes", server->options.url_bytes_max);
    }
    if (exchange->body_too_large) {
        return refuse_large_body(exchange);
    }
    if (atomic_load(&server->draining)) {
        return problem_respond(request, 503, "draining", "Shutting down",
                               "this process is shutting down; try again");
    }
    return route_request(exchange, method);
}
