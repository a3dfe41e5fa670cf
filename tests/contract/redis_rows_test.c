/* Rows in Redis, one key each: what a batch sets is there, what it leaves is kept, whatever bytes
 * the texts are made of. Read back as `verify` reads them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "../support/environment.h"
#include "../support/shell.h"
#include "common/adapters/scan_redis.h"
#include "common/adapters/sink_redis.h"
#include "common/ports/row.h"

enum { ID, NOTE, VERSION, AMOUNT, FILE_ID, NAME, COLUMNS, PARTITION = 3 };

static const struct model_column columns[] = {
    [ID] = {"id", COLUMN_TEXT, MERGE_SET},           [NOTE] = {"note", COLUMN_TEXT, MERGE_SET},
    [VERSION] = {"version", COLUMN_I64, MERGE_SET},  [AMOUNT] = {"amount", COLUMN_I64, MERGE_SET},
    [FILE_ID] = {"file_id", COLUMN_UUID, MERGE_SET}, [NAME] = {"name", COLUMN_TEXT, MERGE_SET},
};
static const struct model_table table = {
    .name = "kept",
    .columns = columns,
    .column_count = COLUMNS,
    .key_count = 1,
    .version_column = VERSION,
    .stores = STORE_REDIS,
    .redis_prefix = "kept",
};
static const struct model_table *const tables[] = {&table};
static struct projection projection = {
    .version = 1, .tables = tables, .table_count = 1, .heads = &table};

static struct projection_sink *sink;
static struct model_scan *scan;
static int64_t next;
static const char *id;
static char row_key[160];
static char checkpoint_key[160];

static void begin(void) {
    struct err err = {0};
    static char name[MODEL_NAME_BYTES];

    (void)snprintf(name, sizeof(name), "%s", fresh_id("rows"));
    projection.name = name;
    id = fresh_id("row");
    next = 0;
    (void)snprintf(row_key, sizeof(row_key), "{p%d}:kept:%s", PARTITION, id);
    (void)snprintf(checkpoint_key, sizeof(checkpoint_key), "{p%d}:checkpoint:%s", PARTITION, name);
    cr_assert_eq(sink_redis_new(
                     &(struct sink_redis_options){
                         .url = stack_environment("DAYBOOK_TEST_REDIS_PROJECTOR_URL"),
                         .projection = &projection,
                         .partitions = 6,
                         .timeout_ms = 5000,
                     },
                     &sink, &err),
                 ERR_OK, "%s", err.message);
    cr_assert_eq(scan_redis_new(
                     &(struct scan_redis_options){
                         .url = stack_environment("DAYBOOK_TEST_REDIS_PROJECTOR_URL"),
                         .projection = &projection,
                         .partitions = 6,
                         .timeout_ms = 5000,
                     },
                     &scan, &err),
                 ERR_OK, "%s", err.message);
}

/* Puts something in the row's place. */
static void put(const char *verb, const char *text) {
    const char *wanted = strcmp(verb, "SET") == 0 ? "OK" : "1";
    const char *said = redis_command("%s '%s' '%s'", verb, row_key, text);

    cr_assert_eq(strncmp(said, wanted, strlen(wanted)), 0, "%s", said);
}

static void forget(const char *key) {
    const char *said = redis_command("DEL '%s'", key);

    cr_assert(said[0] == '0' || said[0] == '1', "%s", said);
}

static void end(void) {
    forget(row_key);
    forget(checkpoint_key);
    sink->ops->free(sink);
    scan->ops->free(scan);
}

static struct row row_of(int64_t version) {
    struct row row = {.table = &table};

    row_text(&row, ID, str_from(id));
    row_i64(&row, VERSION, version);
    return row;
}

static enum err_code apply(const struct row *row) {
    const struct sink_checkpoint none = {.next = SINK_NO_CHECKPOINT};
    const struct sink_checkpoint at = {.next = next, .version = 1};
    const struct sink_checkpoint then = {.next = next + 1, .version = 1};
    const struct sink_batch batch = {.partition = PARTITION,
                                     .expected = next == 0 ? none : at,
                                     .next = then,
                                     .rows = row,
                                     .row_count = 1};
    struct err err = {0};
    const enum err_code code = sink->ops->apply(sink, &batch, &err);

    next += code == ERR_OK;
    return code;
}

static enum err_code compare(void *arg, int32_t partition, const struct sink_checkpoint *at,
                             const struct row *row, struct err *err) {
    const struct row *wanted = arg;

    (void)err;
    cr_assert_eq(partition, PARTITION);
    cr_assert_eq(at->next, next);
    cr_assert_not_null(row, "no such row");
    for (size_t i = 0; i < COLUMNS; i++) {
        cr_assert(cell_equal(&columns[i], &row->cells[i], &wanted->cells[i]), "%s",
                  columns[i].name);
    }
    return ERR_OK;
}

static void expect(const struct row *wanted) {
    struct sink_checkpoint at[6];
    struct err err = {0};

    cr_assert_eq(scan->ops->open(scan, at, 6, &err), ERR_OK, "%s", err.message);
    union {
        const struct row *in;
        void *out;
    } arg = {.in = wanted};
    cr_assert_eq(scan->ops->find(scan, PARTITION, wanted, compare, arg.out, &err), ERR_OK, "%s",
                 err.message);
    scan->ops->close(scan);
}

static const char *const texts[] = {
    "",
    "plain",
    "%",
    "%%",
    "%1%0%",
    "100 %d+",
    "\\",
    "\\0",
    "\\t",
    "a\tb\t",
    "\t",
    "\\\\\t%\\",
    "^[^\t]*$",
    "Zoë (x) - [y] . * + ?",
    "line\nbreak\r\n",
};

Test(redis_rows, whole_rows_and_parts_of_them_with_any_text, .timeout = 60) {
    struct row kept;
    int64_t version = 1;

    begin();
    kept = row_of(version);
    row_text(&kept, NOTE, STR("first"));
    row_i64(&kept, AMOUNT, INT64_MIN);
    kept.cells[FILE_ID] = (struct cell){.set = true, .uuid = {{1, 2, 3, 255}}};
    row_text(&kept, NAME, STR("name"));
    cr_assert_eq(apply(&kept), ERR_OK);
    expect(&kept);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct row part = row_of(++version);
        row_text(&part, NOTE, str_from(texts[i]));
        row_i64(&kept, VERSION, version);
        row_text(&kept, NOTE, str_from(texts[i]));
        cr_assert_eq(apply(&part), ERR_OK);
        expect(&kept);
        part = row_of(++version);
        row_text(&part, NAME, str_from(texts[i]));
        row_i64(&part, AMOUNT, -version);
        row_i64(&kept, VERSION, version);
        row_text(&kept, NAME, str_from(texts[i]));
        row_i64(&kept, AMOUNT, -version);
        cr_assert_eq(apply(&part), ERR_OK);
        expect(&kept);
        part = kept;
        row_i64(&part, VERSION, ++version);
        row_i64(&kept, VERSION, version);
        cr_assert_eq(apply(&part), ERR_OK);
        expect(&kept);
    }
    struct row old = row_of(version);
    row_text(&old, NOTE, STR("too late"));
    cr_assert_eq(apply(&old), ERR_OK);
    expect(&kept);
    end();
}

Test(redis_rows, a_part_of_a_row_that_is_not_there, .timeout = 60) {
    begin();
    struct row part = row_of(5);
    row_i64(&part, AMOUNT, 12);
    cr_assert_eq(apply(&part), ERR_OK);
    expect(&part);
    struct row more = row_of(6);
    row_text(&more, NAME, STR("50 %"));
    cr_assert_eq(apply(&more), ERR_OK);
    row_i64(&more, AMOUNT, 12);
    expect(&more);
    end();
}

Test(redis_rows, a_damaged_one_is_as_if_it_was_not_there, .timeout = 60) {
    static const char *const damaged[] = {"", "nonsense", "2\ttoo\tfew",
                                          "2\tone\t2\t\\0\tfour\tfive"};

    begin();
    struct row part = row_of(0);
    row_i64(&part, AMOUNT, 7);
    for (size_t i = 0; i < ARRAY_LEN(damaged); i++) {
        put("SET", damaged[i]);
        row_i64(&part, VERSION, 3 + (int64_t)i);
        cr_assert_eq(apply(&part), ERR_OK);
        expect(&part);
    }
    forget(row_key);
    put("RPUSH", "2\t\\0\t\\0\t7\t\\0\t\\0");
    row_i64(&part, VERSION, 100);
    cr_assert_eq(apply(&part), ERR_OK);
    expect(&part);
    end();
}

/* Where a stream's version isn't known it is asked for, and can't be guessed. */
Test(redis_rows, a_damaged_one_has_no_version, .timeout = 60) {
    static const char *const damaged[] = {"", "nonsense", "\\0\t2"};
    const struct sink_checkpoint at = {.next = 0, .version = 1};
    struct stream_head head = {0};
    struct err err = {0};

    begin();
    head.stream_id = str_from(id);
    cr_assert_eq(sink->ops->read_heads(sink, PARTITION, &at, &head, 1, &err), ERR_OK);
    cr_assert_eq(head.version, 0);
    for (size_t i = 0; i < ARRAY_LEN(damaged); i++) {
        put("SET", damaged[i]);
        cr_assert_eq(sink->ops->read_heads(sink, PARTITION, &at, &head, 1, &err), ERR_CORRUPT);
    }
    forget(row_key);
    put("RPUSH", "2");
    cr_assert_eq(sink->ops->read_heads(sink, PARTITION, &at, &head, 1, &err), ERR_CORRUPT);
    put("SET", "12\tx");
    cr_assert_eq(sink->ops->read_heads(sink, PARTITION, &at, &head, 1, &err), ERR_OK);
    cr_assert_eq(head.version, 12);
    end();
}
