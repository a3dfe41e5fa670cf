#include "common/adapters/event_row.h"

#include <criterion/criterion.h>
#include <string.h>

#include "pgoutput_messages.h"

static struct pgoutput_message relation;
static struct pgoutput_message insert;
static struct event_row_layout layout;
static struct recorded_event event;
static struct err err;

static void decode_recorded(void) {
    cr_assert_eq(pgoutput_decode(recorded(RECORDED_RELATION), &relation, NULL), ERR_OK);
    cr_assert_eq(pgoutput_decode(recorded(RECORDED_INSERT), &insert, NULL), ERR_OK);
}

TestSuite(event_row, .init = decode_recorded);

Test(event_row, a_recorded_insert_is_the_event) {
    char id[UUID_TEXT_BYTES];

    cr_assert_eq(event_row_layout(&relation, &layout, NULL), ERR_OK);
    cr_assert_eq(event_row_of_insert(&layout, &insert, &event, NULL), ERR_OK);
    uuid_format(id, &event.event_id);
    cr_assert_str_eq(id, "01900000-0000-7000-8000-000000000003");
    cr_assert(str_eq(event.aggregate_type, STR("account")));
    cr_assert(str_eq(event.stream_id, STR("rec-2")));
    cr_assert_eq(event.version, 1);
    cr_assert_eq(event.position, 3);
    cr_assert(str_eq(event.event_type, STR("AccountCreated")));
    cr_assert_eq(event.schema_version, 1);
    cr_assert(str_eq(event.payload, STR("{\"owner\":\"Gr\xc3\xbcn\"}")));
    cr_assert(str_eq(event.correlation_id, STR("c-1")));
    cr_assert_eq(event.causation_id.len, 0, "NULL is absent");
    cr_assert_eq(event.actor.len, 0);
    cr_assert_eq(event.recorded_at_us, INT64_C(1769860800000001));
}

/* The same row after the table has been given a first column and its old ones another order. */
Test(event_row, columns_are_found_by_name) {
    struct pgoutput_message turned = relation;
    struct pgoutput_message row = insert;
    const size_t count = relation.column_count;

    turned.column_count = row.column_count = count + 1;
    turned.columns[0] = STR("added_later");
    row.values[0] = (struct pgoutput_value){.text = STR("x")};
    for (size_t i = 0; i < count; i++) {
        turned.columns[i + 1] = relation.columns[count - 1 - i];
        row.values[i + 1] = insert.values[count - 1 - i];
    }
    cr_assert_eq(event_row_layout(&turned, &layout, NULL), ERR_OK);
    cr_assert_eq(event_row_of_insert(&layout, &row, &event, NULL), ERR_OK);
    cr_assert(str_eq(event.stream_id, STR("rec-2")));
    cr_assert_eq(event.position, 3);
    cr_assert(str_eq(event.correlation_id, STR("c-1")));
}

Test(event_row, metadata_columns_may_be_missing) {
    for (size_t i = 0; i < relation.column_count; i++) {
        if (str_eq(relation.columns[i], STR("actor"))) {
            relation.columns[i] = STR("former_actor");
        }
    }
    cr_assert_eq(event_row_layout(&relation, &layout, NULL), ERR_OK);
    cr_assert_eq(event_row_of_insert(&layout, &insert, &event, NULL), ERR_OK);
    cr_assert_eq(event.actor.len, 0);
}

Test(event_row, a_missing_column_is_named) {
    relation.columns[4] = STR("stream");
    cr_assert_eq(event_row_layout(&relation, &layout, &err), ERR_CORRUPT);
    cr_assert_not_null(strstr(err.message, "stream_id"), "%s", err.message);
}

Test(event_row, what_can_not_be_read_is_corrupt) {
    static const struct {
        size_t column;
        struct str text;
    } wrong[] = {
        {0, {"x", 1}}, {2, {"0190", 4}},        {4, {"", 0}},   {5, {"0", 1}},
        {5, {"", 0}},  {7, {"2147483648", 10}}, {8, {NULL, 0}}, {14, {"now", 3}},
    };

    cr_assert_eq(event_row_layout(&relation, &layout, NULL), ERR_OK);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct pgoutput_message row = insert;
        row.values[wrong[i].column] = (struct pgoutput_value){.text = wrong[i].text};
        cr_assert_eq(event_row_of_insert(&layout, &row, &event, &err), ERR_CORRUPT, "row %zu", i);
    }
}

Test(event_row, a_value_that_was_not_sent_is_corrupt) {
    cr_assert_eq(event_row_layout(&relation, &layout, NULL), ERR_OK);
    insert.values[8] = (struct pgoutput_value){.is_unchanged = true};
    cr_assert_eq(event_row_of_insert(&layout, &insert, &event, &err), ERR_CORRUPT);
    insert.column_count = 3; /* fewer than the relation has told */
    cr_assert_eq(event_row_of_insert(&layout, &insert, &event, &err), ERR_CORRUPT);
}
