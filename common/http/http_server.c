#include "common/http/http_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/http/http_builtin.h"
#include "common/http/http_internal.h"
#include "common/runtime/file_limit.h"

enum {
    LISTEN_BACKLOG = 1024,
    /* Files kept for all that is not a client: databases, brokers, logs. */
    OTHER_FILES = 256,
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

/* --- sockets --- */

/* `listening`: one of this process's sockets on the port, one per thread. Else it only tries
 * whether the port is free: listening ones would share it silently with those of another process.
 */
static enum err_code open_socket(const char *address, uint16_t port, bool listening, int *out,
                                 struct err *err) {
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
    if (listening) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&at, sizeof(at)) != 0 ||
        (listening && listen(fd, LISTEN_BACKLOG) != 0)) {
        const enum err_code code = err_set(err, ERR_UNAVAILABLE, "cannot listen on %s:%u: %s",
                                           address, (unsigned)port, strerror(errno));
        (void)close(fd);
        return code;
    }
    *out = fd;
    return ERR_OK;
}

static enum err_code check_port_is_free(const struct http_server_options *options,
                                        struct err *err) {
    int fd = -1;
    const enum err_code code = open_socket(options->address, options->port, false, &fd, err);

    if (code == ERR_OK) {
        (void)close(fd);
    }
    return code;
}

static uint16_t bound_port(int fd) {
    struct sockaddr_in at = {0};
    socklen_t len = sizeof(at);

    (void)getsockname(fd, (struct sockaddr *)&at, &len);
    return ntohs(at.sin_port);
}

/* --- start --- */

static enum err_code copy_routes(struct http_server *server, struct err *err) {
    struct http_route builtin[HTTP_BUILTIN_ROUTES];
    const size_t count = server->options.route_count;

    if (count + HTTP_BUILTIN_ROUTES > HTTP_ROUTES_MAX) {
        return err_set(err, ERR_LIMIT, "more than %d routes", HTTP_ROUTES_MAX);
    }
    http_builtin_routes(server->options.health, server->options.metrics, builtin);
    if (count > 0) {
        memcpy(server->routes, server->options.routes, count * sizeof(server->routes[0]));
    }
    memcpy(server->routes + count, builtin, sizeof(builtin));
    server->route_count = count + HTTP_BUILTIN_ROUTES;
    return ERR_OK;
}

/* Accepting more than there may be files would fail over and over; so it is known beforehand. */
static enum err_code fit_connections(struct http_server *server, struct err *err) {
    struct http_server_options *options = &server->options;
    const uint64_t files = file_limit_raise();
    const uint64_t besides =
        OTHER_FILES + (uint64_t)options->threads * (uint64_t)HTTP_SURPLUS_CONNECTIONS;

    if (files < besides + options->threads) {
        return err_set(err, ERR_LIMIT,
                       "this process may open %" PRIu64
                       " files (RLIMIT_NOFILE), the HTTP server needs at least %" PRIu64,
                       files, besides + options->threads);
    }
    if (options->connections_max > files - besides) {
        log_error(options->log, log_event("http.connections_limited"),
                  log_cstr("reason", "RLIMIT_NOFILE is too low for that many connections"),
                  log_i64("files_max", (int64_t)files),
                  log_i64("files_wanted", (int64_t)(options->connections_max + besides)),
                  log_i64("connections_wanted", options->connections_max),
                  log_i64("connections_max", (int64_t)(files - besides)));
        options->connections_max = (uint32_t)(files - besides);
    }
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
    code = fit_connections(server, err);
    if (code == ERR_OK) {
        code = copy_routes(server, err);
    }
    if (code == ERR_OK) {
        http_metrics_register(server);
        code = check_port_is_free(options, err);
    }
    for (uint32_t i = 0; code == ERR_OK && i < options->threads; i++) {
        struct server_thread *thread = &server->threads[i];
        thread->server = server;
        thread->index = i;
        uuid_source_init(&thread->uuids);
        code = loop_new(&thread->loop, err);
        if (code == ERR_OK) {
            code = open_socket(options->address, server->port, true, &thread->listen_fd, err);
        }
        if (code == ERR_OK) {
            server->port = bound_port(thread->listen_fd);
            code = http_daemon_start(thread, err);
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

static void *thread_main(void *arg) {
    struct server_thread *thread = arg;

    loop_run(thread->loop);
    return NULL;
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

/* --- stop --- */

static void quiesce(void *arg) {
    http_daemon_quiesce(arg);
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
        http_daemon_stop(thread);
        if (thread->listen_fd >= 0) {
            (void)close(thread->listen_fd);
        }
        http_exchange_free_all(thread);
        loop_free(thread->loop);
    }
    mem_free(server->threads);
    mem_free(server);
}
