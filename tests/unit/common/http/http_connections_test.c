/* Many, slow, silent and vanishing clients. The server has one thread: what one client does to
 * another shows, and the number of connections is that of one libmicrohttpd. */
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/http/http_server.h"
#include "common/runtime/file_limit.h"
#include "common/runtime/queue.h"
#include "socket_client.h"

enum {
    FDS_MAX = 5000,
    HELD_MAX = 1024,
    LATENCIES = 401,
    LARGE_BYTES = 32 * 1024 * 1024, /* more than the socket buffers of both sides take */
    WAIT_MS = 10000,
};

#define GET_NOW "GET /now/a" HOST "\r\n"
#define OK "HTTP/1.1 200"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

static struct {
    struct http_server *server;
    struct metrics *metrics;
    struct health *health;
    struct queue *held;
    struct str large;
} fixture;

static int fds[FDS_MAX];

/* --- the server --- */

static enum http_result answer_now(void *context, struct http_request *request) {
    (void)context;
    http_respond(request, 200, "text/plain", http_path_param(request, "id"));
    return HTTP_DONE;
}

/* Answered when the test says so, with its id. */
static enum http_result hold(void *context, struct http_request *request) {
    (void)context;
    http_respond(request, 200, "text/plain", http_path_param(request, "id"));
    cr_assert(queue_try_push(fixture.held, request));
    return HTTP_LATER;
}

static enum http_result echo(void *context, struct http_request *request) {
    (void)context;
    http_respond(request, 200, "application/octet-stream", request->body);
    return HTTP_DONE;
}

static enum http_result large(void *context, struct http_request *request) {
    (void)context;
    http_respond(request, 200, "application/octet-stream", fixture.large);
    return HTTP_DONE;
}

static const struct http_route routes[] = {
    {HTTP_GET, "/now/{id}", answer_now, NULL, NULL},
    {HTTP_GET, "/held/{id}", hold, NULL, NULL},
    {HTTP_POST, "/echo", echo, NULL, NULL},
    {HTTP_GET, "/large", large, NULL, NULL},
};

static struct http_server_options options_of(uint32_t connections_max, uint32_t idle_timeout_s) {
    struct http_server_options options = http_server_defaults();

    fixture.metrics = metrics_new();
    fixture.health = health_new("test");
    fixture.held = queue_new(HELD_MAX);
    options.connections_max = connections_max;
    options.idle_timeout_s = idle_timeout_s;
    options.routes = routes;
    options.route_count = ARRAY_LEN(routes);
    options.metrics = fixture.metrics;
    options.health = fixture.health;
    return options;
}

static void start_lingering(uint32_t connections_max, uint32_t idle_timeout_s,
                            uint32_t linger_turns) {
    struct http_server_options options = options_of(connections_max, idle_timeout_s);
    struct err err = {0};

    options.linger_turns = linger_turns;
    cr_assert_eq(http_server_new(&options, &fixture.server, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(http_server_start(fixture.server, &err), ERR_OK, "%s", err.message);
}

static void start(uint32_t connections_max, uint32_t idle_timeout_s) {
    start_lingering(connections_max, idle_timeout_s, 0);
}

static void tear_down(void) {
    if (fixture.server != NULL) {
        cr_assert_eq(http_server_stop(fixture.server, 5000), 0);
    }
    http_server_free(fixture.server);
    queue_free(fixture.held);
    metrics_free(fixture.metrics);
    health_free(fixture.health);
}

TestSuite(http_connections, .fini = tear_down, .timeout = 60);

/* --- what is seen of it --- */

static int64_t connections(void) {
    return metric_gauge_value(metrics_gauge(fixture.metrics, "daybook_http_connections", "", ""));
}

static int64_t in_flight(void) {
    return metric_gauge_value(metrics_gauge(fixture.metrics, "daybook_http_in_flight", "", ""));
}

static int64_t held(void) {
    return (int64_t)queue_length(fixture.held);
}

static uint64_t closed(const char *reason) {
    return metric_counter_value(
        metrics_counter(fixture.metrics, "daybook_http_connections_closed_total", reason, ""));
}

static bool becomes(int64_t (*value)(void), int64_t wanted) {
    const int64_t deadline_us = clock_monotonic_us() + INT64_C(1000) * WAIT_MS;

    while (value() != wanted) {
        if (clock_monotonic_us() > deadline_us) {
            return false;
        }
        (void)poll(NULL, 0, 1);
    }
    return true;
}

static int join(void) {
    return socket_connect(http_server_port(fixture.server));
}

static int ask_to_hold(int id) {
    char text[64];
    const int fd = join();

    (void)snprintf(text, sizeof(text), "GET /held/%d" HOST "\r\n", id);
    socket_say(fd, text);
    return fd;
}

static bool has_body(const char *answer, int id) {
    char text[32];
    const char *end = strstr(answer, "\r\n\r\n");

    (void)snprintf(text, sizeof(text), "\r\n\r\n%d", id);
    return end != NULL && strcmp(end, text) == 0;
}

static void complete_held(void) {
    void *items[HELD_MAX];
    const size_t count = queue_pop_many(fixture.held, items, HELD_MAX, 0);

    for (size_t i = count; i > 0; i--) { /* the newest first */
        http_complete(items[i - 1]);
    }
}

static void *complete_on_a_thread(void *arg) {
    (void)arg;
    complete_held();
    return NULL;
}

static int compare(const void *a, const void *b) {
    const int64_t *left = a;
    const int64_t *right = b;

    return (*left > *right) - (*left < *right);
}

static int64_t median_latency_us(int fd) {
    static int64_t took_us[LATENCIES];

    for (size_t i = 0; i < LATENCIES; i++) {
        const int64_t began_us = clock_monotonic_us();
        cr_assert(socket_answers(fd, GET_NOW, OK));
        took_us[i] = clock_monotonic_us() - began_us;
    }
    qsort(took_us, LATENCIES, sizeof(took_us[0]), compare);
    return took_us[LATENCIES / 2];
}

static int64_t resident_bytes(void) {
    long total = 0;
    long resident = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    cr_assert_not_null(file);
    cr_assert_eq(fscanf(file, "%ld %ld", &total, &resident), 2);
    (void)fclose(file);
    return (int64_t)resident * sysconf(_SC_PAGESIZE);
}

/* --- many --- */

/* libmicrohttpd's own epoll thread sleeps for ever with multiples of 128 connections in hand. */
static void serve(size_t count) {
    for (size_t i = 0; i < count; i++) {
        fds[i] = join();
    }
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < count; i++) {
            socket_say(fds[i], GET_NOW);
        }
        for (size_t i = 0; i < count; i++) {
            cr_assert_not_null(strstr(socket_hear(fds[i]), OK));
        }
    }
    for (int round = 0; round < 3; round++) {
        pthread_t other;
        for (size_t i = 0; i < count; i++) {
            socket_say(fds[i], "GET /held/1" HOST "\r\n");
        }
        cr_assert(becomes(held, (int64_t)count));
        cr_assert_eq(pthread_create(&other, NULL, complete_on_a_thread, NULL), 0);
        for (size_t i = 0; i < count; i++) {
            cr_assert_not_null(strstr(socket_hear(fds[i]), OK));
        }
        (void)pthread_join(other, NULL);
    }
    for (size_t i = 0; i < count; i++) {
        socket_reset(fds[i]);
    }
    cr_assert(becomes(connections, 0));
}

Test(http_connections, serve_and_hold_128_256_and_512_without_a_stall) {
    start(1024, 60);
    serve(128);
    serve(256);
    serve(512);
}

Test(http_connections, five_thousand_idle_ones_do_not_slow_a_working_one) {
    start(8192, 60);
    const uint64_t files = file_limit_raise();
    const size_t count = files > 2 * FDS_MAX + 600 ? FDS_MAX : (size_t)((files - 600) / 2);
    const int worker = join();
    const int64_t alone_us = median_latency_us(worker);
    const int64_t before = resident_bytes();

    for (size_t i = 0; i < count; i++) {
        fds[i] = join();
        cr_assert(socket_answers(fds[i], GET_NOW, OK));
    }
    cr_assert(becomes(connections, (int64_t)count + 1));
    const int64_t each = (resident_bytes() - before) / (int64_t)count;
    const int64_t among_us = median_latency_us(worker);
    (void)printf("%zu idle connections: %lld bytes each; median latency %lld us, alone %lld us\n",
                 count, (long long)each, (long long)among_us, (long long)alone_us);
    cr_expect_leq(among_us, 5 * alone_us + 200);
    cr_expect(sanitized || each < 40 * 1024);
    for (size_t i = 0; i < count; i += 50) {
        cr_expect(socket_answers(fds[i], GET_NOW, OK));
    }
    for (size_t i = 0; i < count; i++) {
        socket_reset(fds[i]);
    }
    cr_expect(becomes(connections, 1));
}

/* --- slow --- */

static int join_with_a_small_window(void) {
    const int bytes = 4096;
    const int fd = join();

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
    return fd;
}

Test(http_connections, clients_that_take_too_long_are_cut_off_and_others_are_not) {
    enum { LINE, HEAD, BODY, READER, SILENT, IDLE, SLOW_COUNT };
    int slow[SLOW_COUNT];

    fixture.large.ptr = calloc(1, LARGE_BYTES);
    fixture.large.len = LARGE_BYTES;
    start(1024, 1);
    const int64_t began_us = clock_monotonic_us();
    for (size_t i = 0; i < SLOW_COUNT; i++) {
        slow[i] = i == READER ? join_with_a_small_window() : join();
    }
    socket_say(slow[HEAD], "POST /echo" HOST "X-Slow: ");
    socket_say(slow[BODY], "POST /echo" HOST "Content-Length: 1000\r\n\r\n");
    socket_say(slow[READER], "GET /large" HOST "\r\n");
    cr_assert(socket_answers(slow[IDLE], GET_NOW, OK));
    for (int i = 0; i < 5; i++) { /* gone: before, in the middle of, and after a request */
        socket_vanish(join());
        const int fd = join();
        socket_say(fd, "POST /echo" HOST "Content-Length: 9\r\n\r\n");
        socket_vanish(fd);
    }
    const int patient = ask_to_hold(7);
    const int worker = join();
    cr_assert(becomes(held, 1));

    /* A byte each 20 ms keeps libmicrohttpd's own timeout from ever passing. */
    while (connections() != 2 && clock_monotonic_us() - began_us < 5000000) {
        cr_assert(socket_answers(worker, GET_NOW, OK));
        (void)send(slow[LINE], "G", 1, MSG_NOSIGNAL);
        (void)send(slow[HEAD], "a", 1, MSG_NOSIGNAL);
        (void)send(slow[BODY], "a", 1, MSG_NOSIGNAL);
        (void)poll(NULL, 0, 20);
        const int64_t took_us = clock_monotonic_us() - began_us;
        cr_assert(took_us > 900000 || !socket_is_closed(slow[BODY]), "after %lld us",
                  (long long)took_us);
    }
    cr_expect_eq(connections(), 2);
    cr_expect_lt(clock_monotonic_us() - began_us, 3000000);
    for (size_t i = 0; i < SLOW_COUNT; i++) {
        cr_expect(i == READER || socket_is_closed(slow[i]), "slow client %zu", i);
        (void)close(slow[i]);
    }
    cr_expect_eq(closed("reason=\"slow\""), 3 + 5);
    cr_expect_eq(closed("reason=\"idle\""), 3 + 5);

    /* What we hold ourselves is not the client's delay. */
    complete_held();
    cr_expect(has_body(socket_hear(patient), 7));
    cr_expect(socket_answers(worker, GET_NOW, OK));
    cr_assert_eq(http_server_stop(fixture.server, 5000), 0);
    http_server_free(fixture.server);
    fixture.server = NULL;
    free((void *)(uintptr_t)fixture.large.ptr);
}

/* --- too many --- */

enum { LIMIT = 20 };

Test(http_connections, when_all_places_are_busy_a_newcomer_is_told_at_once) {
    start(LIMIT, 60);
    for (int i = 0; i < LIMIT; i++) {
        fds[i] = ask_to_hold(i);
    }
    cr_assert(becomes(held, LIMIT));
    /* More than libmicrohttpd takes beyond the limit: each that leaves makes place for the next. */
    for (int i = LIMIT; i < LIMIT + 300; i++) {
        fds[i] = join();
        socket_say(fds[i], GET_NOW);
    }
    for (int i = LIMIT; i < LIMIT + 300; i++) {
        const char *answer = socket_hear(fds[i]);
        cr_assert_not_null(strstr(answer, "HTTP/1.1 503"), "%s", answer);
        cr_expect_not_null(strstr(answer, "\"code\":\"too_many_connections\""));
        cr_expect_not_null(strstr(answer, "Retry-After: 1\r\n"));
        cr_expect_not_null(strstr(answer, "Connection: close\r\n"));
        socket_reset(fds[i]);
    }
    const int probe = join();
    cr_expect(socket_answers(probe, "GET /health" HOST "\r\n", OK));
    socket_reset(probe);
    complete_held();
    for (int i = 0; i < LIMIT; i++) {
        cr_expect(has_body(socket_hear(fds[i]), i));
    }
    socket_reset(fds[0]);
    cr_assert(becomes(connections, LIMIT - 1));
    const int newcomer = join();
    cr_expect(socket_answers(newcomer, GET_NOW, OK));
    cr_expect(socket_answers(newcomer, GET_NOW, OK));
}

/* At its limit libmicrohttpd does not watch the listening socket. */
Test(http_connections, a_place_that_becomes_free_is_taken_though_nothing_else_happens) {
    enum { FULL = LIMIT + 64 };
    start(LIMIT, 60);
    for (int i = 0; i < FULL; i++) { /* busy all of them, sending bodies */
        fds[i] = join();
        socket_say(fds[i], "POST /echo" HOST "Content-Length: 9\r\n\r\n");
    }
    cr_assert(becomes(connections, FULL));
    const int newcomer = join();
    struct pollfd ready = {.fd = newcomer, .events = POLLIN};
    socket_say(newcomer, GET_NOW);
    cr_expect_eq(poll(&ready, 1, 100), 0, "libmicrohttpd takes more than it should");
    socket_reset(fds[0]);
    cr_assert_eq(poll(&ready, 1, 3000), 1);
    cr_expect_not_null(strstr(socket_hear(newcomer), "HTTP/1.1 503"));
}

Test(http_connections, at_the_limit_the_longest_idle_makes_room) {
    start(LIMIT, 60);
    for (int i = 0; i < LIMIT; i++) {
        fds[i] = join();
        cr_assert(socket_answers(fds[i], GET_NOW, OK));
    }
    const int64_t began_us = clock_monotonic_us();
    bool room = false;
    while (!room && clock_monotonic_us() - began_us < 5000000) {
        const int newcomer = join();
        room = socket_answers(newcomer, GET_NOW, OK);
        for (int i = 1; i < LIMIT; i++) { /* all but the first keep working */
            cr_assert(socket_answers(fds[i], GET_NOW, OK));
        }
        socket_reset(newcomer);
        (void)poll(NULL, 0, 20);
    }
    cr_expect(room);
    cr_expect_gt(clock_monotonic_us() - began_us, 900000);
    cr_expect(socket_is_closed(fds[0]));
    cr_expect_eq(closed("reason=\"limit\""), 1);
}

Test(http_connections, silent_ones_at_the_limit_keep_nobody_out_for_long) {
    enum { SILENT = 200 };
    start(LIMIT, 60);
    const int worker = join();
    cr_assert(socket_answers(worker, GET_NOW, OK));
    for (int i = 0; i < SILENT; i++) {
        fds[i] = join();
    }
    const int newcomer = join();
    struct pollfd ready = {.fd = newcomer, .events = POLLIN};
    socket_say(newcomer, GET_NOW);
    const int64_t began_us = clock_monotonic_us();
    while (poll(&ready, 1, 20) == 0) {
        cr_assert(socket_answers(worker, GET_NOW, OK));
        cr_assert_lt(clock_monotonic_us() - began_us, 8000000);
    }
    cr_expect_not_null(strstr(socket_hear(newcomer), "HTTP/1.1 "));
    cr_expect(socket_answers(worker, GET_NOW, OK));
    cr_expect_geq(closed("reason=\"limit\""), SILENT - LIMIT - 64);
}

/* --- leaving while the request is held --- */

static void leave(int fd, int how) {
    if (how == 0) {
        socket_reset(fd);
    } else if (how == 1) {
        (void)close(fd);
    } else {
        socket_vanish(fd);
    }
}

static void some_leave_while_held(uint32_t linger_turns) {
    enum { CLIENTS = 200, LATER = 100 };
    pthread_t other;

    start_lingering(1024, 60, linger_turns);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            fds[i] = ask_to_hold(i);
        }
        cr_assert(becomes(held, CLIENTS));
        for (int i = 0; i < CLIENTS; i += 2) {
            leave(fds[i], i / 2 % 3);
        }
        /* Newcomers get the descriptors and the memory of those who left, if of anybody. */
        for (int i = CLIENTS; i < CLIENTS + LATER; i++) {
            fds[i] = ask_to_hold(i);
        }
        cr_assert(becomes(held, CLIENTS + LATER));
        cr_assert_eq(pthread_create(&other, NULL, complete_on_a_thread, NULL), 0);
        for (int i = 1; i < CLIENTS + LATER; i += i < CLIENTS - 1 ? 2 : 1) {
            cr_assert(has_body(socket_hear(fds[i]), i), "client %d", i);
        }
        (void)pthread_join(other, NULL);
        cr_assert(becomes(in_flight, 0));
        for (int i = 1; i < CLIENTS + LATER; i += i < CLIENTS - 1 ? 2 : 1) {
            cr_assert(socket_answers(fds[i], GET_NOW, "\r\n\r\na"), "client %d", i);
            cr_assert_eq(recv(fds[i], &(char){0}, 1, MSG_DONTWAIT), -1, "more than its answer");
            socket_reset(fds[i]);
        }
        cr_assert(becomes(connections, 0), "%lld left", (long long)connections());
    }
}

Test(http_connections, who_leaves_while_held_harms_nobody) {
    some_leave_while_held(0);
}

/* Never suspended: those that break are closed at once, and abandoned. */
Test(http_connections, who_leaves_while_lingering_harms_nobody) {
    some_leave_while_held(UINT32_MAX);
}

/* Some are suspended by then, some are not. */
Test(http_connections, who_leaves_when_lingering_ends_harms_nobody) {
    some_leave_while_held(4);
}

static void one_stops_sending(void) {
    const int fd = ask_to_hold(5);
    cr_assert_eq(shutdown(fd, SHUT_WR), 0);
    cr_assert(becomes(held, 1));
    complete_held();
    cr_expect(has_body(socket_hear(fd), 5));
    cr_expect(becomes(connections, 0));
}

/* Both are in the server before the first is answered. */
static void two_at_once(uint32_t linger_turns) {
    start_lingering(64, 60, linger_turns);
    const int fd = join();

    socket_say(fd, "GET /held/1" HOST "\r\nGET /held/2" HOST "\r\n");
    for (int id = 1; id <= 2; id++) {
        cr_assert(becomes(held, 1));
        complete_held();
        cr_expect(has_body(socket_hear(fd), id));
    }
    cr_expect(socket_answers(fd, GET_NOW, "\r\n\r\na"));
}

Test(http_connections, requests_sent_at_once_are_answered_in_their_order) {
    two_at_once(0);
}

Test(http_connections, requests_sent_at_once_are_answered_in_their_order_while_lingering) {
    two_at_once(UINT32_MAX);
}

Test(http_connections, requests_sent_at_once_are_answered_in_their_order_when_lingering_ends) {
    two_at_once(2);
}

/* It has said all it wants to say, and still listens. */
Test(http_connections, who_only_stops_sending_is_answered) {
    start(64, 60);
    one_stops_sending();
}

/* The end may have come with the request, in one event: then its time limit closes it. */
Test(http_connections, who_only_stops_sending_is_answered_also_while_lingering) {
    start_lingering(64, 1, UINT32_MAX);
    one_stops_sending();
}

/* --- open files --- */

static void limit_files(rlim_t soft, rlim_t hard) {
    const struct rlimit files = {.rlim_cur = soft, .rlim_max = hard};

    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
}

Test(http_connections, the_limit_of_open_files_is_raised_to_the_hard_limit) {
    struct rlimit files;

    limit_files(256, 2000);
    start(1000, 60);
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
    cr_expect_eq(files.rlim_cur, 2000);
}

Test(http_connections, too_few_open_files_lower_the_connections_and_are_logged) {
    int ends[2];
    char text[1024] = "";
    struct err err = {0};

    limit_files(256, 500);
    cr_assert_eq(pipe(ends), 0);
    struct http_server_options options = options_of(1000, 60);
    options.log = log_new("test", LOG_LEVEL_ERROR, ends[1]);
    cr_assert_eq(http_server_new(&options, &fixture.server, &err), ERR_OK, "%s", err.message);
    cr_assert_gt(read(ends[0], text, sizeof(text) - 1), 0);
    cr_expect_not_null(strstr(text, "http.connections_limited"), "%s", text);
    cr_expect_not_null(strstr(text, "\"connections_max\":180"), "%s", text);
    http_server_free(fixture.server);
    fixture.server = NULL;
    log_free(options.log);
}

Test(http_connections, hardly_any_open_files_are_an_error_at_the_start) {
    struct err err = {0};

    limit_files(128, 300);
    const struct http_server_options options = options_of(1000, 60);
    cr_assert_eq(http_server_new(&options, &fixture.server, &err), ERR_LIMIT);
    cr_expect_not_null(strstr(err.message, "RLIMIT_NOFILE"), "%s", err.message);
}
