/* Two stores in memory, compared: every kind of difference is found, and nothing else. */
#include "command-api/relay/verify.h"

#include <criterion/criterion.h>
#include <string.h>

#include "common/base/hash.h"

enum { PARTITIONS = 6, EVENTS_MAX = 64 };

struct list {
    struct event_scan base;
    struct scanned_event events[EVENTS_MAX];
    size_t count;
    size_t at;
    const struct list *later; /* what find sees besides */
};

static enum err_code list_next(struct event_scan *scan, struct scanned_event *out, bool *found,
                               struct err *err) {
    struct list *list = (struct list *)(void *)scan;

    (void)err;
    *found = list->at < list->count;
    if (*found) {
        *out = list->events[list->at++];
    }
    return ERR_OK;
}

static bool find_in(const struct list *list, const struct uuid *id, struct scanned_event *out) {
    for (size_t i = 0; list != NULL && i < list->count; i++) {
        if (memcmp(&list->events[i].event.event_id, id, sizeof(*id)) == 0) {
            *out = list->events[i];
            return true;
        }
    }
    return false;
}

static enum err_code list_find(struct event_scan *scan, const struct uuid *id,
                               struct scanned_event *out, bool *found, struct err *err) {
    const struct list *list = (const struct list *)(const void *)scan;

    (void)err;
    *found = find_in(list, id, out) || find_in(list->later, id, out);
    return ERR_OK;
}

static uint64_t list_expected(const struct event_scan *scan) {
    return ((const struct list *)(const void *)scan)->count;
}

static const struct event_scan_ops ops = {
    .next = list_next, .find = list_find, .expected = list_expected};
static struct list table;
static struct list topic;
static struct list later;

/* Event number n: stream "a" or "b" in turn, versions 1, 1, 2, 2, … */
static struct scanned_event event_of(int n) {
    struct scanned_event event = {
        .event = {.aggregate_type = STR("account"),
                  .stream_id = n % 2 == 0 ? STR("a") : STR("b"),
                  .version = n / 2 + 1,
                  .position = n + 1,
                  .event_type = STR("MoneyDeposited"),
                  .schema_version = 1,
                  .payload = STR("{}"),
                  .recorded_at_us = 1000 + n},
        .partition = -1,
        .incarnation = 1,
    };

    event.event.event_id.bytes[0] = (uint8_t)(n + 1);
    return event;
}

static void put(struct list *list, struct scanned_event event) {
    if (list == &topic) {
        event.partition = hash_kafka_partition(event.event.stream_id, PARTITIONS);
        event.offset = (int64_t)list->count;
    }
    list->events[list->count++] = event;
}

static void set_up(void) {
    memset(&table, 0, sizeof(table));
    memset(&topic, 0, sizeof(topic));
    memset(&later, 0, sizeof(later));
    table.base.ops = topic.base.ops = &ops;
    table.later = &later;
    for (int i = 0; i < 10; i++) {
        put(&table, event_of(i));
        put(&topic, event_of(i));
    }
}

TestSuite(verify, .init = set_up);

static struct verify_result compare(char *text, size_t size) {
    struct verify_result result;
    FILE *out = fmemopen(text, size, "w");

    cr_assert_eq(verify_run(&(struct verify_options){.table = &table.base,
                                                     .topic = &topic.base,
                                                     .partitions = PARTITIONS,
                                                     .settle_ms = 0,
                                                     .differences_shown = 5,
                                                     .out = out},
                            &result, NULL),
                 ERR_OK);
    (void)fclose(out);
    return result;
}

static void expect_difference(const char *wanted) {
    char text[4096] = "";
    const struct verify_result result = compare(text, sizeof(text));

    cr_assert_eq(result.differences, 1, "%s", text);
    cr_assert_not_null(strstr(text, wanted), "%s", text);
}

Test(verify, equal_stores_are_equal) {
    char text[4096] = "";
    const struct verify_result result = compare(text, sizeof(text));

    cr_assert_eq(result.differences, 0, "%s", text);
    cr_assert_eq(result.table_events, 10);
    cr_assert_eq(result.topic_records, 10);
    cr_assert_eq(result.streams, 2);
    cr_assert_eq(result.repeats, 0);
}

Test(verify, a_missing_event_is_named) {
    topic.count--;
    expect_difference("b version 5 (event 0a000000-0000-0000-0000-000000000000, position 10): is "
                      "not in the topic");
}

Test(verify, a_repeated_event_is_named) {
    put(&topic, event_of(9));
    expect_difference("is there twice");
}

Test(verify, a_repeat_in_a_later_incarnation_is_counted_only) {
    char text[4096] = "";
    struct scanned_event again = event_of(3);

    again.incarnation = 2;
    put(&topic, again);
    const struct verify_result result = compare(text, sizeof(text));
    cr_assert_eq(result.differences, 0, "%s", text);
    cr_assert_eq(result.repeats, 1);
    put(&topic, again);
    topic.at = table.at = 0;
    expect_difference("is there twice");
}

Test(verify, an_unknown_event_is_named) {
    put(&topic, event_of(20));
    expect_difference("is not in the table");
}

Test(verify, an_event_that_was_added_meanwhile_is_looked_up) {
    char text[4096] = "";

    put(&later, event_of(10));
    put(&topic, event_of(10));
    cr_assert_eq(compare(text, sizeof(text)).differences, 0, "%s", text);
}

Test(verify, another_content_is_named) {
    topic.events[4].event.payload = STR("{ }");
    expect_difference("is not what the table has");
}

/* The record names the span of its publishing. */
Test(verify, a_trace_must_be_the_same_its_span_need_not) {
    char text[4096] = "";

    table.events[4].event.traceparent =
        STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    topic.events[4].event.traceparent =
        STR("00-4bf92f3577b34da6a3ce929d0e0e4736-1111111111111111-01");
    cr_assert_eq(compare(text, sizeof(text)).differences, 0, "%s", text);
    topic.events[4].event.traceparent =
        STR("00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    topic.at = table.at = 0;
    expect_difference("is not what the table has");
}

Test(verify, another_order_within_a_stream_is_named) {
    const struct scanned_event swapped = topic.events[6];

    topic.events[6] = topic.events[8];
    topic.events[8] = swapped;
    expect_difference("a version 4 (event 07000000-0000-0000-0000-000000000000, position 7, "
                      "partition");
}

Test(verify, a_wrong_partition_is_named) {
    topic.events[2].partition = (topic.events[2].partition + 1) % PARTITIONS;
    expect_difference("belongs into partition");
}

Test(verify, a_record_without_its_payload_and_one_that_is_no_event_are_named) {
    topic.events[2].without_payload = true;
    topic.events[2].event.payload = (struct str){0};
    expect_difference("was published without its payload");
    topic.events[2] = event_of(2);
    topic.events[2].partition = hash_kafka_partition(STR("a"), PARTITIONS);
    put(&topic, (struct scanned_event){.defect = "no key"});
    topic.at = table.at = 0;
    expect_difference("is no event: no key");
}

Test(verify, only_the_first_differences_are_shown_and_all_are_counted) {
    char text[4096] = "";

    topic.count = 0;
    cr_assert_eq(compare(text, sizeof(text)).differences, 10);
    size_t lines = 0;
    for (const char *c = text; *c != '\0'; c++) {
        lines += *c == '\n' ? 1 : 0;
    }
    cr_assert_eq(lines, 5);
}
