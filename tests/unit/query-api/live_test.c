/* Live streams: what is sent, where they resume, what becomes of slow readers. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/unit/query-api/api_fixture.h"

static struct api api;

static void set_up(void) {
    api_start(&api, 100);
}

static void tear_down(void) {
    api_stop(&api);
}

TestSuite(live, .init = set_up, .fini = tear_down, .timeout = 30);

/* What has come on a stream so far. */
struct heard {
    int fd;
    char text[512 * 1024];
    size_t len;
};

/* In HTTP/1.0, which has no chunks whose sizes would stand between the lines. */
static int send_plain(const char *target, const char *headers) {
    char line[256];

    (void)snprintf(line, sizeof(line), "%s HTTP/1.0\r\nX-Rest-Of-Line:", target);
    return api_send(&api, "GET", line, headers);
}

static void follow(struct heard *heard, const char *target, const char *headers) {
    heard->fd = send_plain(target, headers);
    heard->len = 0;
    heard->text[0] = '\0';
}

/* Reads until `text` has come `times` times, at most ten seconds; false at the stream's end. */
static bool hear(struct heard *heard, const char *text, size_t times) {
    for (;;) {
        size_t found = 0;
        for (const char *at = heard->text; (at = strstr(at, text)) != NULL; at++) {
            found++;
        }
        if (found >= times) {
            return true;
        }
        cr_assert_lt(heard->len, sizeof(heard->text) - 1);
        const ssize_t got =
            recv(heard->fd, heard->text + heard->len, sizeof(heard->text) - 1 - heard->len, 0);
        if (got <= 0) {
            cr_assert_eq(got, 0, "\"%s\" did not come in time: %s", text, heard->text);
            return false;
        }
        heard->len += (size_t)got;
        heard->text[heard->len] = '\0';
    }
}

/* The ids that came must be first, first + 1, …; returns how many. */
static size_t ids_in_order(const struct heard *heard, int64_t first) {
    size_t count = 0;

    for (const char *at = heard->text; (at = strstr(at, "\nid: ")) != NULL; at++) {
        cr_assert_eq(strtoll(at + 5, NULL, 10), first + (int64_t)count, "%s", heard->text);
        count++;
    }
    return count;
}

static size_t streams_open(void) {
    return (size_t)metric_gauge_value(metrics_gauge(api.metrics, "daybook_query_streams", "", ""));
}

static void until_streams(size_t count) {
    const int64_t limit_us = clock_monotonic_us() + 5000000;

    while (streams_open() != count) {
        cr_assert_lt(clock_monotonic_us(), limit_us, "%zu streams", streams_open());
        (void)usleep(1000);
    }
}

Test(live, an_account_begins_with_its_newest_entry_and_goes_on) {
    static struct heard heard;
    api_put_account(&api, "a1", 3);
    api_put_account(&api, "a2", 1);

    follow(&heard, "/accounts/a1/stream", "");
    cr_assert(hear(&heard, "\nid: 3", 1));
    cr_expect_not_null(strstr(heard.text, "text/event-stream"));
    cr_expect_not_null(strstr(heard.text, "event: MoneyDeposited\n"));
    cr_expect_not_null(strstr(heard.text, "\"kind\":\"deposit\",\"amount\":\"100.00\","
                                          "\"balance\":\"200.00\""));
    api_deposit(&api, "a2", 2, true);
    api_deposit(&api, "a1", 4, true);
    api_deposit(&api, "a1", 5, true);
    cr_assert(hear(&heard, "\nid: 5", 1));
    cr_expect_eq(ids_in_order(&heard, 3), 3);
    (void)close(heard.fd);
}

Test(live, an_account_resumes_behind_the_last_event_id) {
    static struct heard heard;
    api_put_account(&api, "a1", 700);

    follow(&heard, "/accounts/a1/stream", "Last-Event-ID: 2\r\n");
    cr_assert(hear(&heard, "\nid: 700\n", 1));
    api_deposit(&api, "a1", 701, true);
    cr_assert(hear(&heard, "\nid: 701\n", 1));
    cr_expect_eq(ids_in_order(&heard, 3), 699);
    (void)close(heard.fd);
    follow(&heard, "/accounts/a1/stream", "Last-Event-ID: 0\r\n");
    cr_assert(hear(&heard, "\nid: 701\n", 1));
    cr_expect_eq(ids_in_order(&heard, 1), 701);
    (void)close(heard.fd);
}

Test(live, the_log_from_now_on_and_from_a_position) {
    static struct heard from_now, from_start, some;
    api_put_account(&api, "a1", 5);

    follow(&from_now, "/events/stream", "");
    follow(&from_start, "/events/stream", "Last-Event-ID: 0\r\n");
    follow(&some, "/events/stream?type=AccountCreated", "Last-Event-ID: 0\r\n");
    cr_assert(hear(&from_now, "retry:", 1));
    cr_assert(hear(&from_start, "\nid: 5", 1));
    until_streams(3);
    (void)usleep(100000); /* `from_now` has caught up, whatever was on its way */
    api_put_account(&api, "a2", 2);
    cr_assert(hear(&from_now, "\nid: 7", 1));
    cr_assert(hear(&from_start, "\nid: 7", 1));
    cr_assert(hear(&some, "\nid: 6", 1));
    cr_expect_eq(ids_in_order(&from_now, 6), 2);
    cr_expect_eq(ids_in_order(&from_start, 1), 7);
    cr_expect_not_null(strstr(some.text, "\nid: 1\n"));
    cr_expect_null(strstr(some.text, "\nid: 2\n"));
    cr_expect_null(strstr(some.text, "MoneyDeposited"));
    (void)close(from_now.fd);
    (void)close(from_start.fd);
    (void)close(some.fd);
}

Test(live, nothing_is_sent_before_it_is_settled) {
    static struct heard heard;
    api_put_account(&api, "a1", 5);
    log_mem_hold(api.log, 3);

    follow(&heard, "/events/stream", "Last-Event-ID: 0\r\n");
    cr_assert(hear(&heard, "still here", 1));
    cr_expect_eq(ids_in_order(&heard, 1), 3);
    log_mem_hold(api.log, INT64_MAX);
    cr_assert(hear(&heard, "\nid: 5", 1));
    cr_expect_eq(ids_in_order(&heard, 1), 5);
    (void)close(heard.fd);
}

Test(live, a_heartbeat_comes_while_nothing_happens_and_finds_clients_that_left) {
    static struct heard heard;
    api_put_account(&api, "a1", 1);

    follow(&heard, "/accounts/a1/stream", "");
    cr_assert(hear(&heard, ": still here\n\n", 3));
    (void)close(heard.fd);
    until_streams(0);
}

Test(live, an_event_is_on_one_line_whatever_its_payload_looks_like) {
    static struct heard heard;
    api_put_account(&api, "a1", 2); /* the fixture's payload has a line end in it */

    follow(&heard, "/events/stream", "Last-Event-ID: 1\r\n");
    cr_assert(hear(&heard, "\"metadata\":{\"command\":\"Deposit\"}}\n\n", 1));
    const char *data = strstr(heard.text, "data: ");
    cr_assert_not_null(data);
    cr_expect_eq(strcspn(data, "\n"), strstr(data, "}}\n") + 2 - data);
    (void)close(heard.fd);
}

static void shrink_window(int fd) {
    const int bytes = 4096;

    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

Test(live, a_reader_that_takes_nothing_is_cut_off_and_can_resume) {
    static struct heard heard;
    api_put_account(&api, "a1", 5000);

    follow(&heard, "/events/stream", "Last-Event-ID: 0\r\n");
    shrink_window(heard.fd);
    cr_assert(hear(&heard, "\nid: 1\n", 1));
    until_streams(0);
    const struct metric_counter *dropped =
        metrics_counter(api.metrics, "daybook_query_streams_dropped_total", "", "");
    cr_expect_eq(metric_counter_value(dropped), 1);
    (void)close(heard.fd);
    follow(&heard, "/events/stream", "Last-Event-ID: 4990\r\n");
    cr_assert(hear(&heard, "\nid: 5000\n", 1));
    cr_expect_eq(ids_in_order(&heard, 4991), 10);
    (void)close(heard.fd);
}

/* All ids must come, in order. */
static void reads_all(const char *target, const char *headers, int64_t first, int64_t last,
                      unsigned pause_us) {
    static char text[64 * 1024];
    const int fd = send_plain(target, headers);
    int64_t next = first;
    size_t len = 0;

    while (next <= last) {
        const ssize_t got = recv(fd, text + len, sizeof(text) - 1 - len, 0);
        cr_assert_gt(got, 0, "ended at %lld", (long long)next);
        len += (size_t)got;
        text[len] = '\0';
        char *at = text;
        char *line = NULL;
        while ((line = strstr(at, "\nid: ")) != NULL && strchr(line + 1, '\n') != NULL) {
            cr_assert_eq(strtoll(line + 5, NULL, 10), next, "%.40s", line);
            next++;
            at = line + 5;
        }
        len = strlen(at);
        len = len < 32 ? len : 32;
        memmove(text, text + (at - text) + strlen(at) - len, len + 1);
        (void)usleep(pause_us);
    }
    (void)close(fd);
}

Test(live, a_slow_reader_gets_everything_at_its_own_pace) {
    api_put_account(&api, "a1", 3000);

    reads_all("/events/stream", "Last-Event-ID: 0\r\n", 1, 3000, 2000);
}

static void *append_many(void *arg) {
    (void)arg;
    for (int64_t i = 2; i <= 4000; i++) {
        api_deposit(&api, "busy", i, true);
        if (i % 50 == 0) {
            (void)usleep(2000);
        }
    }
    return NULL;
}

Test(live, nothing_is_lost_or_repeated_while_much_is_appended) {
    pthread_t writer;
    api_put_account(&api, "busy", 1);

    cr_assert_eq(pthread_create(&writer, NULL, append_many, NULL), 0);
    reads_all("/accounts/busy/stream", "Last-Event-ID: 0\r\n", 1, 2000, 0);
    reads_all("/events/stream", "Last-Event-ID: 2000\r\n", 2001, 4000, 0);
    (void)pthread_join(writer, NULL);
    reads_all("/accounts/busy/stream", "Last-Event-ID: 3998\r\n", 3999, 4000, 0);
}

Test(live, what_cannot_begin_says_why) {
    struct answer answer;
    api_put_account(&api, "a1", 1);

    api_get(&api, "/accounts/nobody/stream", &answer);
    answer_is_problem(&answer, 404, "account_not_found");
    api_call(&api, "GET", "/accounts/a1/stream", "Last-Event-ID: -4\r\n", &answer);
    answer_is_problem(&answer, 400, "last_event_id_invalid");
    api_get(&api, "/accounts/a1/stream?at=2026-01-01T00:00:00Z", &answer);
    answer_is_problem(&answer, 400, "unknown_parameter");
    log_mem_set_mood(api.log, LOG_MEM_DOWN);
    api_get(&api, "/accounts/a1/stream", &answer);
    answer_is_problem(&answer, 503, "log_unavailable");
    log_mem_set_mood(api.log, LOG_MEM_FAILS);
    api_get(&api, "/events/stream", &answer);
    answer_is_problem(&answer, 503, "log_unavailable");
}

Test(live, head_is_answered_without_a_stream) {
    struct answer answer;
    api_put_account(&api, "a1", 1);

    api_call(&api, "HEAD", "/accounts/a1/stream", "", &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(answer_header(&answer, "Content-Type"), "text/event-stream");
    until_streams(0);
}

Test(live, streams_go_on_after_the_log_was_away) {
    static struct heard heard;
    api_put_account(&api, "a1", 1);

    follow(&heard, "/accounts/a1/stream", "");
    cr_assert(hear(&heard, "\nid: 1", 1));
    log_mem_set_mood(api.log, LOG_MEM_FAILS);
    api_deposit(&api, "a1", 2, true);
    cr_assert(hear(&heard, "still here", 2));
    log_mem_set_mood(api.log, LOG_MEM_DOWN);
    cr_assert(hear(&heard, "still here", 4));
    log_mem_set_mood(api.log, LOG_MEM_WELL);
    cr_assert(hear(&heard, "\nid: 2", 1));
    cr_expect_eq(ids_in_order(&heard, 1), 2);
    (void)close(heard.fd);
}

Test(live, there_are_so_many_streams_and_no_more) {
    struct answer answer;
    static struct heard heard[API_STREAMS_MAX];
    api_put_account(&api, "a1", 1);

    for (size_t i = 0; i < API_STREAMS_MAX; i++) {
        follow(&heard[i], i % 2 == 0 ? "/accounts/a1/stream" : "/events/stream", "");
        cr_assert(hear(&heard[i], "retry:", 1));
    }
    api_get(&api, "/events/stream", &answer);
    answer_is_problem(&answer, 503, "too_many_streams");
    api_deposit(&api, "a1", 2, true);
    for (size_t i = 0; i < API_STREAMS_MAX; i++) {
        cr_assert(hear(&heard[i], "\nid: 2", 1), "%zu", i);
        (void)close(heard[i].fd);
    }
    until_streams(0);
}

Test(live, streams_end_politely_when_the_process_drains) {
    static struct heard heard;
    struct answer answer;
    api_put_account(&api, "a1", 1);

    heard.fd = api_send(&api, "GET", "/accounts/a1/stream", "");
    cr_assert(hear(&heard, "\nid: 1", 1));
    cr_assert(loop_post(http_server_loop(api.server, 0), live_drain, api.live));
    cr_expect_not(hear(&heard, "never", 1)); /* reads to the end */
    cr_expect_str_eq(heard.text + heard.len - 5, "0\r\n\r\n", "no last chunk: %s", heard.text);
    api_get(&api, "/accounts/a1/stream", &answer);
    answer_is_problem(&answer, 503, "draining");
    (void)close(heard.fd);
}
