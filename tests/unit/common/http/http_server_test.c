/* A server in this process, spoken to over real sockets. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/http/http_server.h"
#include "common/http/problem.h"
#include "common/runtime/queue.h"
#include "socket_client.h"

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
    return socket_connect(http_server_port(fixture.server));
}

Test(http_server, a_connection_serves_many_requests) {
    const int fd = connect_to();

    cr_assert(socket_answers(fd, "GET /now/a%20b" HOST "\r\n", "\r\n\r\na b"));
    cr_assert(socket_answers(fd, "GET /later" HOST "\r\n", "\r\n\r\nlater"));
    cr_assert(socket_answers(fd, "GET /early" HOST "\r\n", "\r\n\r\nearly"));
    cr_assert(socket_answers(fd, "POST /echo" HOST "Content-Length: 3\r\n\r\nabc", "\r\n\r\nabc"));
    (void)close(fd);
}

/* RFC 9110 section 8.6: the length of what a 200 would have sent, or none. */
Test(http_server, not_modified_says_the_length_and_sends_no_body) {
    const int fd = connect_to();

    socket_say(fd, "GET /same" HOST "\r\n");
    const char *head = socket_hear(fd);
    cr_expect_not_null(strstr(head, "HTTP/1.1 304"));
    cr_expect_not_null(strstr(head, "Content-Length: 9\r\n"));
    cr_expect_null(strstr(head, "unchanged"));
    cr_expect(socket_answers(fd, "GET /now/a" HOST "\r\n", "HTTP/1.1 200"));
    (void)close(fd);
}

Test(http_server, refusals_are_problems) {
    const int fd = connect_to();
    char text[2048];

    cr_assert(socket_answers(fd, "GET /nowhere" HOST "\r\n", "\"code\":\"not_found\""));
    cr_assert(socket_answers(fd, "DELETE /echo" HOST "\r\n", "Allow: POST, OPTIONS\r\n"));
    cr_assert(socket_answers(fd, "GET /elsewhere" HOST "\r\n", "Allow: GET, HEAD, OPTIONS\r\n"));
    cr_assert(socket_answers(fd, "GET /now/%zz" HOST "\r\n", "\"code\":\"bad_url\""));
    cr_assert(socket_answers(fd, "GET /now/%00" HOST "\r\n", "\"code\":\"bad_url\""));
    cr_assert(socket_answers(fd, "OPTIONS /echo" HOST "\r\n", "HTTP/1.1 204"));
    (void)snprintf(text, sizeof(text), "GET /now/%0250d" HOST "\r\n", 1);
    cr_assert(socket_answers(fd, text, "\"code\":\"url_too_long\""));
    (void)snprintf(text, sizeof(text), "POST /echo" HOST "Content-Length: 1001\r\n\r\n%01001d", 1);
    cr_assert(socket_answers(fd, text, "\"code\":\"body_too_large\""));
    (void)close(fd);
}

Test(http_server, correlation_ids_are_echoed) {
    const int fd = connect_to();

    cr_assert(socket_answers(fd, "GET /now/a" HOST "X-Correlation-ID: abc-1\r\n\r\n",
                             "X-Correlation-ID: abc-1\r\n"));
    (void)close(fd);
}

Test(http_server, a_client_that_leaves_while_its_request_is_held_harms_nobody) {
    for (int i = 0; i < 50; i++) {
        const int gone = connect_to();
        socket_say(gone, "GET /later" HOST "\r\n");
        (void)close(gone);
    }
    const int fd = connect_to();
    cr_assert(socket_answers(fd, "GET /later" HOST "\r\n", "later"));
    (void)close(fd);
}

/* Of the 12 KiB that a connection has: the longest URL and the longest token fit together. */
Test(http_server, a_head_of_10000_bytes_is_read_and_one_of_13000_is_refused) {
    static char text[16 * 1024];
    const int fd = connect_to();

    (void)snprintf(text, sizeof(text), "GET /now/a" HOST "X-Long: %010000d\r\n\r\n", 1);
    cr_expect(socket_answers(fd, text, "HTTP/1.1 200"));
    (void)snprintf(text, sizeof(text), "GET /now/a" HOST "X-Long: %013000d\r\n\r\n", 1);
    cr_expect(socket_answers(fd, text, "HTTP/1.1 431"));
    (void)close(fd);
}

Test(http_server, a_body_announced_far_too_large_is_refused_unread) {
    const int fd = connect_to();
    const int expecting = connect_to();

    cr_expect(socket_answers(fd, "POST /echo" HOST "Content-Length: 2000000\r\n\r\n",
                             "\"code\":\"body_too_large\""));
    cr_expect(socket_answers(
        expecting, "POST /echo" HOST "Expect: 100-continue\r\nContent-Length: 1001\r\n\r\n",
        "HTTP/1.1 413"));
    (void)close(fd);
    (void)close(expecting);
}

Test(http_server, a_chunked_body_that_turns_out_too_large_is_refused_or_cut_off) {
    static char chunk[1010];
    const int fd = connect_to();

    (void)snprintf(chunk, sizeof(chunk), "3e8\r\n%01000d\r\n", 1);
    socket_say(fd, "POST /echo" HOST "Transfer-Encoding: chunked\r\n\r\n");
    socket_say(fd, chunk);
    socket_say(fd, chunk);
    cr_expect(socket_answers(fd, "0\r\n\r\n", "\"code\":\"body_too_large\""));
    socket_say(fd, "POST /echo" HOST "Transfer-Encoding: chunked\r\n\r\n");
    int chunks = 0;
    while (!socket_is_closed(fd) && chunks < 20000) {
        chunks += send(fd, chunk, strlen(chunk), MSG_NOSIGNAL) > 0;
    }
    cr_expect_geq(chunks, 1000);
    cr_expect_lt(chunks, 20000);
    (void)close(fd);
}

Test(http_server, a_port_in_use_is_refused_and_not_shared) {
    struct http_server_options options = http_server_defaults();
    struct http_server *second = NULL;
    struct err err = {0};

    options.port = http_server_port(fixture.server);
    options.routes = routes;
    options.route_count = ARRAY_LEN(routes);
    options.metrics = fixture.metrics;
    options.health = fixture.health;
    cr_assert_eq(http_server_new(&options, &second, &err), ERR_UNAVAILABLE);
    cr_assert(strstr(err.message, "cannot listen on") != NULL, "%s", err.message);
}
