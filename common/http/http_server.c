/*
 * How a request is suspended and resumed
 *
 *   access callback ──handler──▶ HTTP_DONE ─────────────────────────────▶ response queued
 *                       └─▶ HTTP_LATER ─▶ MHD_suspend_connection ┐
 *   http_complete (any thread) ─▶ thread's list, loop woken      │
 *   the owner's loop, end of turn: list ─▶ MHD_resume_connection ┘─▶ access callback ─▶ response
 *
 * Resuming happens on the owning thread only, at the end of a turn, never inside the access
 * callback: so a completion may arrive before the suspension and still be resumed after it.
 *
 * MHD runs in external mode: its epoll descriptor is watched by our loop and MHD_run is called once
 * a turn. Its own epoll thread (0.9.75) can sleep for ever with work in hand.
 */
#include "common/http/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/uuid.h"
#include "common/http/correlation_id.h"
#include "common/http/http_builtin.h"
#include "common/http/problem.h"
#include "common/http/router.h"

enum {
    ROUTES_MAX = 64,
    STATUS_FIRST = 100,
    STATUS_COUNT = 500,
    FREE_REQUESTS_MAX = 256,
    ARENA_BLOCK_BYTES = 4096,
    CONNECTION_MEMORY_BYTES = 32 * 1024,
    LISTEN_BACKLOG = 1024,
};

struct server_thread;

/* What MHD's connection points to; `public` is what handlers see. */
struct exchange {
    struct http_request public;
    struct server_thread *thread;
    struct MHD_Connection *connection;
    struct buf body;
    struct str uri; /* raw, with the query; in the arena */
    bool uri_too_long;
    bool body_too_large;
    bool announced; /* the first call of the access callback has been */
    bool dispatched;
    bool held;             /* handed to a handler that answers later */
    bool completed;        /* and it has */
    struct exchange *next; /* in the completion list or the free list */
};

struct server_thread {
    struct http_server *server;
    uint32_t index;
    struct loop *loop;
    struct MHD_Daemon *daemon;
    int listen_fd;
    int epoll_fd;
    pthread_t id;
    bool started;
    _Atomic(struct exchange *) completions; /* newest first; pushed by any thread */
    struct exchange *free_list;
    size_t free_count;
    struct uuid_source uuids;
};

struct http_server {
    struct http_server_options options;
    struct http_route routes[ROUTES_MAX];
    size_t route_count;
    struct server_thread *threads;
    uint16_t port;
    atomic_bool draining;
    atomic_size_t in_flight;
    atomic_int connections;
    struct metric_gauge *connections_gauge;
    struct metric_gauge *in_flight_gauge;
    struct metric_histogram *seconds[ROUTES_MAX + 1];
    /* Row: route, the last one for requests without a route. */
    _Atomic(struct metric_counter *) counters[ROUTES_MAX + 1][STATUS_COUNT];
};

struct http_server_options http_server_defaults(void) {
    return (struct http_server_options){
        .address = "127.0.0.1",
        .threads = 1,
        .connections_max = 8192,
        .idle_timeout_s = 75,
        .body_bytes_max = 16 * 1024,
        .url_bytes_max = 4096,
        .request_arena_bytes_max = 1024 * 1024,
    };
}

/* --- exchanges --- */

static struct exchange *exchange_new(struct server_thread *thread) {
    struct exchange *exchange = thread->free_list;
    const struct http_server_options *options = &thread->server->options;

    if (exchange != NULL) {
        thread->free_list = exchange->next;
        thread->free_count--;
        struct arena arena = exchange->public.arena;
        const struct buf body = exchange->body;
        memset(exchange, 0, sizeof(*exchange));
        exchange->public.arena = arena;
        exchange->body = body;
    } else {
        exchange = mem_zalloc(sizeof(*exchange));
        arena_init(&exchange->public.arena, ARENA_BLOCK_BYTES, options->request_arena_bytes_max);
        buf_init(&exchange->body, options->body_bytes_max);
    }
    exchange->thread = thread;
    exchange->public.internal = exchange;
    exchange->public.thread_index = thread->index;
    exchange->public.received_at_us = clock_monotonic_us();
    return exchange;
}

static void exchange_free(struct exchange *exchange) {
    arena_release(&exchange->public.arena);
    buf_release(&exchange->body);
    mem_free(exchange);
}

static void exchange_recycle(struct exchange *exchange) {
    struct server_thread *thread = exchange->thread;

    if (thread->free_count == FREE_REQUESTS_MAX) {
        exchange_free(exchange);
        return;
    }
    arena_clear(&exchange->public.arena);
    buf_clear(&exchange->body);
    exchange->next = thread->free_list;
    thread->free_list = exchange;
    thread->free_count++;
}

/* --- what handlers use --- */

struct str http_request_header(const struct http_request *request, const char *name) {
    const struct exchange *exchange = request->internal;

    return str_from(MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name));
}

struct header_count {
    const char *name;
    size_t count;
};

static enum MHD_Result count_header(void *arg, enum MHD_ValueKind kind, const char *name,
                                    const char *value) {
    struct header_count *wanted = arg;

    (void)kind;
    (void)value;
    wanted->count += str_eq_nocase(str_from(name), str_from(wanted->name));
    return MHD_YES;
}

size_t http_request_header_count(const struct http_request *request, const char *name) {
    const struct exchange *exchange = request->internal;
    struct header_count wanted = {.name = name};

    (void)MHD_get_connection_values(exchange->connection, MHD_HEADER_KIND, count_header, &wanted);
    return wanted.count;
}

struct str http_path_param(const struct http_request *request, const char *name) {
    for (size_t i = 0; i < request->path_param_count; i++) {
        if (str_eq(request->path_params[i].name, str_from(name))) {
            return request->path_params[i].value;
        }
    }
    return (struct str){0};
}

bool http_query_param(const struct http_request *request, const char *name, struct str *value) {
    for (size_t i = 0; i < request->query_count; i++) {
        if (str_eq(request->query[i].name, str_from(name))) {
            *value = request->query[i].value;
            return true;
        }
    }
    return false;
}

void http_respond(struct http_request *request, int status, const char *content_type,
                  struct str body) {
    request->response.status = status;
    request->response.content_type = content_type;
    request->response.body = body;
}

void http_respond_header(struct http_request *request, const char *name, struct str value) {
    struct http_response *response = &request->response;

    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] == '\r' || value.ptr[i] == '\n' || value.ptr[i] == '\0') {
            return;
        }
    }
    const struct str kept = arena_str(&request->arena, value);
    if (kept.ptr != NULL && response->header_count < HTTP_RESPONSE_HEADERS_MAX) {
        response->headers[response->header_count++] = (struct http_header){name, kept};
    }
}

void http_complete(struct http_request *request) {
    struct exchange *exchange = request->internal;
    struct server_thread *thread = exchange->thread;
    struct exchange *head = atomic_load(&thread->completions);

    do {
        exchange->next = head;
    } while (!atomic_compare_exchange_weak(&thread->completions, &head, exchange));
    /* Whoever finds the list empty wakes the loop; the rest ride along. */
    if (head == NULL) {
        loop_wake(thread->loop);
    }
}

/* --- answering --- */

static struct metric_counter *request_counter(struct http_server *server,
                                              const struct http_request *request) {
    const size_t row =
        request->route != NULL ? (size_t)(request->route - server->routes) : ROUTES_MAX;
    const int status = request->response.status;
    char labels[192];

    if (status < STATUS_FIRST || status >= STATUS_FIRST + STATUS_COUNT) {
        return NULL;
    }
    _Atomic(struct metric_counter *) *slot = &server->counters[row][status - STATUS_FIRST];
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

static void count_answer(struct http_server *server, const struct http_request *request) {
    struct metric_counter *counter = request_counter(server, request);
    const size_t row =
        request->route != NULL ? (size_t)(request->route - server->routes) : ROUTES_MAX;

    if (counter != NULL) {
        metric_add(counter, 1);
    }
    metric_observe(server->seconds[row], clock_monotonic_us() - request->received_at_us);
}

static enum MHD_Result queue_response(struct exchange *exchange) {
    struct http_request *request = &exchange->public;
    struct http_response *response = &request->response;
    struct http_server *server = exchange->thread->server;
    union {
        const char *in;
        void *out;
    } body = {.in = response->body.ptr};

    /* The arena outlives the response: it is cleared when MHD says the request is over. */
    struct MHD_Response *mhd =
        MHD_create_response_from_buffer(response->body.len, body.out, MHD_RESPMEM_PERSISTENT);
    if (mhd == NULL) {
        return MHD_NO;
    }
    if (response->content_type != NULL && response->body.len > 0) {
        (void)MHD_add_response_header(mhd, "Content-Type", response->content_type);
    }
    for (size_t i = 0; i < response->header_count; i++) {
        (void)MHD_add_response_header(mhd, response->headers[i].name,
                                      response->headers[i].value.ptr);
    }
    (void)MHD_add_response_header(mhd, "X-Correlation-ID", request->correlation_id.ptr);
    (void)MHD_add_response_header(mhd, "Cache-Control", "no-store");
    if (atomic_load(&server->draining)) {
        (void)MHD_add_response_header(mhd, "Connection", "close");
    }
    const enum MHD_Result result =
        MHD_queue_response(exchange->connection, (unsigned)response->status, mhd);
    MHD_destroy_response(mhd);
    count_answer(server, request);
    return result;
}

/* --- a request's way in --- */

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

static void *on_uri(void *arg, const char *uri, struct MHD_Connection *connection) {
    struct server_thread *thread = arg;
    struct exchange *exchange = exchange_new(thread);
    const struct str text = str_from(uri);

    exchange->connection = connection;
    exchange->uri_too_long = text.len > thread->server->options.url_bytes_max;
    exchange->uri = exchange->uri_too_long ? STR("/") : arena_str(&exchange->public.arena, text);
    const char *question = memchr(exchange->uri.ptr, '?', exchange->uri.len);
    exchange->public.path =
        str_of(exchange->uri.ptr,
               question != NULL ? (size_t)(question - exchange->uri.ptr) : exchange->uri.len);
    return exchange;
}

/* The path and query stay as they were sent: the router decodes them. */
static size_t keep_escapes(void *arg, struct MHD_Connection *connection, char *text) {
    (void)arg;
    (void)connection;
    return strlen(text);
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

static enum http_result route_request(struct exchange *exchange, enum http_method method) {
    struct http_request *request = &exchange->public;
    struct http_server *server = exchange->thread->server;
    const struct http_route *route = NULL;
    struct buf allow;
    enum http_result result;

    buf_init(&allow, 128);
    const size_t path_end = request->path.len;
    switch (router_match(server->routes, server->route_count, method, request->path, request,
                         &route, &allow)) {
    case ROUTER_FOUND:
        request->route = route;
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

static enum http_result dispatch(struct exchange *exchange, const char *method_name) {
    struct http_request *request = &exchange->public;
    struct http_server *server = exchange->thread->server;
    const enum http_method method = http_method_parse(str_from(method_name));

    request->method = method == HTTP_HEAD ? HTTP_GET : method;
    request->head_only = method == HTTP_HEAD;
    request->body = buf_str(&exchange->body);
    set_correlation_id(exchange);
    if (exchange->uri_too_long) {
        return problem_respond(request, 414, "url_too_long", "URL too long",
                               "a URL may have at most %zu bytes", server->options.url_bytes_max);
    }
    if (exchange->body_too_large) {
        return problem_respond(request, 413, "body_too_large", "Body too large",
                               "a body may have at most %zu bytes", server->options.body_bytes_max);
    }
    if (atomic_load(&server->draining)) {
        return problem_respond(request, 503, "draining", "Shutting down",
                               "this process is shutting down; try again");
    }
    return route_request(exchange, method);
}

static enum MHD_Result on_access(void *arg, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_bytes, void **context) {
    struct exchange *exchange = *context;
    struct http_server *server = exchange->thread->server;

    (void)arg;
    (void)url;
    (void)version;
    if (!exchange->announced) {
        /* Answering in the first call would force the connection closed. */
        exchange->announced = true;
        return MHD_YES;
    }
    if (*upload_bytes > 0) {
        buf_put(&exchange->body, upload, *upload_bytes);
        exchange->body_too_large = exchange->body_too_large || buf_failed(&exchange->body);
        *upload_bytes = 0;
        return MHD_YES;
    }
    if (!exchange->dispatched) {
        exchange->dispatched = true;
        atomic_fetch_add(&server->in_flight, 1);
        if (dispatch(exchange, method) == HTTP_LATER) {
            exchange->held = true;
            MHD_suspend_connection(connection);
            return MHD_YES;
        }
        return queue_response(exchange);
    }
    return exchange->completed ? queue_response(exchange) : MHD_YES;
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode why) {
    struct exchange *exchange = *context;

    (void)arg;
    (void)connection;
    (void)why;
    if (exchange == NULL) {
        return;
    }
    if (exchange->dispatched) {
        atomic_fetch_sub(&exchange->thread->server->in_flight, 1);
    }
    exchange_recycle(exchange);
    *context = NULL;
}

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what) {
    struct server_thread *thread = arg;

    (void)connection;
    (void)context;
    atomic_fetch_add(&thread->server->connections, what == MHD_CONNECTION_NOTIFY_STARTED ? 1 : -1);
}

/* --- the threads --- */

static bool resume_completed(struct server_thread *thread) {
    struct exchange *list = atomic_exchange(&thread->completions, NULL);
    struct exchange *ordered = NULL;
    const bool any = list != NULL;

    while (list != NULL) { /* oldest first */
        struct exchange *next = list->next;
        list->next = ordered;
        ordered = list;
        list = next;
    }
    while (ordered != NULL) {
        struct exchange *next = ordered->next;
        ordered->completed = true;
        MHD_resume_connection(ordered->connection);
        ordered = next;
    }
    return any;
}

static void on_turn(void *arg) {
    struct server_thread *thread = arg;
    MHD_UNSIGNED_LONG_LONG timeout_ms = 0;

    (void)resume_completed(thread);
    (void)MHD_run(thread->daemon);
    metric_set(thread->server->connections_gauge, atomic_load(&thread->server->connections));
    metric_set(thread->server->in_flight_gauge, (int64_t)atomic_load(&thread->server->in_flight));
    if (atomic_load(&thread->completions) != NULL) {
        loop_sleep_at_most(thread->loop, 0);
    } else if (MHD_get_timeout(thread->daemon, &timeout_ms) == MHD_YES) {
        loop_sleep_at_most(thread->loop, (int64_t)timeout_ms * 1000);
    }
}

static void on_epoll(void *arg, int fd, unsigned events) {
    /* Readiness only ends the sleep: MHD_run is called at the end of every turn. */
    (void)arg;
    (void)fd;
    (void)events;
}

static void *thread_main(void *arg) {
    struct server_thread *thread = arg;

    loop_run(thread->loop);
    return NULL;
}

static enum err_code open_socket(const char *address, uint16_t port, int *out, struct err *err) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    const int on = 1;

    if (inet_pton(AF_INET, address, &at.sin_addr) != 1) {
        return err_set(err, ERR_INVALID, "\"%s\" is not an IPv4 address", address);
    }
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return err_set(err, ERR_INTERNAL, "socket: %s", strerror(errno));
    }
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) != 0 ||
        listen(fd, LISTEN_BACKLOG) != 0) {
        const enum err_code code = err_set(err, ERR_UNAVAILABLE, "cannot listen on %s:%u: %s",
                                           address, (unsigned)port, strerror(errno));
        (void)close(fd);
        return code;
    }
    *out = fd;
    return ERR_OK;
}

static uint16_t bound_port(int fd) {
    struct sockaddr_in at = {0};
    socklen_t len = sizeof(at);

    (void)getsockname(fd, (struct sockaddr *)&at, &len);
    return ntohs(at.sin_port);
}

static enum err_code start_daemon(struct server_thread *thread, struct err *err) {
    const struct http_server_options *options = &thread->server->options;
    const unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;

    thread->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, thread, MHD_OPTION_LISTEN_SOCKET, thread->listen_fd,
        MHD_OPTION_CONNECTION_LIMIT, options->connections_max / options->threads + 1,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, options->connections_per_address_max,
        MHD_OPTION_CONNECTION_TIMEOUT, options->idle_timeout_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_MEMORY_BYTES, MHD_OPTION_URI_LOG_CALLBACK, on_uri, thread,
        MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        thread, MHD_OPTION_NOTIFY_CONNECTION, on_connection, thread, MHD_OPTION_STRICT_FOR_CLIENT,
        1, MHD_OPTION_END);
    if (thread->daemon == NULL) {
        return err_set(err, ERR_INTERNAL, "the HTTP server could not be started");
    }
    thread->listen_fd = -1; /* MHD's now */
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(thread->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL) {
        return err_set(err, ERR_INTERNAL, "the HTTP server has no epoll descriptor");
    }
    thread->epoll_fd = info->epoll_fd;
    loop_on_turn(thread->loop, on_turn, thread);
    return loop_watch(thread->loop, thread->epoll_fd, LOOP_READ, on_epoll, thread, err);
}

static void register_metrics(struct http_server *server) {
    struct metrics *metrics = server->options.metrics;
    char labels[160];

    server->connections_gauge =
        metrics_gauge(metrics, "daybook_http_connections", "", "Open connections.");
    server->in_flight_gauge =
        metrics_gauge(metrics, "daybook_http_in_flight", "", "Requests being answered.");
    for (size_t i = 0; i <= server->route_count; i++) {
        const bool other = i == server->route_count;
        (void)snprintf(labels, sizeof(labels), "method=\"%s\",route=\"%s\"",
                       other ? "other" : http_method_name(server->routes[i].method),
                       other ? "other" : server->routes[i].path);
        server->seconds[other ? ROUTES_MAX : i] =
            metrics_latency(metrics, "daybook_http_request_seconds", labels,
                            "From the headers' end to the answer.");
    }
}

static enum err_code copy_routes(struct http_server *server, struct err *err) {
    struct http_route builtin[HTTP_BUILTIN_ROUTES];
    const size_t count = server->options.route_count;

    if (count + HTTP_BUILTIN_ROUTES > ROUTES_MAX) {
        return err_set(err, ERR_LIMIT, "more than %d routes", ROUTES_MAX);
    }
    http_builtin_routes(server->options.health, server->options.metrics, builtin);
    if (count > 0) {
        memcpy(server->routes, server->options.routes, count * sizeof(server->routes[0]));
    }
    memcpy(server->routes + count, builtin, sizeof(builtin));
    server->route_count = count + HTTP_BUILTIN_ROUTES;
    return ERR_OK;
}

enum err_code http_server_new(const struct http_server_options *options, struct http_server **out,
                              struct err *err) {
    struct http_server *server = mem_zalloc(sizeof(*server));
    enum err_code code;

    server->options = *options;
    server->port = options->port;
    server->threads = mem_array(options->threads, sizeof(server->threads[0]));
    for (uint32_t i = 0; i < options->threads; i++) {
        server->threads[i].listen_fd = -1;
    }
    code = copy_routes(server, err);
    if (code == ERR_OK) {
        register_metrics(server);
    }
    for (uint32_t i = 0; code == ERR_OK && i < options->threads; i++) {
        struct server_thread *thread = &server->threads[i];
        thread->server = server;
        thread->index = i;
        uuid_source_init(&thread->uuids);
        code = loop_new(&thread->loop, err);
        if (code == ERR_OK) {
            code = open_socket(options->address, server->port, &thread->listen_fd, err);
        }
        if (code == ERR_OK) {
            server->port = bound_port(thread->listen_fd);
            code = start_daemon(thread, err);
        }
    }
    if (code != ERR_OK) {
        http_server_free(server);
        return code;
    }
    *out = server;
    return ERR_OK;
}

uint16_t http_server_port(const struct http_server *server) {
    return server->port;
}

struct loop *http_server_loop(struct http_server *server, uint32_t thread_index) {
    return server->threads[thread_index].loop;
}

enum err_code http_server_start(struct http_server *server, struct err *err) {
    for (uint32_t i = 0; i < server->options.threads; i++) {
        struct server_thread *thread = &server->threads[i];
        const int failed = pthread_create(&thread->id, NULL, thread_main, thread);
        if (failed != 0) {
            return err_set(err, ERR_INTERNAL, "pthread_create: %s", strerror(failed));
        }
        thread->started = true;
    }
    log_info(server->options.log, log_event("http.listening"),
             log_cstr("address", server->options.address), log_i64("port", server->port));
    return ERR_OK;
}

static void quiesce(void *arg) {
    struct server_thread *thread = arg;
    const MHD_socket fd = MHD_quiesce_daemon(thread->daemon);

    if (fd != MHD_INVALID_SOCKET) {
        (void)close(fd);
    }
}

size_t http_server_stop(struct http_server *server, int64_t wait_ms) {
    const int64_t deadline_us = clock_monotonic_us() + wait_ms * 1000;
    const struct timespec pause = {.tv_nsec = 2000000};

    if (server->options.health != NULL) {
        health_drain(server->options.health);
    }
    for (uint32_t i = 0; i < server->options.threads; i++) {
        if (server->threads[i].started &&
            !loop_post(server->threads[i].loop, quiesce, &server->threads[i])) {
            log_warn(server->options.log, log_event("http.quiesce_failed"));
        }
    }
    /* What comes on kept connections from here on is refused, so that a busy client can't keep the
     * process from stopping. */
    atomic_store(&server->draining, true);
    while (atomic_load(&server->in_flight) > 0 && clock_monotonic_us() < deadline_us) {
        (void)nanosleep(&pause, NULL);
    }
    for (uint32_t i = 0; i < server->options.threads; i++) {
        struct server_thread *thread = &server->threads[i];
        if (thread->started) {
            loop_stop(thread->loop);
            (void)pthread_join(thread->id, NULL);
            thread->started = false;
        }
    }
    return atomic_load(&server->in_flight);
}

void http_server_free(struct http_server *server) {
    if (server == NULL) {
        return;
    }
    if (atomic_load(&server->in_flight) > 0) {
        /* Somebody still holds a request: its memory must stay. The process is about to end. */
        return;
    }
    for (uint32_t i = 0; i < server->options.threads; i++) {
        struct server_thread *thread = &server->threads[i];
        if (thread->daemon != NULL) {
            MHD_stop_daemon(thread->daemon);
        }
        if (thread->listen_fd >= 0) {
            (void)close(thread->listen_fd);
        }
        while (thread->free_list != NULL) {
            struct exchange *next = thread->free_list->next;
            exchange_free(thread->free_list);
            thread->free_list = next;
        }
        loop_free(thread->loop);
    }
    mem_free(server->threads);
    mem_free(server);
}
