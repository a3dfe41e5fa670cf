#include "common/http/http_internal.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/http/router.h"

enum { LABELS_BYTES = 192 };

static size_t row_of(const struct http_server *server, const struct http_request *request) {
    return request->route != NULL ? (size_t)(request->route - server->routes) : HTTP_ROUTES_MAX;
}

/* The counter of this route and status, registered when the two first meet. Two threads may do that
 * at the same time: the registry gives both the same counter. */
static struct metric_counter *counter_of(struct http_server *server, size_t row,
                                         const struct http_request *request) {
    const int status = request->response.status;
    char labels[LABELS_BYTES];

    if (status < HTTP_STATUS_FIRST || status >= HTTP_STATUS_FIRST + HTTP_STATUS_COUNT) {
        return NULL;
    }
    _Atomic(struct metric_counter *) *slot = &server->counters[row][status - HTTP_STATUS_FIRST];
    struct metric_counter *counter = atomic_load_explicit(slot, memory_order_acquire);
    if (counter == NULL) {
        (void)snprintf(labels, sizeof(labels), "method=\"%s\",route=\"%s\",status=\"%d\"",
                       request->route != NULL ? http_method_name(request->method) : "other",
                       request->route != NULL ? request->route->path : "other", status);
        counter = metrics_counter(server->options.metrics, "daybook_http_requests_total", labels,
                                  "Requests answered.");
        atomic_store_explicit(slot, counter, memory_order_release);
    }
    return counter;
}

void http_metrics_count(struct http_server *server, const struct http_request *request) {
    const size_t row = row_of(server, request);
    struct metric_counter *counter = counter_of(server, row, request);

    if (counter != NULL) {
        metric_add(counter, 1);
    }
    metric_observe(server->seconds[row], clock_monotonic_us() - request->received_at_us);
}

void http_metrics_register(struct http_server *server) {
    struct metrics *metrics = server->options.metrics;
    char labels[LABELS_BYTES];

    server->connections_gauge =
        metrics_gauge(metrics, "daybook_http_connections", "", "Open connections.");
    server->in_flight_gauge =
        metrics_gauge(metrics, "daybook_http_in_flight", "", "Requests being answered.");
    for (size_t i = 0; i < HTTP_CLOSED_REASONS; i++) {
        static const char *const reasons[] = {"reason=\"idle\"", "reason=\"slow\"",
                                              "reason=\"limit\""};
        server->closed[i] = metrics_counter(metrics, "daybook_http_connections_closed_total",
                                            reasons[i], "Connections closed by the server.");
    }
    for (size_t i = 0; server->options.auth != NULL && i < AUTH_VERDICTS; i++) {
        static const char *const outcomes[AUTH_VERDICTS] = {
            "outcome=\"accepted\"", "outcome=\"missing\"", "outcome=\"invalid\"",
            "outcome=\"expired\""};
        server->auth_outcomes[i] = metrics_counter(metrics, "daybook_http_credentials_total",
                                                   outcomes[i], "Credentials looked at.");
    }
    if (server->options.auth != NULL) {
        server->scope_missing =
            metrics_counter(metrics, "daybook_http_scope_missing_total", "",
                            "Requests refused to callers who are known, for want of a scope.");
    }
    for (size_t i = 0; i <= server->route_count; i++) {
        const bool other = i == server->route_count;
        (void)snprintf(labels, sizeof(labels), "method=\"%s\",route=\"%s\"",
                       other ? "other" : http_method_name(server->routes[i].method),
                       other ? "other" : server->routes[i].path);
        server->seconds[other ? HTTP_ROUTES_MAX : i] =
            metrics_latency(metrics, "daybook_http_request_seconds", labels,
                            "From the request line to the answer.");
    }
}
