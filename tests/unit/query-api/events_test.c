/* The log's pages: all of it, one stream, one event. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/query-api/api_fixture.h"

static struct api api;

static void set_up(void) {
    api_start(&api, 100);
}

static void tear_down(void) {
    api_stop(&api);
}

TestSuite(events, .init = set_up, .fini = tear_down, .timeout = 20);

static int64_t number(const json_t *object, const char *name) {
    return json_integer_value(json_object_get(object, name));
}

/* Follows next_cursor to the end; checks that each event's `name` follows the one before by
 * `step`, and returns how many there were. */
static size_t page_through(const char *target, const char *name, int64_t first, int64_t step) {
    char next[512];
    struct answer answer;
    size_t seen = 0;

    (void)snprintf(next, sizeof(next), "%s", target);
    for (int pages = 0; next[0] != '\0'; pages++) {
        cr_assert_lt(pages, 100, "no end");
        api_get(&api, next, &answer);
        cr_assert_eq(answer.status, 200, "%s: %s", next, answer.body);
        json_t *body = answer_body(&answer);
        const json_t *list = json_object_get(body, "events");
        for (size_t i = 0; i < json_array_size(list); i++) {
            cr_assert_eq(number(json_array_get(list, i), name), first + (int64_t)seen * step);
            seen++;
        }
        const char *cursor = json_string_value(json_object_get(body, "next_cursor"));
        next[0] = '\0';
        if (cursor != NULL) {
            (void)snprintf(next, sizeof(next), "%s%ccursor=%s", target,
                           strchr(target, '?') != NULL ? '&' : '?', cursor);
        }
        json_decref(body);
    }
    return seen;
}

Test(events, all_pages_of_the_log_in_both_directions) {
    api_put_account(&api, "a1", 30);
    api_put_account(&api, "a2", 30);

    cr_expect_eq(page_through("/events?limit=7", "position", 1, 1), 60);
    cr_expect_eq(page_through("/events?limit=1000", "position", 1, 1), 60);
    cr_expect_eq(page_through("/events?limit=7&direction=backwards", "position", 60, -1), 60);
    cr_expect_eq(page_through("/events?aggregate_type=account&type=AccountCreated&limit=1",
                              "position", 1, 30),
                 2);
    cr_expect_eq(page_through("/events?aggregate_type=order", "position", 0, 0), 0);
}

Test(events, a_page_may_begin_at_a_position_and_be_limited_in_time) {
    struct answer answer;
    api_put_account(&api, "a1", 10);

    api_get(&api, "/events?from_position=4&limit=2", &answer);
    json_t *body = answer_body(&answer);
    const json_t *list = json_object_get(body, "events");
    cr_assert_eq(json_array_size(list), 2);
    cr_expect_eq(number(json_array_get(list, 0), "position"), 4);
    cr_expect_eq(number(body, "settled_position"), 10);
    json_decref(body);
    api_get(&api, "/events?from_position=4&direction=backwards&limit=2", &answer);
    body = answer_body(&answer);
    cr_expect_eq(number(json_array_get(json_object_get(body, "events"), 0), "position"), 4);
    json_decref(body);
    cr_expect_eq(page_through("/events?from=2026-01-01T00:00:02Z&to=2026-01-01T00:00:05Z&limit=2",
                              "position", 3, 1),
                 3);
    api_get(&api, "/events?limit=1", &answer);
    cr_expect_str_neq(answer_header(&answer, "Daybook-Age-Ms"), "");
}

Test(events, what_is_not_settled_is_not_shown) {
    api_put_account(&api, "a1", 10);
    log_mem_hold(api.log, 6);

    cr_expect_eq(page_through("/events?limit=4", "position", 1, 1), 6);
    cr_expect_eq(page_through("/events?limit=4&direction=backwards", "position", 6, -1), 6);
    /* A stream's versions commit in order: nothing to wait for. */
    cr_expect_eq(page_through("/events/aggregate/a1?limit=4", "version", 1, 1), 10);
}

Test(events, an_event_has_all_that_was_recorded) {
    struct answer answer;
    api_put_account(&api, "a1", 2);

    api_get(&api, "/events/00000000-0000-0000-0000-000000000002", &answer);
    cr_assert_eq(answer.status, 200, "%s", answer.body);
    json_t *body = answer_body(&answer);
    cr_expect_eq(number(body, "position"), 2);
    cr_expect_eq(number(body, "version"), 2);
    cr_expect_eq(number(body, "schema_version"), 1);
    cr_expect_str_eq(json_string_value(json_object_get(body, "type")), "MoneyDeposited");
    cr_expect_str_eq(json_string_value(json_object_get(body, "stream_id")), "a1");
    cr_expect_str_eq(json_string_value(json_object_get(body, "recorded_at")),
                     "2026-01-01T00:00:01.000000Z");
    cr_expect_eq(number(json_object_get(body, "payload"), "amount_minor"), 10000);
    const json_t *metadata = json_object_get(body, "metadata");
    cr_expect_str_eq(json_string_value(json_object_get(metadata, "command")), "Deposit");
    cr_expect_null(json_object_get(metadata, "actor"));
    json_decref(body);
    api_get(&api, "/events/00000000-0000-0000-0000-0000000000ff", &answer);
    answer_is_problem(&answer, 404, "event_not_found");
    api_get(&api, "/events/nonsense", &answer);
    answer_is_problem(&answer, 400, "id_invalid");
}

Test(events, one_stream_by_versions) {
    struct answer answer;
    api_put_account(&api, "a1", 9);
    api_put_account(&api, "a2", 3);

    cr_expect_eq(page_through("/events/aggregate/a1?limit=4", "version", 1, 1), 9);
    cr_expect_eq(page_through("/events/aggregate/a1?limit=4&direction=backwards", "version", 9, -1),
                 9);
    cr_expect_eq(page_through("/events/aggregate/a1?from_version=5", "version", 5, 1), 5);
    api_get(&api, "/events/aggregate/a1?limit=1", &answer);
    cr_expect_str_eq(answer_header(&answer, "Daybook-Version"), "9");
    api_get(&api, "/events/aggregate/a1?aggregate_type=order", &answer);
    answer_is_problem(&answer, 404, "stream_not_found");
}

Test(events, cursors_are_of_one_list_and_one_direction) {
    struct answer answer;
    char target[512];
    api_put_account(&api, "a1", 5);
    api_put_account(&api, "a2", 5);

    api_get(&api, "/events/aggregate/a1?limit=2", &answer);
    json_t *body = answer_body(&answer);
    const char *cursor = json_string_value(json_object_get(body, "next_cursor"));
    static const char *const others[] = {"/events?", "/events/aggregate/a2?",
                                         "/events/aggregate/a1?direction=backwards&"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        (void)snprintf(target, sizeof(target), "%scursor=%s", others[i], cursor);
        api_get(&api, target, &answer);
        answer_is_problem(&answer, 400, "cursor_invalid");
    }
    (void)snprintf(target, sizeof(target), "/events/aggregate/a1?from_version=2&cursor=%s", cursor);
    api_get(&api, target, &answer);
    answer_is_problem(&answer, 400, "parameters_conflict");
    json_decref(body);
}

Test(events, a_log_that_is_gone_is_503_and_the_accounts_are_still_there) {
    struct answer answer;
    api_put_account(&api, "a1", 2);

    log_mem_set_mood(api.log, LOG_MEM_DOWN);
    api_get(&api, "/events", &answer);
    answer_is_problem(&answer, 503, "log_unavailable");
    cr_expect_str_neq(answer_header(&answer, "Retry-After"), "");
    log_mem_set_mood(api.log, LOG_MEM_FULL);
    api_get(&api, "/events/aggregate/a1", &answer);
    answer_is_problem(&answer, 503, "overloaded");
    log_mem_set_mood(api.log, LOG_MEM_FAILS);
    api_get(&api, "/events", &answer);
    answer_is_problem(&answer, 503, "log_unavailable");
    api_get(&api, "/accounts/a1", &answer);
    cr_expect_eq(answer.status, 200);
    log_mem_set_mood(api.log, LOG_MEM_WELL);
    api_get(&api, "/events", &answer);
    cr_expect_eq(answer.status, 200);
}
