/* Read your writes: min_version and timeout_ms. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/unit/query-api/api_fixture.h"

static struct api api;

enum { WAITERS_MAX = 40 };

static void set_up(void) {
    api_start(&api, WAITERS_MAX);
}

static void tear_down(void) {
    api_stop(&api);
}

TestSuite(wait, .init = set_up, .fini = tear_down, .timeout = 20);

/* Until the function has counted that many, at most five seconds. */
static void until(size_t (*count)(struct view_mem *), size_t calls) {
    const int64_t limit_us = clock_monotonic_us() + 5000000;

    while (count(api.store) < calls) {
        cr_assert_lt(clock_monotonic_us(), limit_us, "a view is not asked again");
        (void)usleep(500);
    }
}

/* Until the account was looked at and its place was asked about twice after that. */
static void until_waiting(void) {
    until(view_mem_key_calls, 1);
    until(view_mem_mark_calls, view_mem_mark_calls(api.store) + 2);
}

static int64_t member(const struct answer *answer, const char *name) {
    json_t *body = answer_body(answer);
    const json_t *value = json_object_get(body, name);
    const int64_t number = json_is_integer(value) ? json_integer_value(value) : -1;

    json_decref(body);
    return number;
}

Test(wait, a_version_that_is_visible_is_answered_at_once) {
    struct answer answer;
    api_put_account(&api, "a1", 3);

    api_get(&api, "/accounts/a1?min_version=3", &answer);
    cr_expect_eq(answer.status, 200);
    api_get(&api, "/accounts/a1/balance?min_version=2&timeout_ms=0", &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(answer_header(&answer, "Daybook-Version"), "3");
    cr_expect_eq(view_mem_key_calls(api.store), 2);
}

Test(wait, a_version_that_comes_later_is_waited_for) {
    struct answer answer;
    api_put_account(&api, "a1", 2);

    const int fd = api_send(&api, "GET", "/accounts/a1/balance?min_version=3", "");
    until_waiting();
    api_deposit(&api, "a1", 3, true);
    api_receive(fd, &answer);

    cr_expect_eq(answer.status, 200);
    cr_expect_eq(member(&answer, "version"), 3);
    cr_expect_str_eq(answer_header(&answer, "Daybook-Source"), "redis");
}

Test(wait, when_time_runs_out_the_problem_names_both_versions) {
    struct answer answer;
    api_put_account(&api, "a1", 2);

    const int64_t started_us = clock_monotonic_us();
    api_get(&api, "/accounts/a1?min_version=3&timeout_ms=60", &answer);
    const int64_t took_us = clock_monotonic_us() - started_us;

    answer_is_problem(&answer, 504, "projection_behind");
    cr_expect_eq(member(&answer, "visible_version"), 2);
    cr_expect_eq(member(&answer, "min_version"), 3);
    cr_expect_geq(took_us, 60000);
    cr_expect_lt(took_us, 2000000);
}

Test(wait, timeout_0_looks_once_at_both_views) {
    struct answer answer;
    api_put_account(&api, "a1", 2);

    api_get(&api, "/accounts/a1?min_version=3&timeout_ms=0", &answer);
    answer_is_problem(&answer, 504, "projection_behind");
    cr_expect_eq(member(&answer, "visible_version"), 2);
    view_mem_drop_key(api.store, STR("a1"));
    api_get(&api, "/accounts/a1?min_version=2&timeout_ms=0", &answer);
    cr_expect_eq(answer.status, 200);
}

Test(wait, an_account_that_is_not_visible_yet_is_waited_for) {
    struct answer answer;

    const int fd = api_send(&api, "GET", "/accounts/new?min_version=1", "");
    until_waiting();
    api_put_account(&api, "new", 1);
    api_receive(fd, &answer);
    cr_expect_eq(answer.status, 200);

    api_get(&api, "/accounts/never?min_version=1&timeout_ms=30", &answer);
    answer_is_problem(&answer, 504, "projection_behind");
    cr_expect_eq(member(&answer, "visible_version"), 0);
}

Test(wait, the_row_view_may_be_ahead_of_the_key_view) {
    struct answer answer;
    api_put_account(&api, "a1", 2);
    api_deposit(&api, "a1", 3, false);

    api_get(&api, "/accounts/a1?min_version=3&timeout_ms=5000", &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(answer_header(&answer, "Daybook-Source"), "postgresql");
}

Test(wait, goes_on_with_the_row_view_when_the_key_view_goes_down) {
    struct answer answer;
    api_put_account(&api, "a1", 2);

    const int fd = api_send(&api, "GET", "/accounts/a1?min_version=3&timeout_ms=8000", "");
    until_waiting();
    view_mem_set_moods(api.store, VIEW_MEM_DOWN, VIEW_MEM_WELL);
    api_deposit(&api, "a1", 3, true);
    api_receive(fd, &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(answer_header(&answer, "Daybook-Source"), "postgresql");
}

Test(wait, goes_on_with_the_key_view_while_the_row_view_is_down) {
    struct answer answer;
    view_mem_set_moods(api.store, VIEW_MEM_WELL, VIEW_MEM_DOWN);

    const int fd = api_send(&api, "GET", "/accounts/new?min_version=1&timeout_ms=8000", "");
    until_waiting();
    api_put_account(&api, "new", 1);
    api_receive(fd, &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(answer_header(&answer, "Daybook-Source"), "redis");
}

Test(wait, ends_in_time_also_when_a_view_is_silent) {
    struct answer answer;
    api_put_account(&api, "a1", 2);
    view_mem_set_moods(api.store, VIEW_MEM_SILENT, VIEW_MEM_SILENT);

    api_get(&api, "/accounts/a1?min_version=3&timeout_ms=300", &answer);
    answer_is_problem(&answer, 504, "projection_behind");
    /* The views' late answers find nobody and do no harm. */
    view_mem_set_moods(api.store, VIEW_MEM_WELL, VIEW_MEM_WELL);
    api_get(&api, "/accounts/a1", &answer);
    cr_expect_eq(answer.status, 200);
}

Test(wait, transactions_wait_for_the_statement) {
    struct answer answer;
    api_put_account(&api, "a1", 2);

    const int fd = api_send(&api, "GET", "/accounts/a1/transactions?min_version=3&limit=1", "");
    until(view_mem_row_calls, 2);
    api_deposit(&api, "a1", 3, true);
    api_receive(fd, &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(answer_header(&answer, "Daybook-Version"), "3");

    api_get(&api, "/accounts/a1/transactions?min_version=4&timeout_ms=20", &answer);
    answer_is_problem(&answer, 504, "projection_behind");
    cr_expect_eq(member(&answer, "visible_version"), 3);
}

Test(wait, all_of_many_waiters_are_answered_and_one_too_many_is_refused) {
    struct answer answer;
    int fds[WAITERS_MAX];
    api_put_account(&api, "a1", 1);

    for (size_t i = 0; i < WAITERS_MAX; i++) {
        fds[i] = api_send(&api, "GET", "/accounts/a1/balance?min_version=2&timeout_ms=10000", "");
    }
    until(view_mem_key_calls, WAITERS_MAX);
    const struct metric_gauge *waiters =
        metrics_gauge(api.metrics, "daybook_query_waiters", "", "");
    cr_expect_eq(metric_gauge_value(waiters), WAITERS_MAX);
    api_get(&api, "/accounts/a1?min_version=2", &answer);
    answer_is_problem(&answer, 503, "overloaded");
    api_deposit(&api, "a1", 2, true);
    for (size_t i = 0; i < WAITERS_MAX; i++) {
        api_receive(fds[i], &answer);
        cr_expect_eq(answer.status, 200);
        cr_expect_eq(member(&answer, "version"), 2);
    }
    cr_expect_eq(metric_gauge_value(waiters), 0);
}

Test(wait, waiters_are_hurried_when_the_process_drains) {
    struct answer answer;
    api_put_account(&api, "a1", 1);

    const int fd = api_send(&api, "GET", "/accounts/a1?min_version=2&timeout_ms=10000", "");
    until_waiting();
    const int64_t started_us = clock_monotonic_us();
    cr_assert(loop_post(http_server_loop(api.server, 0), reader_drain, api.reader));
    api_receive(fd, &answer);
    answer_is_problem(&answer, 503, "draining");
    cr_expect_lt(clock_monotonic_us() - started_us, 3000000);
}

Test(wait, an_account_is_looked_at_again_only_when_something_has_changed) {
    struct answer answer;
    api_put_account(&api, "a1", 1);
    api_put_account(&api, "other", 1);

    const int fd = api_send(&api, "GET", "/accounts/a1?min_version=2&timeout_ms=10000", "");
    until_waiting();
    until(view_mem_mark_calls, view_mem_mark_calls(api.store) + 20);
    cr_expect_eq(view_mem_key_calls(api.store), 1);
    api_deposit(&api, "other", 2, true);
    until(view_mem_key_calls, 2);
    until(view_mem_mark_calls, view_mem_mark_calls(api.store) + 20);
    cr_expect_eq(view_mem_key_calls(api.store), 2);
    api_deposit(&api, "a1", 2, true);
    api_receive(fd, &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_eq(view_mem_key_calls(api.store), 3);
}

Test(wait, prefer_wait_is_a_time_limit_like_timeout_ms) {
    struct answer answer;
    api_put_account(&api, "a1", 1);

    const int64_t started_us = clock_monotonic_us();
    api_call(&api, "GET", "/accounts/a1?min_version=2", "Prefer: respond-async, Wait=1\r\n",
             &answer);
    const int64_t took_us = clock_monotonic_us() - started_us;
    answer_is_problem(&answer, 504, "projection_behind");
    cr_expect_str_eq(answer_header(&answer, "Preference-Applied"), "wait=1");
    cr_expect_geq(took_us, 1000000);
    cr_expect_lt(took_us, 1800000);
    /* The parameter says it more exactly, and nonsense says nothing. */
    api_call(&api, "GET", "/accounts/a1?min_version=2&timeout_ms=10", "Prefer: wait=5\r\n",
             &answer);
    answer_is_problem(&answer, 504, "projection_behind");
    cr_expect_str_eq(answer_header(&answer, "Preference-Applied"), "");
    api_call(&api, "GET", "/accounts/a1?min_version=1", "Prefer: wait=x\r\n", &answer);
    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(answer_header(&answer, "Preference-Applied"), "");
}
