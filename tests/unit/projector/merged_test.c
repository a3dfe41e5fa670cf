/* What a rebuild keeps of a partition: one row per key, merged in the order of the log. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "projector/merged.h"
#include "projector/streams.h"

enum { ID, VERSION, OWNER, STREAMS = 3000 };
enum { DAY, COUNT };

static const struct model_column head_columns[] = {
    [ID] = {"id", COLUMN_TEXT, MERGE_SET},
    [VERSION] = {"version", COLUMN_I64, MERGE_SET},
    [OWNER] = {"owner", COLUMN_TEXT, MERGE_SET},
};
static const struct model_table heads = {
    .name = "heads",
    .columns = head_columns,
    .column_count = ARRAY_LEN(head_columns),
    .key_count = 1,
    .version_column = VERSION,
};
static const struct model_column day_columns[] = {
    [DAY] = {"day", COLUMN_DATE, MERGE_SET},
    [COUNT] = {"count", COLUMN_I64, MERGE_ADD},
};
static const struct model_table days = {
    .name = "days",
    .columns = day_columns,
    .column_count = ARRAY_LEN(day_columns),
    .key_count = 1,
    .version_column = -1,
};
static const struct model_table *const tables[] = {&heads, &days};
static const struct projection projection = {
    .name = "test", .tables = tables, .table_count = ARRAY_LEN(tables), .heads = &heads};

static struct merged merged;

static void begin(void) {
    merged_init(&merged, &projection);
}

static void end(void) {
    merged_release(&merged);
}

static void add_head(size_t stream, int64_t version, const char *owner) {
    char id[16];
    char text[32];
    struct row row = {.table = &heads};

    (void)snprintf(id, sizeof(id), "s%zu", stream);
    row_text(&row, ID, str_from(id));
    row_i64(&row, VERSION, version);
    if (owner != NULL) {
        /* The texts of a batch go with it. */
        (void)snprintf(text, sizeof(text), "%s", owner);
        row_text(&row, OWNER, str_from(text));
    }
    merged_add(&merged, &row, stream);
}

static void add_day(int64_t day) {
    struct row row = {.table = &days};

    row_i64(&row, DAY, day);
    row_i64(&row, COUNT, 1);
    merged_add(&merged, &row, 0);
}

TestSuite(merged, .init = begin, .fini = end);

Test(merged, rows_of_a_stream_become_one) {
    size_t at = 0;

    add_head(0, 1, "old");
    add_head(0, 2, NULL);
    add_head(0, 3, "new");
    cr_assert_eq(merged_count(&merged), 1);
    const struct row *row = merged_next(&merged, &at);
    cr_assert_not_null(row);
    cr_assert(str_eq(row->cells[ID].text, STR("s0")));
    cr_assert_eq(row->cells[VERSION].number, 3);
    cr_assert(str_eq(row->cells[OWNER].text, STR("new")));
    cr_assert_null(merged_next(&merged, &at));
    cr_assert_null(merged_next(&merged, &at));
}

Test(merged, each_row_is_met_once) {
    static int met[STREAMS];
    int64_t counted = 0;
    size_t rows = 0;
    size_t at = 0;

    for (int version = 1; version <= 2; version++) {
        for (size_t stream = STREAMS; stream > 0; stream -= 3) { /* with streams that have none */
            add_head(stream - 1, version, "owner");
            add_day((int64_t)stream % 7);
        }
    }
    for (const struct row *row = merged_next(&merged, &at); row != NULL;
         row = merged_next(&merged, &at), rows++) {
        if (row->table == &heads) {
            int stream = -1;
            cr_assert_eq(sscanf(row->cells[ID].text.ptr, "s%d", &stream), 1);
            cr_assert_eq(met[stream]++, 0);
            cr_assert_eq(row->cells[VERSION].number, 2);
        } else {
            counted += row->cells[COUNT].number;
        }
    }
    cr_assert_eq(rows, STREAMS / 3 + 7);
    cr_assert_eq(merged_count(&merged), rows);
    cr_assert_eq(counted, 2 * STREAMS / 3);
}

/* Also when the place of the one that was added to last has moved, or is another's. */
Test(merged, sums_are_the_same_in_whatever_order_their_rows_come) {
    enum { DAYS = 5000, IN_A_ROW = 3 };
    static int64_t sums[DAYS];
    size_t rows = 0;
    size_t at = 0;

    for (int64_t day = 0; day < DAYS; day++) {
        for (int i = 0; i < IN_A_ROW; i++) {
            add_day(day);
        }
        add_day(day / 2);
        add_day(day);
    }
    for (const struct row *row = merged_next(&merged, &at); row != NULL;
         row = merged_next(&merged, &at), rows++) {
        sums[row->cells[DAY].number] = row->cells[COUNT].number;
    }
    cr_assert_eq(rows, DAYS);
    for (int64_t day = 0; day < DAYS; day++) {
        cr_assert_eq(sums[day], IN_A_ROW + 1 + (2 * day < DAYS ? 2 : 0));
    }
}

Test(merged, cleared_it_knows_nothing_of_the_partition_before) {
    size_t at = 0;

    add_head(STREAMS, 5, "owner");
    add_day(1);
    merged_clear(&merged);
    cr_assert_eq(merged_count(&merged), 0);
    cr_assert_null(merged_next(&merged, &at));
    add_head(1, 1, NULL);
    add_day(1);
    at = 0;
    const struct row *row = merged_next(&merged, &at);
    cr_assert_not_null(row);
    cr_assert_not(row->cells[OWNER].set);
    row = merged_next(&merged, &at);
    cr_assert_not_null(row);
    cr_assert_eq(row->cells[COUNT].number, 1);
}

Test(streams, are_numbered_as_they_come_and_keep_their_numbers) {
    struct streams streams;
    char id[16];

    streams_init(&streams, STREAMS);
    for (int turn = 0; turn < 2; turn++) {
        for (size_t i = 0; i < STREAMS; i++) {
            (void)snprintf(id, sizeof(id), "s%zu", i);
            int64_t *number = streams_add(&streams, str_from(id), 0);
            cr_assert_not_null(number);
            cr_assert_eq(streams_place(&streams, number), i);
            cr_assert_eq(*number, turn == 0 ? 0 : (int64_t)i);
            *number = (int64_t)i;
        }
    }
    cr_assert_null(streams_add(&streams, STR("one too many"), 0));
    cr_assert_null(streams_find(&streams, STR("one too many")));
    cr_assert(str_eq(streams_id(&streams, STR("s17")), STR("s17")));
    streams_clear(&streams);
    cr_assert_null(streams_find(&streams, STR("s17")));
    streams_release(&streams);
}
