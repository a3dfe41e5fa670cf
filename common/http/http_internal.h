/*
 * What the server's own files share; nobody else includes this.
 *
 *   http_server.c    options, sockets, threads, start and stop
 *   http_daemon.c    one libmicrohttpd daemon on one loop: its callbacks, suspending and resuming;
 *                    the one file that includes microhttpd
 *   http_dispatch.c  from a complete request to its handler or its refusal
 *   http_peers.c     connections: their number, their deadlines
 *   http_stream.c    answers without an end
 *   http_request.c   the memory of requests, and what handlers call
 *   http_metrics.c   counting answers
 *   http_trace.c     a span per request
 *   http_auth.c      who may ask for what
 */
#ifndef DAYBOOK_HTTP_HTTP_INTERNAL_H
#define DAYBOOK_HTTP_HTTP_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/uuid.h"
#include "common/http/http_server.h"
#include "common/http/http_stream.h"

struct MHD_Connection;
struct MHD_Daemon;

enum {
    HTTP_ROUTES_MAX = 64,
    HTTP_STATUS_FIRST = 100,
    HTTP_STATUS_COUNT = 500,
    /* Connections a thread takes beyond its limit, to tell their clients that it is full. */
    HTTP_SURPLUS_CONNECTIONS = 64,
    /* How much of a body that is refused anyway is read to keep the connection usable. One that
     * announces more is refused before it is read, one that turns out longer is cut off. */
    HTTP_DISCARD_BYTES_MAX = 1024 * 1024,
};

/*
 * Where a request stands; written by its server thread alone.
 *
 *   NEW ──▶ READING ──▶ HANDLING ──▶ ANSWERED                 (HTTP_DONE)
 *    │                     └──▶ HELD ──▶ RESUMED ──▶ ANSWERED (HTTP_LATER, http_complete)
 *    └──▶ ANSWERED                                             (refused by its headers)
 *
 * The client may leave in any state. A held request is freed when it is completed, never before:
 * one whose connection is suspended is answered into the void, one that lingers (http_daemon.c) is
 * ABANDONED until then.
 */
enum exchange_state {
    EXCHANGE_NEW,      /* its request line is there */
    EXCHANGE_READING,  /* its headers are complete */
    EXCHANGE_HANDLING, /* its handler runs */
    EXCHANGE_HELD,     /* somebody will call http_complete, or has */
    EXCHANGE_RESUMED,
    EXCHANGE_ANSWERED,
    EXCHANGE_ABANDONED, /* held when its connection broke; freed once it is completed */
};

/* What MHD's connection points to; `public` is what handlers see. */
struct exchange {
    struct http_request public;
    enum exchange_state state;
    struct server_thread *thread;
    struct MHD_Connection *connection;
    struct http_peer *peer;
    uint32_t lingers; /* held: turns left until its connection is suspended; 0: it is */
    struct buf body;
    struct str uri; /* raw, with the query; in the arena */
    bool uri_too_long;
    bool body_too_large;
    uint64_t discarded_bytes;   /* of a body that is too large */
    bool in_flight;             /* counted in the server's in_flight */
    struct http_stream *stream; /* the answer, when it is one; owned until the request is over */
    struct span *span;          /* when this request is recorded; in the arena */
    struct exchange *next;      /* in the completion list or the free list */
};

enum {
    HTTP_STREAM_KEEP_BYTES = 4096, /* of its buffer, while nothing waits */
    /* What the kernel holds for a client that doesn't take it (it doubles the number). */
    HTTP_STREAM_SOCKET_BYTES = 64 * 1024,
};

enum http_stream_state { HTTP_STREAM_OPEN, HTTP_STREAM_ENDED, HTTP_STREAM_CUT };

struct http_stream {
    struct exchange *exchange;
    http_stream_closed_fn *closed;
    void *arg;
    struct buf buffer;
    size_t read; /* of the buffer: up to here it went to the client */
    uint64_t taken;
    enum http_stream_state state;
    bool suspended; /* its connection sleeps: there is nothing to send */
    bool due;       /* in the thread's streams_due */
    struct http_stream *next_due;
};

/* See http_peers.c. The one there longest first. */
struct http_peer_list {
    struct http_peer *first;
    struct http_peer *last;
};

/* Why a connection was cut off. */
enum http_closed { HTTP_CLOSED_IDLE, HTTP_CLOSED_SLOW, HTTP_CLOSED_LIMIT, HTTP_CLOSED_REASONS };

struct server_thread {
    struct http_server *server;
    uint32_t index;
    struct loop *loop;
    struct MHD_Daemon *daemon;
    int listen_fd; /* -1: none, or the daemon's */
    pthread_t id;
    bool started;
    bool run_again;           /* MHD has work that its descriptor does not show */
    bool write_due;           /* answers will be queued for connections that lingered */
    size_t lingering;         /* connections held without being suspended */
    int64_t turn_began_at_us; /* the loop's present turn */
    struct http_peer_list waiting;
    struct http_peer_list working;
    size_t peer_count;                      /* all, also those held and cut off */
    size_t cut_off_count;                   /* of them */
    size_t peers_max;                       /* this thread's share of connections_max */
    struct http_stream *streams_due;        /* to be continued at the end of the turn */
    _Atomic(struct exchange *) completions; /* newest first; pushed by any thread */
    struct exchange *free_list;
    size_t free_count;
    struct uuid_source uuids;
};

struct http_server {
    struct http_server_options options;
    struct http_route routes[HTTP_ROUTES_MAX];
    size_t route_count;
    struct server_thread *threads;
    uint16_t port;
    atomic_bool draining;
    atomic_size_t in_flight;
    atomic_int connections;
    struct metric_gauge *connections_gauge;
    struct metric_gauge *in_flight_gauge;
    struct metric_counter *closed[HTTP_CLOSED_REASONS];
    struct metric_counter *auth_outcomes[AUTH_VERDICTS]; /* where there is an auth */
    struct metric_counter *scope_missing;
    /* By route; the last row is for requests without one. */
    struct metric_histogram *seconds[HTTP_ROUTES_MAX + 1];
    _Atomic(struct metric_counter *) counters[HTTP_ROUTES_MAX + 1][HTTP_STATUS_COUNT];
};

/* http_daemon.c */

/* Starts the thread's daemon on its listening socket, which it takes, and ties it to the loop. */
MUST_CHECK enum err_code http_daemon_start(struct server_thread *thread, struct err *err);
/* Closes the listening socket. On the owner's thread. */
void http_daemon_quiesce(struct server_thread *thread);
/* When the thread has ended and nothing is held. */
void http_daemon_stop(struct server_thread *thread);

/* http_dispatch.c */

/* The headers are there, the body is not read. True: refused, the response is set. */
bool http_dispatch_refuse_early(struct exchange *exchange, const char *method_name);
/* The request is complete: calls its handler, or refuses it and returns HTTP_DONE. */
enum http_result http_dispatch(struct exchange *exchange, const char *method_name);

/* http_peers.c, on the owner's thread */

/* Accepted; it waits for its first request. */
struct http_peer *http_peer_new(struct server_thread *thread, int fd);
void http_peer_free(struct server_thread *thread, struct http_peer *peer);
/* Its turn to ask for something. */
void http_peer_wait(struct server_thread *thread, struct http_peer *peer);
/* Its turn to send the rest of a request, or to take an answer. */
void http_peer_work(struct server_thread *thread, struct http_peer *peer);
/* Our turn. */
void http_peer_hold(struct http_peer *peer);
/* False: it came when the thread was full, and the thread still is. */
bool http_peer_has_place(const struct server_thread *thread, struct http_peer *peer);
/* Closes the connection now. */
void http_peer_cut_off(struct server_thread *thread, struct http_peer *peer, enum http_closed why);
/* Its answer is a stream: the kernel keeps only so much for a client that doesn't take it. */
void http_peer_limit_unsent(const struct http_peer *peer);
/* Cuts off who is late; returns the time to the next deadline, -1: there is none. */
int64_t http_peers_cut_off(struct server_thread *thread);

/* http_request.c; the first two on the owner's thread */

struct exchange *http_exchange_new(struct server_thread *thread);
void http_exchange_recycle(struct exchange *exchange);
/* Frees what the thread keeps for its next requests. */
void http_exchange_free_all(struct server_thread *thread);

/* http_stream.c */

/* Moves what waits to `out`. 0: nothing waits. */
size_t http_stream_read(struct http_stream *stream, char *out, size_t max);
/* The request is over, and so is its stream, if it has one. */
void http_stream_over(struct exchange *exchange);

/* http_metrics.c */

void http_metrics_register(struct http_server *server);
/* The request is about to be answered with the response it has. */
void http_metrics_count(struct http_server *server, const struct http_request *request);

/* http_auth.c; only where there is an auth */

/* Its route is known. False: refused, the response is set. */
bool http_auth_permits(struct exchange *exchange, bool builtin);

/* http_trace.c; only where there is a tracer */

/* Its route is known. */
void http_trace_begin(struct exchange *exchange);
/* The request is about to be answered. */
void http_trace_end(struct exchange *exchange);

#endif
