/* Many at once: 5,000 that wait for a version, 5,000 live streams; what they cost while nothing
 * happens, and that all are served when it does. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/runtime/file_limit.h"
#include "tests/unit/query-api/api_fixture.h"

enum { CROWD = 5000, ACCOUNTS = 100 };

static struct api api;
static int fds[CROWD];

static void set_up(void) {
    api_start_with(&api, CROWD, CROWD);
}

static void tear_down(void) {
    api_stop(&api);
}

TestSuite(crowd, .init = set_up, .fini = tear_down, .timeout = 120);

/* The server and the test share the process: its files are counted twice. */
static bool fits(void) {
    struct rlimit files;

    return getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > 2 * CROWD + 500;
}

static void until_gauge(const char *name, int64_t wanted) {
    const struct metric_gauge *gauge = metrics_gauge(api.metrics, name, "", "");
    const int64_t limit_us = clock_monotonic_us() + 30000000;

    while (metric_gauge_value(gauge) != wanted) {
        cr_assert_lt(clock_monotonic_us(), limit_us, "%s is %lld", name,
                     (long long)metric_gauge_value(gauge));
        (void)usleep(2000);
    }
}

static int64_t cpu_us(void) {
    struct timespec used;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

static long rss_kib(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file != NULL) {
        if (fscanf(file, "%*d %ld", &pages) != 1) { /* NOLINT(cert-err34-c): the kernel's own */
            pages = 0;
        }
        (void)fclose(file);
    }
    return pages * 4;
}

/* Of one processor, in thousandths, while the test sleeps. */
static long idle_cpu_permille(void) {
    const int64_t cpu_begun_us = cpu_us();
    const int64_t begun_us = clock_monotonic_us();

    (void)usleep(2000000);
    return (long)((cpu_us() - cpu_begun_us) * 1000 / (clock_monotonic_us() - begun_us));
}

static void send_all(const char *end) {
    char target[128];

    for (int i = 0; i < CROWD; i++) {
        (void)snprintf(target, sizeof(target), "/accounts/a%d%s", i % ACCOUNTS, end);
        fds[i] = api_send(&api, "GET", target, "");
    }
}

Test(crowd, five_thousand_wait_for_a_version) {
    struct answer answer;
    char id[16];

    if (!fits()) {
        cr_skip_test("too few open files are allowed");
    }
    for (int i = 0; i < ACCOUNTS; i++) {
        (void)snprintf(id, sizeof(id), "a%d", i);
        api_put_account(&api, id, 1);
    }
    const long before_kib = rss_kib();
    send_all("/balance?min_version=2&timeout_ms=10000");
    until_gauge("daybook_query_waiters", CROWD);
    until_gauge("daybook_http_in_flight", CROWD);
    const size_t looks = view_mem_key_calls(api.store);
    const long busy = idle_cpu_permille();
    (void)fprintf(stderr, "%d waiters: %ld KiB, %ld/1000 of a processor\n", CROWD,
                  rss_kib() - before_kib, busy);
    cr_expect_lt(busy, 300);
    cr_expect_lt(view_mem_key_calls(api.store) - looks, 100, "they look although nothing changed");
    for (int i = 0; i < ACCOUNTS; i++) {
        (void)snprintf(id, sizeof(id), "a%d", i);
        api_deposit(&api, id, 2, true);
    }
    for (int i = 0; i < CROWD; i++) {
        api_receive(fds[i], &answer);
        cr_assert_eq(answer.status, 200, "%d: %s", i, answer.body);
    }
    until_gauge("daybook_query_waiters", 0);
}

/* Until the frame has come, at most ten seconds. */
static void hear(int fd, const char *text) {
    char heard[8192];
    size_t len = 0;

    do {
        const ssize_t got = recv(fd, heard + len, sizeof(heard) - 1 - len, 0);
        cr_assert_gt(got, 0, "\"%s\" did not come", text);
        len += (size_t)got;
        heard[len] = '\0';
    } while (strstr(heard, text) == NULL);
}

Test(crowd, five_thousand_streams) {
    char id[16];

    if (!fits()) {
        cr_skip_test("too few open files are allowed");
    }
    for (int i = 0; i < ACCOUNTS; i++) {
        (void)snprintf(id, sizeof(id), "a%d", i);
        api_put_account(&api, id, 1);
    }
    const long before_kib = rss_kib();
    send_all("/stream");
    until_gauge("daybook_query_streams", CROWD);
    for (int i = 0; i < CROWD; i++) {
        hear(fds[i], "\nid: 1\n");
    }
    const long busy = idle_cpu_permille();
    (void)fprintf(stderr, "%d streams: %ld KiB, %ld/1000 of a processor\n", CROWD,
                  rss_kib() - before_kib, busy);
    cr_expect_lt(busy, 300);
    for (int i = 0; i < ACCOUNTS; i++) {
        (void)snprintf(id, sizeof(id), "a%d", i);
        api_deposit(&api, id, 2, true);
    }
    for (int i = 0; i < CROWD; i++) {
        hear(fds[i], "\nid: 2\n");
        (void)close(fds[i]);
    }
    until_gauge("daybook_query_streams", 0);
}
