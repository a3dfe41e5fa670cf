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
 * Suspending and resuming cost MHD three system calls (out of its epoll set, a read that finds
 * nothing, into the set again), a good sixth of what a read from Redis costs. So where answers
 * come within a turn or two (linger_turns) a held connection lingers first: not suspended, MHD
 * shows its request anew each turn, and is told to wait. Only who still waits then is suspended.
 * A connection that breaks while it lingers is closed by MHD at once, suspended ones when they are
 * resumed: hence ABANDONED. (A client's half-close that arrives together with its request is not
 * seen again by MHD: such a connection is answered, then closed by the idle limit.)
 *
 * MHD runs in external mode: its epoll descriptor is watched by our loop and MHD_run is called once
 * a turn. Its own epoll thread (0.9.75) can sleep for ever with work in hand. And at its connection
 * limit it takes the listening socket out of epoll, and puts it back at the beginning of the
 * MHD_run after a connection was closed: so after a close it is run once more. Its timeout is
 * not used: http_peers.c has one that slow clients can't put off.
 */
#include "common/http/http_internal.h"

#include <assert.h>
#include <microhttpd.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"

/* What MHD may use for one connection's request line, headers and answer's headers. It clears all
 * of it before each request. */
enum { CONNECTION_MEMORY_BYTES = 12 * 1024, STREAM_BLOCK_BYTES = 1024 };

/* The longest turn while connections linger. */
enum { LINGER_TURN_US = 1000 };

/* --- headers --- */

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

/* --- answering --- */

/* MHD wants more of a stream. */
static ssize_t on_stream(void *arg, uint64_t position, char *out, size_t max) {
    struct http_stream *stream = arg;
    const size_t count = http_stream_read(stream, out, max);

    (void)position;
    if (count > 0) {
        return (ssize_t)count;
    }
    switch (stream->state) {
    case HTTP_STREAM_ENDED:
        return MHD_CONTENT_READER_END_OF_STREAM;
    case HTTP_STREAM_CUT:
        return MHD_CONTENT_READER_END_WITH_ERROR;
    case HTTP_STREAM_OPEN:
    default:
        stream->suspended = true;
        MHD_suspend_connection(stream->exchange->connection);
        return 0;
    }
}

static void continue_streams(struct server_thread *thread) {
    while (thread->streams_due != NULL) {
        struct http_stream *stream = thread->streams_due;
        thread->streams_due = stream->next_due;
        stream->due = false;
        stream->suspended = false;
        MHD_resume_connection(stream->exchange->connection);
    }
}

static struct MHD_Response *make_response(struct exchange *exchange) {
    const struct http_response *response = &exchange->public.response;
    union {
        const char *in;
        void *out;
    } body = {.in = response->body.ptr};

    if (exchange->stream != NULL && !exchange->public.head_only) {
        /* No deadline: who writes to it sees to slow clients. */
        http_peer_hold(exchange->peer);
        http_peer_limit_unsent(exchange->peer);
        return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, on_stream,
                                                 exchange->stream, NULL);
    }
    http_peer_work(exchange->thread, exchange->peer);
    /* The arena outlives the response: it is cleared when MHD says that the request is over. MHD
     * itself leaves the body out for HEAD and 304, and says its length. */
    return MHD_create_response_from_buffer(response->body.len, body.out, MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result answer(struct exchange *exchange) {
    struct http_request *request = &exchange->public;
    struct http_response *response = &request->response;
    struct http_server *server = exchange->thread->server;

    exchange->state = EXCHANGE_ANSWERED;
    struct MHD_Response *mhd = make_response(exchange);
    if (mhd == NULL) {
        return MHD_NO;
    }
    if (response->content_type != NULL && (response->body.len > 0 || exchange->stream != NULL)) {
        (void)MHD_add_response_header(mhd, "Content-Type", response->content_type);
    }
    for (size_t i = 0; i < response->header_count; i++) {
        (void)MHD_add_response_header(mhd, response->headers[i].name,
                                      response->headers[i].value.ptr);
    }
    (void)MHD_add_response_header(mhd, "X-Correlation-ID", request->correlation_id.ptr);
    (void)MHD_add_response_header(mhd, "Cache-Control", "no-store");
    if (atomic_load(&server->draining) || !http_peer_has_place(exchange->thread, exchange->peer)) {
        (void)MHD_add_response_header(mhd, "Connection", "close");
    }
    const enum MHD_Result result =
        MHD_queue_response(exchange->connection, (unsigned)response->status, mhd);
    MHD_destroy_response(mhd);
    http_metrics_count(server, request);
    if (exchange->span != NULL) {
        http_trace_end(exchange);
    }
    return result;
}

/* --- MHD's callbacks, in the order of a request's life --- */

static void on_connection(void *arg, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what) {
    struct server_thread *thread = arg;

    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        *context = http_peer_new(thread, info->connect_fd);
    } else {
        http_peer_free(thread, *context);
        thread->run_again = true;
    }
}

static void *on_uri(void *arg, const char *uri, struct MHD_Connection *connection) {
    struct server_thread *thread = arg;
    struct exchange *exchange = http_exchange_new(thread);
    const struct str text = str_from(uri);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

    exchange->connection = connection;
    exchange->peer = info->socket_context;
    http_peer_work(thread, exchange->peer);
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

static void count_in(struct exchange *exchange) {
    exchange->in_flight = true;
    atomic_fetch_add(&exchange->thread->server->in_flight, 1);
}

static enum MHD_Result on_headers(struct exchange *exchange, const char *method) {
    exchange->state = EXCHANGE_READING;
    if (!http_dispatch_refuse_early(exchange, method)) {
        /* Any other answer waits for the next call: here it would force the connection closed. */
        return MHD_YES;
    }
    count_in(exchange);
    return answer(exchange);
}

static enum MHD_Result on_body(struct exchange *exchange, const char *bytes, size_t len) {
    if (!exchange->body_too_large) {
        buf_put(&exchange->body, bytes, len);
        exchange->body_too_large = buf_failed(&exchange->body);
        return MHD_YES;
    }
    /* While a body comes in MHD takes no answer: no other end than closing. */
    exchange->discarded_bytes += len;
    return exchange->discarded_bytes <= HTTP_DISCARD_BYTES_MAX ? MHD_YES : MHD_NO;
}

static enum MHD_Result on_complete_request(struct exchange *exchange, const char *method) {
    exchange->state = EXCHANGE_HANDLING;
    http_peer_hold(exchange->peer);
    count_in(exchange);
    if (http_dispatch(exchange, method) == HTTP_LATER) {
        exchange->state = EXCHANGE_HELD;
        exchange->lingers = exchange->thread->server->options.linger_turns;
        if (exchange->lingers > 0) {
            exchange->thread->lingering++;
        } else {
            MHD_suspend_connection(exchange->connection);
        }
        return MHD_YES;
    }
    return answer(exchange);
}

/* Shown again: only a connection that lingers is. */
static void on_held(struct exchange *exchange) {
    exchange->lingers--;
    if (exchange->lingers == 0) {
        exchange->thread->lingering--;
        MHD_suspend_connection(exchange->connection);
    }
}

static enum MHD_Result on_access(void *arg, struct MHD_Connection *connection, const char *url,
                                 const char *method, const char *version, const char *upload,
                                 size_t *upload_bytes, void **context) {
    struct exchange *exchange = *context;

    (void)arg;
    (void)connection;
    (void)url;
    (void)version;
    switch (exchange->state) {
    case EXCHANGE_NEW:
        return on_headers(exchange, method);
    case EXCHANGE_READING:
        if (*upload_bytes > 0) {
            const size_t len = *upload_bytes;
            *upload_bytes = 0;
            return on_body(exchange, upload, len);
        }
        return on_complete_request(exchange, method);
    case EXCHANGE_HELD: /* not completed yet */
        on_held(exchange);
        return MHD_YES;
    case EXCHANGE_RESUMED:
        return answer(exchange);
    case EXCHANGE_HANDLING:
    case EXCHANGE_ANSWERED:
    case EXCHANGE_ABANDONED:
        break;
    }
    assert(false && "MHD shows a request that is being handled or is answered");
    return MHD_NO;
}

static void end(struct exchange *exchange) {
    if (exchange->in_flight) {
        atomic_fetch_sub(&exchange->thread->server->in_flight, 1);
    }
    http_stream_over(exchange);
    http_exchange_recycle(exchange);
}

static void on_over(void *arg, struct MHD_Connection *connection, void **context,
                    enum MHD_RequestTerminationCode why) {
    struct exchange *exchange = *context;

    (void)arg;
    (void)connection;
    (void)why;
    if (exchange == NULL) {
        return;
    }
    *context = NULL;
    http_peer_wait(exchange->thread, exchange->peer);
    if (exchange->state == EXCHANGE_HELD) {
        exchange->thread->lingering--;
        exchange->state = EXCHANGE_ABANDONED;
        exchange->connection = NULL;
        exchange->peer = NULL;
        return;
    }
    end(exchange);
}

/* --- the loop's side --- */

static void resume(struct exchange *exchange) {
    struct server_thread *thread = exchange->thread;

    if (exchange->state == EXCHANGE_ABANDONED) {
        http_metrics_count(thread->server, &exchange->public);
        if (exchange->span != NULL) {
            http_trace_end(exchange);
        }
        end(exchange);
        return;
    }
    exchange->state = EXCHANGE_RESUMED;
    /* A connection that has lingered is shown without being written to, also when it was suspended
     * since. */
    thread->write_due = thread->server->options.linger_turns > 0;
    if (exchange->lingers == 0) {
        MHD_resume_connection(exchange->connection);
        return;
    }
    exchange->lingers = 0;
    thread->lingering--;
}

static void resume_completed(struct server_thread *thread) {
    struct exchange *list = atomic_exchange(&thread->completions, NULL);
    struct exchange *ordered = NULL;

    while (list != NULL) { /* oldest first */
        struct exchange *next = list->next;
        list->next = ordered;
        ordered = list;
        list = next;
    }
    while (ordered != NULL) {
        struct exchange *next = ordered->next;
        resume(ordered);
        ordered = next;
    }
}

static void on_turn(void *arg) {
    struct server_thread *thread = arg;
    MHD_UNSIGNED_LONG_LONG timeout_ms = 0;

    thread->turn_began_at_us = clock_monotonic_us();
    thread->run_again = false;
    resume_completed(thread);
    continue_streams(thread);
    (void)MHD_run(thread->daemon);
    if (thread->write_due) { /* the run has made the answers of those that lingered; this sends */
        thread->write_due = false;
        (void)MHD_run(thread->daemon);
    }
    metric_set(thread->server->connections_gauge, atomic_load(&thread->server->connections));
    metric_set(thread->server->in_flight_gauge, (int64_t)atomic_load(&thread->server->in_flight));
    const int64_t until_us = http_peers_cut_off(thread);
    if (until_us >= 0) {
        loop_sleep_at_most(thread->loop, until_us);
    }
    if (thread->run_again || thread->streams_due != NULL ||
        atomic_load(&thread->completions) != NULL) {
        loop_sleep_at_most(thread->loop, 0);
    } else if (thread->lingering > 0) { /* MHD's timeout is 0 as long as there are any */
        loop_sleep_at_most(thread->loop, LINGER_TURN_US);
    } else if (MHD_get_timeout(thread->daemon, &timeout_ms) == MHD_YES) {
        loop_sleep_at_most(thread->loop, (int64_t)timeout_ms * 1000);
    }
}

static void on_readable(void *arg, int fd, unsigned events) {
    /* Readiness only ends the sleep: MHD_run is called at the end of every turn. */
    (void)arg;
    (void)fd;
    (void)events;
}

enum err_code http_daemon_start(struct server_thread *thread, struct err *err) {
    const struct http_server_options *options = &thread->server->options;
    thread->peers_max = (options->connections_max + options->threads - 1) / options->threads;
    const unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC;

    thread->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_access, thread, MHD_OPTION_LISTEN_SOCKET, thread->listen_fd,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)thread->peers_max + HTTP_SURPLUS_CONNECTIONS,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, options->connections_per_address_max,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY_BYTES,
        MHD_OPTION_URI_LOG_CALLBACK, on_uri, thread, MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes,
        NULL, MHD_OPTION_NOTIFY_COMPLETED, on_over, thread, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, thread, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (thread->daemon == NULL) {
        return err_set(err, ERR_INTERNAL, "the HTTP server could not be started");
    }
    thread->listen_fd = -1;
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(thread->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL) {
        return err_set(err, ERR_INTERNAL, "the HTTP server has no epoll descriptor");
    }
    loop_on_turn(thread->loop, on_turn, thread);
    return loop_watch(thread->loop, info->epoll_fd, LOOP_READ, on_readable, thread, err);
}

void http_daemon_quiesce(struct server_thread *thread) {
    const MHD_socket fd = MHD_quiesce_daemon(thread->daemon);

    if (fd != MHD_INVALID_SOCKET) {
        (void)close(fd);
    }
}

void http_daemon_stop(struct server_thread *thread) {
    if (thread->daemon != NULL) {
        MHD_stop_daemon(thread->daemon);
        thread->daemon = NULL;
    }
}
