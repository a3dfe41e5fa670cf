/*
 * Readers when something goes away: a query API that is told to stop while many streams are open
 * and busy, and one whose write database is out of reach while the read models live. The processes
 * are the test's own, on the stack's servers.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/command.h"
#include "../support/crowd.h"
#include "../support/environment.h"
#include "../support/http_client.h"
#include "../support/replica.h"
#include "../support/sse_client.h"
#include "../support/tcp_proxy.h"

#define COMMAND_API "DAYBOOK_TEST_COMMAND_API"
#define QUERY_API "DAYBOOK_TEST_QUERY_API"

enum {
    STREAMS = 400,
    DEPOSITS_BEFORE_STOP = 30,
    LIMIT_MS = 30000,
    OPEN_LIMIT_MS = 10000, /* for all streams: a read of some milliseconds for each */
    HEARTBEAT_LIMIT_MS = 40000,
    /* Streams end at once but for those that take nothing, which have a second. */
    STOP_S = 5,
    /* An answer without the log: a connection that is refused, or a wait for one. */
    REFUSAL_S = 7,
};

static struct sse streams[STREAMS];
static char account[96];

TestSuite(reads, .timeout = 180);

/* --- a query API of the test's own --- */

__attribute__((format(printf, 2, 3))) static const char *url_at(const struct replica *replica,
                                                                const char *format, ...) {
    static char urls[2][256];
    static unsigned turn;
    char *url = urls[turn++ % 2];
    const int len = snprintf(url, sizeof(urls[0]), "%s", replica->base);
    va_list args;

    va_start(args, format);
    (void)vsnprintf(url + len, sizeof(urls[0]) - (size_t)len, format, args);
    va_end(args);
    return url;
}

static bool gives_the_log(void *arg) {
    struct http_answer a = http_get(url_at(arg, "/events?limit=1"));
    const bool gives = a.status == 200;
    http_answer_release(&a);
    return gives;
}

/* Ready is also who lacks the log: so it is asked for. */
static void query_start(struct replica *replica, const char *log_url) {
    static char read[512], log[512], redis[512];

    (void)snprintf(read, sizeof(read), "DAYBOOK_READ_DATABASE_URL=%s",
                   stack_environment("DAYBOOK_TEST_QUERY_URL"));
    (void)snprintf(log, sizeof(log), "DAYBOOK_LOG_DATABASE_URL=%s", log_url);
    (void)snprintf(redis, sizeof(redis), "DAYBOOK_REDIS_URL=%s",
                   stack_environment("DAYBOOK_TEST_REDIS_QUERY_URL"));
    replica_start(replica, &(struct replica_options){.program = "daybook-query-api",
                                                     .settings = {read, log, redis}});
    cr_assert(eventually(gives_the_log, replica, LIMIT_MS));
}

/* Keeps the account busy. */
static struct {
    atomic_bool over;
    atomic_llong version;
    atomic_int failed;
} writer;

static void deposit_until_over(void *context, size_t index) {
    const char *base = context;

    (void)index;
    while (!atomic_load(&writer.over)) {
        const struct reply reply = command_send(&(struct command){
            .base = base, .stream = account, .action = "deposit", .amount_minor = 100});
        if (reply.status != 200) {
            atomic_store(&writer.failed, reply.status == 0 ? -1 : reply.status);
            return;
        }
        atomic_store(&writer.version, reply.version);
    }
}

static int64_t deposit(void) {
    return command_expect(&(struct command){.base = stack_environment(COMMAND_API),
                                            .stream = account,
                                            .action = "deposit",
                                            .amount_minor = 100},
                          200)
        .version;
}

static void open_account(void) {
    (void)snprintf(account, sizeof(account), "%s",
                   command_open(stack_environment(COMMAND_API), "reads"));
}

/* --- what streams have said --- */

struct wanted {
    size_t count, step;
    const char *text;
};

static bool all_have_text(void *arg) {
    const struct wanted *wanted = arg;

    for (size_t i = 0; i < wanted->count; i += wanted->step) {
        if (strstr(streams[i].text, wanted->text) == NULL) {
            return false;
        }
    }
    return true;
}

static bool all_have_ended(void *arg) {
    const size_t count = *(const size_t *)arg;

    for (size_t i = 0; i < count; i++) {
        if (streams[i].end == SSE_OPEN) {
            return false;
        }
    }
    return true;
}

static void await_text(size_t count, const char *text, int limit_ms) {
    struct wanted wanted = {count, 1, text};

    cr_assert(sse_read_until(streams, count, all_have_text, &wanted, limit_ms), "no \"%s\" in: %s",
              text, streams[0].text);
}

static void await_id(size_t count, int64_t id) {
    char text[48];

    (void)snprintf(text, sizeof(text), "\nid: %" PRId64 "\n", id);
    await_text(count, text, LIMIT_MS);
}

static bool has_written_enough(void *arg) {
    return atomic_load(&writer.version) >= *(const int64_t *)arg ||
           atomic_load(&writer.failed) != 0;
}

/* Ended in order, and behind a whole event. */
static void expect_polite_end(struct sse *sse) {
    cr_assert_eq(sse->end, SSE_CLOSED, "cut off: %s", sse->text);
    cr_assert(sse_unwrap(sse), "no last chunk: %s", sse->text);
    cr_assert(sse->len > 2 && strcmp(sse->text + sse->len - 2, "\n\n") == 0, "a torn event: %s",
              sse->text);
}

/* Even ones follow the account from its beginning, the others the log from now on. */
static void open_streams(const char *base) {
    char path[160];

    (void)snprintf(path, sizeof(path), "/accounts/%s/stream", account);
    for (size_t i = 0; i < STREAMS; i++) {
        sse_open(&streams[i], base, i % 2 == 0 ? path : "/events/stream", i % 2 == 0 ? 0 : -1);
    }
    await_text(STREAMS, "retry:", OPEN_LIMIT_MS);
    struct wanted first_entry = {STREAMS, 2, "\nid: 1\n"};
    cr_assert(sse_read_until(streams, STREAMS, all_have_text, &first_entry, OPEN_LIMIT_MS));
}

Test(reads, sigterm_ends_many_busy_streams_politely_and_they_resume_elsewhere) {
    struct replica replica;
    char path[160];
    size_t count = STREAMS;

    open_account();
    query_start(&replica, stack_environment("DAYBOOK_TEST_LOG_URL"));
    open_streams(replica.base);
    union {
        const char *in;
        void *out;
    } base = {.in = stack_environment(COMMAND_API)};
    struct crowd *crowd = crowd_start(1, deposit_until_over, base.out);
    int64_t enough = DEPOSITS_BEFORE_STOP;
    cr_assert(sse_read_until(streams, STREAMS, has_written_enough, &enough, LIMIT_MS));
    const double began = now_seconds();
    replica_terminate(&replica);
    cr_assert(sse_read_until(streams, STREAMS, all_have_ended, &count, LIMIT_MS),
              "some streams are still open");
    replica_await_end(&replica);
    cr_expect_lt(now_seconds() - began, STOP_S);
    atomic_store(&writer.over, true);
    crowd_join(crowd);
    cr_assert_eq(atomic_load(&writer.failed), 0, "status %d", atomic_load(&writer.failed));

    const int64_t version = atomic_load(&writer.version);
    for (size_t i = 0; i < STREAMS; i++) {
        expect_polite_end(&streams[i]);
        sse_close(&streams[i]);
    }
    const int64_t seen = sse_last_id(&streams[0], 1);
    cr_expect_gt(seen, 0);
    for (size_t i = 2; i < STREAMS; i += 2) {
        (void)sse_last_id(&streams[i], 1);
    }
    (void)snprintf(path, sizeof(path), "/accounts/%s/stream", account);
    sse_open(&streams[0], stack_environment(QUERY_API), path, seen);
    const int64_t last = deposit();
    cr_assert_eq(last, version + 1);
    await_id(1, last);
    (void)sse_unwrap(&streams[0]);
    cr_expect_eq(sse_last_id(&streams[0], seen + 1), last);
    sse_close(&streams[0]);
}

/* --- without the write database --- */

static bool refuses_the_log(void *arg) {
    struct http_answer a = http_get(url_at(arg, "/events?limit=1"));
    const bool refuses = a.status == 503;
    http_answer_release(&a);
    return refuses;
}

static void expect_log_unavailable(const char *url) {
    struct http_answer a = http_get(url);

    cr_expect_eq(a.status, 503, "%s: %d %s", url, a.status, a.body);
    cr_expect_str_eq(http_answer_text(&a, "code"), "log_unavailable", "%s: %s", url, a.body);
    cr_expect_str_neq(http_answer_header(&a, "Retry-After"), "", "%s", url);
    cr_expect_lt(a.seconds, REFUSAL_S, "%s", url);
    http_answer_release(&a);
}

static void expect_answer(const char *url, const char *source) {
    struct http_answer a = http_get(url);

    cr_expect_eq(a.status, 200, "%s: %d %s", url, a.status, a.body);
    cr_expect_str_eq(http_answer_header(&a, "Daybook-Source"), source, "%s", url);
    http_answer_release(&a);
}

/* The read models go on, also with what is written meanwhile. */
static void expect_reads_go_on(const struct replica *replica, int64_t version) {
    expect_answer(url_at(replica, "/accounts/%s/balance?min_version=%" PRId64 "&timeout_ms=10000",
                         account, version),
                  "redis");
    expect_answer(url_at(replica,
                         "/accounts/%s/transactions?min_version=%" PRId64 "&timeout_ms=10000",
                         account, version),
                  "postgresql");
    expect_answer(url_at(replica, "/accounts/%s?version=1", account), "postgresql");
    expect_answer(url_at(replica, "/accounts?limit=1"), "postgresql");
    struct http_answer a = http_get(url_at(replica, "/ready"));
    cr_expect_eq(a.status, 200, "%s", a.body);
    cr_expect_str_eq(http_answer_text(&a, "status"), "degraded", "%s", a.body);
    http_answer_release(&a);
}

Test(reads, without_the_write_database_reads_go_on_and_open_streams_wait) {
    struct tcp_proxy *proxy =
        tcp_proxy_new(tcp_proxy_port_of_url(stack_environment("DAYBOOK_TEST_LOG_URL")));
    struct replica replica;
    char path[160];

    open_account();
    query_start(&replica, tcp_proxy_url(proxy, stack_environment("DAYBOOK_TEST_LOG_URL")));
    (void)snprintf(path, sizeof(path), "/accounts/%s/stream", account);
    sse_open(&streams[0], replica.base, path, 0);
    sse_open(&streams[1], replica.base, "/events/stream", -1);
    await_id(1, 1);
    await_text(2, "retry:", LIMIT_MS);

    tcp_proxy_refuse(proxy, true);
    cr_assert(eventually(refuses_the_log, &replica, LIMIT_MS));
    const int64_t meanwhile = deposit();
    expect_log_unavailable(url_at(&replica, "/events"));
    expect_log_unavailable(url_at(&replica, "/events/aggregate/%s", account));
    expect_log_unavailable(url_at(&replica, "/events/01890a5d-ac96-774b-bcce-b302099a8057"));
    expect_log_unavailable(url_at(&replica, "/events/stream"));
    expect_log_unavailable(url_at(&replica, "/accounts/%s/stream", account));
    expect_reads_go_on(&replica, meanwhile);
    await_text(2, ": still here", HEARTBEAT_LIMIT_MS);

    tcp_proxy_refuse(proxy, false);
    cr_assert(eventually(gives_the_log, &replica, LIMIT_MS));
    await_id(1, meanwhile);
    await_text(2, "\nid: ", LIMIT_MS);
    cr_expect_eq(streams[0].end, SSE_OPEN);
    cr_expect_eq(streams[1].end, SSE_OPEN);
    (void)sse_unwrap(&streams[0]);
    cr_expect_eq(sse_last_id(&streams[0], 1), meanwhile);
    sse_close(&streams[0]);
    sse_close(&streams[1]);
    replica_stop(&replica);
    tcp_proxy_free(proxy);
}
