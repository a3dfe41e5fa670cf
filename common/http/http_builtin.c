#include "common/http/http_builtin.h"

#include "common/http/problem.h"

enum { METRICS_BYTES_MAX = 900 * 1024, READY_BYTES_MAX = 32 * 1024 };

static enum http_result respond_from(struct http_request *request, int status,
                                     const char *content_type, struct buf *body) {
    const struct str kept = arena_str(&request->arena, buf_str(body));
    const bool failed = buf_failed(body) || kept.ptr == NULL;

    buf_release(body);
    if (failed) {
        return problem_respond(request, 500, "internal", "Internal error",
                               "the answer is larger than its limit");
    }
    http_respond(request, status, content_type, kept);
    return HTTP_DONE;
}

static enum http_result get_health(void *context, struct http_request *request) {
    (void)context;
    http_respond(request, 200, "application/json", STR("{\"status\":\"alive\"}\n"));
    return HTTP_DONE;
}

static enum http_result get_ready(void *context, struct http_request *request) {
    struct health *health = context;
    struct buf body;

    buf_init(&body, READY_BYTES_MAX);
    health_render(health, &body);
    return respond_from(request, health_ready(health) ? 200 : 503, "application/json", &body);
}

static enum http_result get_metrics(void *context, struct http_request *request) {
    struct buf body;

    buf_init(&body, METRICS_BYTES_MAX);
    metrics_render(context, &body);
    return respond_from(request, 200, "text/plain; version=0.0.4; charset=utf-8", &body);
}

void http_builtin_routes(struct health *health, struct metrics *metrics,
                         struct http_route out[HTTP_BUILTIN_ROUTES]) {
    out[0] = (struct http_route){HTTP_GET, "/health", get_health, NULL, NULL};
    out[1] = (struct http_route){HTTP_GET, "/ready", get_ready, health, NULL};
    out[2] = (struct http_route){HTTP_GET, "/metrics", get_metrics, metrics, NULL};
}
