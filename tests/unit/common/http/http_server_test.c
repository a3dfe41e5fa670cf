/* A server in this process, spoken to over real sockets. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/http/http_server.h"
#include "common/http/problem.h"
#include "common/runtime/queue.h"

enum { ANSWER_BYTES = 4096, CONNECTIONS_MAX = 512 };

static struct {
    struct http_server *server;
    struct metrics *metrics;
    struct health *health;
    struct queue *later;
    pthread_t worker;
} fixture;

static enum http_result answer_now(void *context, struct http_request *request) {
    (void)context;
    http_respond(request, 200, "text/plain", http_path_param(request, "id"));
    return HTTP_DONE;
}

/* Answered by another thread. */
static enum http_result answer_later(void *context, struct http_request *request) {
    (void)context;
    return queue_try_push(fixture.later, request)
               ? HTTP_LATER
               : problem_respond(request, 503, "overloaded", "Overloaded", "full");
}

static enum http_result complete_at_once(void *context, struct http_request *request) {
    (void)context;
    http_respond(request, 200, "text/plain", STR("early"));
    http_complete(request);
    return HTTP_LATER;
}

static enum http_result echo(void *context, struct http_request *request) {
    (void)context;
    http_respond(request, 200, "application/octet-stream", request->body);
    return HTTP_DONE;
}

static enum http_result not_modified(void *context, struct http_request *request) {
    (void)context;
    http_respond(request, 304, NULL, STR("unchanged"));
    return HTTP_DONE;
}

static const struct http_route routes[] = {
    {HTTP_GET, "/now/{id}", answer_now, NULL, NULL},
    {HTTP_GET, "/later", answer_later, NULL, NULL},
    {HTTP_GET, "/early", complete_at_once, NULL, NULL},
    {HTTP_POST, "/echo", echo, NULL, NULL},
    {HTTP_GET, "/same", not_modified, NULL, NULL},
    {HTTP_GET, "/elsewhere", NULL, NULL, NULL},
};

static void *work(void *arg) {
    void *items[64];

    (void)arg;
    for (;;) {
        const size_t count = queue_pop_many(fixture.later, items, 64, 1000);
        for (size_t i = 0; i < count; i++) {
            http_respond(items[i], 200, "text/plain", STR("later"));
            http_complete(items[i]);
        }
        if (count == 0 && queue_closed(fixture.later)) {
            return NULL;
        }
    }
}

static void set_up(void) {
    struct http_server_options options = http_server_defaults();
    struct err err = {0};

    fixture.metrics = metrics_new();
    fixture.health = health_new("test");
    fixture.later = queue_new(1024);
    options.threads = 2;
    options.body_bytes_max = 1000;
    options.url_bytes_max = 200;
    options.routes = routes;
    options.route_count = ARRAY_LEN(routes);
    options.metrics = fixture.metrics;
    options.health = fixture.health;
    cr_assert_eq(http_server_new(&options, &fixture.server, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(http_server_start(fixture.server, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(pthread_create(&fixture.worker, NULL, work, NULL), 0);
}

static void tear_down(void) {
    cr_assert_eq(http_server_stop(fixture.server, 5000), 0);
    queue_close(fixture.later);
    (void)pthread_join(fixture.worker, NULL);
    http_server_free(fixture.server);
    queue_free(fixture.later);
    metrics_free(fixture.metrics);
    health_free(fixture.health);
}

TestSuite(http_server, .init = set_up, .fini = tear_down, .timeout = 30);

static int connect_to(void) {
    const struct sockaddr_in at = {.sin_family = AF_INET,
                                   .sin_port = htons(http_server_port(fixture.server)),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);

    cr_assert_eq(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

static void say(int fd, const char *text) {
    cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* One whole answer: the head, and as much body as its Content-Length says. */
static const char *hear(int fd) {
    static char text[ANSWER_BYTES];
    size_t len = 0;

    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        text[len] = '\0';
        const char *end = strstr(text, "\r\n\r\n");
        if (end != NULL) {
            const char *field = strstr(text, "Content-Length: ");
            int64_t body = 0;
            if (field != NULL && field < end && strncmp(text, "HTTP/1.1 304", 12) != 0) {
                cr_assert(str_to_i64(str_of(field + 16, strcspn(field + 16, "\r")), &body));
            }
            if (len >= (size_t)(end - text) + 4 + (size_t)body) {
                return text;
            }
        }
        cr_assert_eq(poll(&ready, 1, 10000), 1, "no answer: %s", text);
        const ssize_t got = recv(fd, text + len, sizeof(text) - 1 - len, 0);
        cr_assert_gt(got, 0, "closed: %s", text);
        len += (size_t)got;
    }
}

static bool answers(int fd, const char *request, const char *part) {
    say(fd, request);
    return strstr(hear(fd), part) != NULL;
}

#define HOST " HTTP/1.1\r\nHost: x\r\n"

Test(http_server, a_connection_serves_many_requests) {
    const int fd = connect_to();

    cr_assert(answers(fd, "GET /now/a%20b" HOST "\r\n", "\r\n\r\na b"));
    cr_assert(answers(fd, "GET /later" HOST "\r\n", "\r\n\r\nlater"));
    cr_assert(answers(fd, "GET /early" HOST "\r\n", "\r\n\r\nearly"));
    cr_assert(answers(fd, "POST /echo" HOST "Content-Length: 3\r\n\r\nabc", "\r\n\r\nabc"));
    (void)close(fd);
}

/* RFC 9110 section 8.6: the length of what a 200 would have sent, or none. */
Test(http_server, not_modified_says_the_length_and_sends_no_body) {
    const int fd = connect_to();

    say(fd, "GET /same" HOST "\r\n");
    const char *head = hear(fd);
    cr_expect_not_null(strstr(head, "HTTP/1.1 304"));
    cr_expect_not_null(strstr(head, "Content-Length: 9\r\n"));
    cr_expect_null(strstr(head, "unchanged"));
    cr_expect(answers(fd, "GET /now/a" HOST "\r\n", "HTTP/1.1 200"));
    (void)close(fd);
}

Test(http_server, refusals_are_problems) {
    const int fd = connect_to();
    char text[2048];

    cr_assert(answers(fd, "GET /nowhere" HOST "\r\n", "\"code\":\"not_found\""));
    cr_assert(answers(fd, "DELETE /echo" HOST "\r\n", "Allow: POST, OPTIONS\r\n"));
    cr_assert(answers(fd, "GET /elsewhere" HOST "\r\n", "Allow: GET, HEAD, OPTIONS\r\n"));
    cr_assert(answers(fd, "GET /now/%zz" HOST "\r\n", "\"code\":\"bad_url\""));
    cr_assert(answers(fd, "GET /now/%00" HOST "\r\n", "\"code\":\"bad_url\""));
    cr_assert(answers(fd, "OPTIONS /echo" HOST "\r\n", "HTTP/1.1 204"));
    (void)snprintf(text, sizeof(text), "GET /now/%0250d" HOST "\r\n", 1);
    cr_assert(answers(fd, text, "\"code\":\"url_too_long\""));
    (void)snprintf(text, sizeof(text), "POST /echo" HOST "Content-Length: 1001\r\n\r\n%01001d", 1);
    cr_assert(answers(fd, text, "\"code\":\"body_too_large\""));
    (void)close(fd);
}

Test(http_server, correlation_ids_are_echoed) {
    const int fd = connect_to();

    cr_assert(answers(fd, "GET /now/a" HOST "X-Correlation-ID: abc-1\r\n\r\n",
                      "X-Correlation-ID: abc-1\r\n"));
    (void)close(fd);
}

Test(http_server, a_client_that_leaves_while_its_request_is_held_harms_nobody) {
    for (int i = 0; i < 50; i++) {
        const int gone = connect_to();
        say(gone, "GET /later" HOST "\r\n");
        (void)close(gone);
    }
    const int fd = connect_to();
    cr_assert(answers(fd, "GET /later" HOST "\r\n", "later"));
    (void)close(fd);
}

/* libmicrohttpd's own epoll thread sleeps for ever with multiples of 128 connections in hand. */
static void serve_many(size_t count, const char *request) {
    static int fds[CONNECTIONS_MAX];
    const struct rlimit files = {4096, 4096};

    (void)setrlimit(RLIMIT_NOFILE, &files);
    for (size_t i = 0; i < count; i++) {
        fds[i] = connect_to();
    }
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < count; i++) {
            say(fds[i], request);
        }
        for (size_t i = 0; i < count; i++) {
            cr_assert_not_null(strstr(hear(fds[i]), "HTTP/1.1 200"));
        }
    }
    for (size_t i = 0; i < count; i++) {
        (void)close(fds[i]);
    }
}

Test(http_server, serves_128_256_and_512_connections_without_a_stall) {
    serve_many(128, "GET /now/a" HOST "\r\n");
    serve_many(256, "GET /now/a" HOST "\r\n");
    serve_many(512, "GET /now/a" HOST "\r\n");
}

Test(http_server, holds_128_256_and_512_requests_without_a_stall) {
    serve_many(128, "GET /later" HOST "\r\n");
    serve_many(256, "GET /later" HOST "\r\n");
    serve_many(512, "GET /later" HOST "\r\n");
}
