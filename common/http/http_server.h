/*
 * The HTTP server: routes as table rows, handlers that answer at once or later, problem+json for
 * every refusal.
 *
 * Invariants
 *
 *  1. A request belongs to the server's thread from its first byte to the end of its handler's
 *     call. A handler that returns HTTP_LATER hands it on; whoever holds it then calls
 *     http_complete exactly once, from any thread. Until then its arena, body and response may be
 *     used by the holder; after it the request is gone.
 *
 *  2. http_complete may come at any time from the handler's call on, also before the handler has
 *     returned. The connection is suspended when the handler has returned HTTP_LATER, or up to
 *     linger_turns later, and is only ever resumed by its own thread at the end of a turn: a
 *     completion can't overtake it.
 *
 *  3. A client that leaves does not free a request that somebody still holds.
 *
 *  4. Everything is bounded: connections (all, per address), the time a client may take, URL,
 *     headers, body, memory per request.
 *
 *  5. HEAD is answered as GET without the body; OPTIONS with 204 and Allow; a known path with
 *     another method with 405 and Allow; an unknown path with 404.
 *
 *
 *  6. Where there is an auth, no handler is called for a caller who lacks the route's scope (see
 *     http_auth.c): 401 or 403.
 *
 * At the limit of connections (each thread has an equal share of it) those that have waited for
 * their client for a second or longer are closed, the longest first. Is there none, then newcomers
 * are answered 503 too_many_connections (/health, /ready, /metrics as always) and closed.
 *
 * Each server thread runs a loop of its own (runtime/loop.h) with its own listening socket
 * (SO_REUSEPORT), so adapters that need a loop (Redis) can live on the same thread and resume
 * without crossing threads. microhttpd is included by http_daemon.c alone.
 */
#ifndef DAYBOOK_HTTP_HTTP_SERVER_H
#define DAYBOOK_HTTP_HTTP_SERVER_H

#include <stdbool.h>
#include <stdint.h>

#include "common/auth/auth.h"
#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/log.h"
#include "common/runtime/health.h"
#include "common/runtime/loop.h"
#include "common/runtime/metrics.h"
#include "common/runtime/tracing.h"

enum {
    HTTP_PATH_PARAMS_MAX = 4,
    HTTP_QUERY_PARAMS_MAX = 16,
    HTTP_RESPONSE_HEADERS_MAX = 12,
    HTTP_CORRELATION_ID_BYTES_MAX = 128,
};

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_PUT,
    HTTP_DELETE,
    HTTP_PATCH,
    HTTP_OPTIONS,
    HTTP_OTHER
};

struct http_param {
    struct str name;
    struct str value; /* percent-decoded */
};

struct http_header {
    const char *name; /* a literal */
    struct str value; /* in the request's arena, or static */
};

struct http_response {
    int status;
    const char *content_type; /* static */
    struct str body;          /* in the request's arena, or static, or `body_buf` */
    struct http_header headers[HTTP_RESPONSE_HEADERS_MAX];
    size_t header_count;
};

struct http_request {
    enum http_method method; /* HEAD arrives as HTTP_GET with head_only */
    bool head_only;
    struct str path; /* as sent, still percent-encoded, without the query */
    struct http_param path_params[HTTP_PATH_PARAMS_MAX];
    size_t path_param_count;
    struct http_param query[HTTP_QUERY_PARAMS_MAX]; /* in order; names may repeat */
    size_t query_count;
    struct str body;            /* complete */
    struct str correlation_id;  /* from X-Correlation-ID when well-formed, else made here (UUIDv7);
                                   never empty */
    struct str subject;         /* who calls; len 0 when anybody may */
    struct trace_context trace; /* our span for it, child of the traceparent sent; unset when
                                   tracing is off */
    int64_t received_at_us;     /* clock_monotonic_us at the headers' end */
    uint32_t thread_index;      /* of the server thread that owns it */
    struct arena arena;         /* for whoever holds the request */
    struct http_response response;
    void *user; /* for the handler */
    const struct http_route *route;
    void *internal;
};

enum http_result { HTTP_DONE, HTTP_LATER };

/* Fills request->response and returns HTTP_DONE, or keeps the request and returns HTTP_LATER. */
typedef enum http_result http_handler_fn(void *context, struct http_request *request);

struct http_route {
    enum http_method method;
    const char *path; /* "/accounts/{id}/deposit": {name} matches one non-empty segment, decoded */
    http_handler_fn *handler; /* NULL: served by another process. This one answers 405 here, but
                                 Allow lists it */
    void *context;
    const void *detail; /* for the handler: request->route->detail */
};

struct http_server_options {
    const char *address;
    uint16_t port; /* 0: any; see http_server_port */
    uint32_t threads;
    uint32_t connections_max; /* lowered, with an error in the log, to what RLIMIT_NOFILE allows */
    uint32_t connections_per_address_max; /* 0: no limit of its own (behind a gateway) */
    uint32_t idle_timeout_s; /* for each of: the next request's first line, the rest of it, the
                                answer; however busy the client looks */
    uint32_t linger_turns;   /* how often a request that was kept back is looked at again, once or
                                twice a turn of the loop, before its connection is suspended. 0
                                (default) where answers take longer than that as a rule, 4 where
                                they don't: suspending costs system calls, each look some 0.1 µs */
    size_t body_bytes_max;
    size_t url_bytes_max;
    size_t request_arena_bytes_max;
    const struct http_route *routes; /* copied; borrowed strings */
    size_t route_count;
    struct log *log;
    struct metrics *metrics; /* daybook_http_requests_total{method,route,status},
                                daybook_http_request_seconds, … */
    struct health *health;
    struct auth *auth;     /* NULL: anybody may call; must outlive the server's stop */
    struct tracer *tracer; /* NULL: no traces; must outlive the server's stop */
};
/* Defaults for all but routes, log, metrics, health, auth, tracer. */
struct http_server_options http_server_defaults(void);

struct http_server;

/* Adds GET /health (alive: 200), /ready (200 or 503), /metrics by itself. Raises RLIMIT_NOFILE to
 * its hard limit. Binds and listens; does not serve yet. ERR_LIMIT: hardly any file may be opened.
 */
MUST_CHECK enum err_code http_server_new(const struct http_server_options *options,
                                         struct http_server **out, struct err *err);
uint16_t http_server_port(const struct http_server *server);
/* The loop of one of its threads, for adapters that live there. Attach before http_server_start. */
struct loop *http_server_loop(struct http_server *server, uint32_t thread_index);
MUST_CHECK enum err_code http_server_start(struct http_server *server, struct err *err);
/* Stops accepting, waits until all requests in hand are answered (at most wait_ms), then stops the
 * threads. Requests somebody still holds after that are the caller's error. Returns how many were
 * cut off. */
size_t http_server_stop(struct http_server *server, int64_t wait_ms);
void http_server_free(struct http_server *server);

/* Hands a request that was kept back with its response. Exactly once, from any thread. Cheap when
 * called on the thread that owns the request; elsewhere it goes through that thread's loop. */
void http_complete(struct http_request *request);

/* Header of the request; len 0 when absent. Valid as long as the request; with linger_turns only
 * while its handler runs: after that to be called on the owner's thread alone, and absent once the
 * client has left. */
struct str http_request_header(const struct http_request *request, const char *name);
/* How often the header was sent (to refuse a repeated Idempotency-Key). */
size_t http_request_header_count(const struct http_request *request, const char *name);
struct str http_path_param(const struct http_request *request, const char *name);
/* First value of a query parameter; false when absent. */
bool http_query_param(const struct http_request *request, const char *name, struct str *value);

/* With 304, `body` is what a 200 would have sent: its length goes out, it does not. */
void http_respond(struct http_request *request, int status, const char *content_type,
                  struct str body);
/* Name: literal. Value: copied into the arena. Silently dropped past the maximum or with a CR, LF
 * or NUL in it. */
void http_respond_header(struct http_request *request, const char *name, struct str value);

#endif
