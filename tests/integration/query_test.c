/* Reads through the gateway of a running stack: the past against the fold of the log, the log's
 * pages, live streams. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/environment.h"
#include "../support/http_client.h"
#include "common/base/clock.h"

#define GATEWAY "DAYBOOK_TEST_GATEWAY"

enum { ENTRIES = 60 };

TestSuite(query, .timeout = 120);

/* An account with deposits and withdrawals at random; returns its version. */
static int64_t fill(const char *id, unsigned seed) {
    char body[160];
    long long minor = 0;
    int64_t version = 0;

    (void)snprintf(body, sizeof(body), "{\"id\":\"%s\",\"currency\":\"EUR\"}", id);
    for (int i = 0; i <= ENTRIES; i++) {
        const char *action = "";
        if (i > 0) {
            const long long amount = rand_r(&seed) % 5000 + 1;
            const bool out = minor >= amount && rand_r(&seed) % 3 == 0;
            action = out ? "/withdraw" : "/deposit";
            minor += out ? -amount : amount;
            (void)snprintf(body, sizeof(body), "{\"amount\":\"%lld.%02lld\"}", amount / 100,
                           amount % 100);
        }
        struct http_answer a = http_post(i == 0 ? url_of(GATEWAY, "/accounts")
                                                : url_of(GATEWAY, "/accounts/%s%s", id, action),
                                         body);
        cr_assert(a.status == 200 || a.status == 201, "%s", a.body);
        version = http_answer_number(&a, "version");
        http_answer_release(&a);
    }
    return version;
}

struct folded {
    int64_t version;
    int64_t at_us;
    long long minor;
};

/* The state after each event, from the log alone. */
static size_t fold(const char *id, struct folded out[ENTRIES + 1]) {
    struct http_answer a = http_get(url_of(GATEWAY, "/events/aggregate/%s?limit=1000", id));
    size_t count = 0;
    long long minor = 0;
    size_t i;
    json_t *event;

    cr_assert_eq(a.status, 200, "%s", a.body);
    json_array_foreach(json_object_get(a.json, "events"), i, event) {
        const char *type = json_string_value(json_object_get(event, "type"));
        const json_t *payload = json_object_get(event, "payload");
        const long long amount = json_integer_value(json_object_get(payload, "amount_minor"));
        minor += strcmp(type, "MoneyDeposited") == 0   ? amount
                 : strcmp(type, "MoneyWithdrawn") == 0 ? -amount
                                                       : 0;
        cr_assert_lt(count, (size_t)ENTRIES + 1);
        out[count].version = json_integer_value(json_object_get(event, "version"));
        out[count].minor = minor;
        cr_assert(clock_parse_rfc3339(
            str_from(json_string_value(json_object_get(event, "recorded_at"))), &out[count].at_us));
        count++;
    }
    http_answer_release(&a);
    return count;
}

static void balance_is(const char *url, const struct folded *wanted) {
    struct http_answer a = http_get(url);
    char minor[32];

    (void)snprintf(minor, sizeof(minor), "%lld.%02lld", wanted->minor / 100, wanted->minor % 100);
    cr_assert_eq(a.status, 200, "%s: %s", url, a.body);
    cr_expect_str_eq(http_answer_text(&a, "balance"), minor, "%s", url);
    cr_expect_eq(http_answer_number(&a, "version"), wanted->version, "%s", url);
    http_answer_release(&a);
}

Test(query, the_past_is_the_fold_of_the_log_at_any_version_and_time) {
    static struct folded folded[ENTRIES + 1];
    unsigned seed = 7;
    char id[96];
    char time[CLOCK_RFC3339_BYTES];

    (void)snprintf(id, sizeof(id), "%s", fresh_id("past"));
    const int64_t version = fill(id, seed);
    struct http_answer a = http_get(url_of(
        GATEWAY, "/accounts/%s/transactions?limit=1&min_version=%" PRId64 "&timeout_ms=10000", id,
        version));
    cr_assert_eq(a.status, 200, "%s", a.body);
    http_answer_release(&a);
    const size_t count = fold(id, folded);
    cr_assert_eq(count, (size_t)version);
    for (size_t i = 0; i < count; i++) {
        balance_is(url_of(GATEWAY, "/accounts/%s/balance?version=%zu", id, i + 1), &folded[i]);
    }
    for (int i = 0; i < 100; i++) {
        const int64_t span_us = folded[count - 1].at_us - folded[0].at_us;
        const int64_t at_us =
            folded[0].at_us + (int64_t)((double)rand_r(&seed) / RAND_MAX * (double)span_us);
        size_t then = 0;
        while (then + 1 < count && folded[then + 1].at_us <= at_us) {
            then++;
        }
        (void)clock_format_rfc3339(time, at_us);
        balance_is(url_of(GATEWAY, "/accounts/%s/balance?at=%s", id, time), &folded[then]);
    }
    for (size_t i = 0; i < count; i++) { /* exactly then, and a microsecond before */
        size_t last = i;
        while (last + 1 < count && folded[last + 1].at_us == folded[i].at_us) {
            last++;
        }
        (void)clock_format_rfc3339(time, folded[i].at_us);
        balance_is(url_of(GATEWAY, "/accounts/%s/balance?at=%s", id, time), &folded[last]);
        (void)clock_format_rfc3339(time, folded[i].at_us - 1);
        if (i > 0 && folded[i - 1].at_us < folded[i].at_us) {
            balance_is(url_of(GATEWAY, "/accounts/%s/balance?at=%s", id, time), &folded[i - 1]);
        }
    }
    a = http_get(url_of(GATEWAY, "/accounts/%s?at=2020-01-01T00:00:00Z", id));
    cr_expect_eq(a.status, 404);
    cr_expect_str_eq(http_answer_text(&a, "code"), "account_not_found_at");
    http_answer_release(&a);
    a = http_get(url_of(GATEWAY, "/accounts/%s?version=%" PRId64, id, version + 1));
    cr_expect_eq(a.status, 404);
    cr_expect_str_eq(http_answer_text(&a, "code"), "version_not_reached");
    http_answer_release(&a);
}

Test(query, entries_filtered_by_time_are_those_of_the_log) {
    static struct folded folded[ENTRIES + 1];
    char id[96];
    char from[CLOCK_RFC3339_BYTES];
    char to[CLOCK_RFC3339_BYTES];

    (void)snprintf(id, sizeof(id), "%s", fresh_id("filter"));
    const int64_t version = fill(id, 3);
    struct http_answer a = http_get(url_of(
        GATEWAY, "/accounts/%s/transactions?limit=1&min_version=%" PRId64 "&timeout_ms=10000", id,
        version));
    cr_assert_eq(a.status, 200);
    http_answer_release(&a);
    const size_t count = fold(id, folded);
    const int64_t from_us = folded[10].at_us;
    const int64_t to_us = folded[40].at_us;
    size_t wanted = 0;
    for (size_t i = 0; i < count; i++) {
        wanted += folded[i].at_us >= from_us && folded[i].at_us < to_us;
    }
    (void)clock_format_rfc3339(from, from_us);
    (void)clock_format_rfc3339(to, to_us);
    a = http_get(
        url_of(GATEWAY, "/accounts/%s/transactions?limit=200&from=%s&to=%s", id, from, to));
    cr_expect_eq(json_array_size(json_object_get(a.json, "transactions")), wanted);
    http_answer_release(&a);
}

Test(query, a_large_page_of_the_log_arrives_whole) {
    struct http_answer a = http_get(url_of(GATEWAY, "/events?limit=1000&direction=backwards"));
    int64_t before = INT64_MAX;
    size_t i;
    json_t *event;

    cr_assert_eq(a.status, 200, "%s", a.body);
    json_array_foreach(json_object_get(a.json, "events"), i, event) {
        const int64_t position = json_integer_value(json_object_get(event, "position"));
        cr_assert_lt(position, before);
        before = position;
    }
    http_answer_release(&a);
}

Test(query, live_streams_pass_the_gateway_and_resume) {
    static char output[65536];
    char command[1024];
    char id[96];

    (void)snprintf(id, sizeof(id), "%s", fresh_id("live"));
    const int64_t version = fill(id, 5);
    (void)snprintf(command, sizeof(command),
                   "(sleep 1; curl -s -o /dev/null -H 'Content-Type: application/json'"
                   " -d '{\"amount\":1}' \"$DAYBOOK_TEST_GATEWAY/accounts/%s/deposit\") & "
                   "timeout 4 curl -sN -H 'Last-Event-ID: %" PRId64 "'"
                   " \"$DAYBOOK_TEST_GATEWAY/accounts/%s/stream\"; wait",
                   id, version - 2, id);
    FILE *pipe = popen(command, "r"); /* NOLINT(cert-env33-c): the test's own command */
    cr_assert_not_null(pipe);
    output[fread(output, 1, sizeof(output) - 1, pipe)] = '\0';
    (void)pclose(pipe);
    int64_t next = version - 1;
    for (const char *at = output; (at = strstr(at, "\nid: ")) != NULL; at++, next++) {
        cr_expect_eq(strtoll(at + 5, NULL, 10), next, "%s", output);
    }
    cr_expect_eq(next, version + 2, "%s", output);
}
