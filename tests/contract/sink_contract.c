/* The projection sink's contract, run against memory, PostgreSQL and Redis. Uses a projection of
 * its own over the accounts' table, under a name that no real projector uses. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "../support/environment.h"
#include "common/adapters/sink_mem.h"
#include "common/adapters/sink_pg.h"
#include "common/adapters/sink_redis.h"

extern const struct projection accounts_projection;

enum { ID, VERSION, STATUS, CURRENCY, OWNER, BALANCE, OPENED_AT, UPDATED_AT };
enum { PARTITION = 3 };

static struct projection projection;
static char projection_name[64];

static struct projection_sink *make(unsigned store, bool memory) {
    struct projection_sink *sink = NULL;
    struct err err = {0};

    projection = accounts_projection;
    (void)snprintf(projection_name, sizeof(projection_name), "%s", fresh_id("contract"));
    projection.name = projection_name;
    if (memory) {
        return sink_mem_new(store);
    }
    if (store == STORE_PG) {
        return sink_pg_new(&(struct sink_pg_options){
            .url = stack_environment("DAYBOOK_TEST_PROJECTOR_URL"),
            .projection = &projection,
            .connect_timeout_ms = 5000,
            .statement_timeout_ms = 5000,
        });
    }
    cr_assert_eq(sink_redis_new(
                     &(struct sink_redis_options){
                         .url = stack_environment("DAYBOOK_TEST_REDIS_URL"),
                         .projection = &projection,
                         .partitions = 6,
                         .timeout_ms = 5000,
                     },
                     &sink, &err),
                 ERR_OK, "%s", err.message);
    return sink;
}

static struct row row_of(const char *id, int64_t version, int64_t balance) {
    struct row row = {.table = projection.tables[0]};

    row_text(&row, ID, str_from(id));
    row_i64(&row, VERSION, version);
    row_i64(&row, BALANCE, balance);
    row_i64(&row, UPDATED_AT, INT64_C(1700000000000000) + version);
    if (version == 1) {
        row_text(&row, STATUS, STR("open"));
        row_text(&row, CURRENCY, STR("USD"));
        row_text(&row, OWNER, STR("Ada \"x\""));
        row_i64(&row, OPENED_AT, INT64_C(1700000000000001));
    }
    return row;
}

static enum err_code apply(struct projection_sink *sink, int64_t expected, int64_t next,
                           const struct row *row, const char *id) {
    const struct stream_head head = {{STR("account"), str_from(id)},
                                     row != NULL ? row->cells[VERSION].number : 0};
    const struct sink_batch batch = {.partition = PARTITION,
                                     .expected = expected,
                                     .next = next,
                                     .rows = row,
                                     .row_count = row != NULL,
                                     .heads = &head,
                                     .head_count = row != NULL};
    struct err err = {0};

    return sink->ops->apply(sink, &batch, &err);
}

static int64_t head_of(struct projection_sink *sink, const char *id) {
    struct stream_head heads[] = {{{STR("account"), STR("nobody-at-all")}, 5},
                                  {{STR("account"), str_from(id)}, 5}};
    struct err err = {0};

    cr_assert_eq(sink->ops->read_heads(sink, PARTITION, heads, 2, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(heads[0].version, 0);
    return heads[1].version;
}

static int64_t checkpoint_of(struct projection_sink *sink) {
    struct err err = {0};
    int64_t next = 99;

    cr_assert_eq(sink->ops->read_checkpoint(sink, PARTITION, &next, &err), ERR_OK, "%s",
                 err.message);
    return next;
}

#define EACH_ADAPTER(name)                                  \
    static void check_##name(struct projection_sink *sink); \
    static void run_##name(unsigned store, bool memory) {   \
        struct projection_sink *sink = make(store, memory); \
        check_##name(sink);                                 \
        sink->ops->free(sink);                              \
    }                                                       \
    Test(sink_contract, name##_memory) {                    \
        run_##name(STORE_PG, true);                         \
    }                                                       \
    Test(sink_contract, name##_postgresql) {                \
        run_##name(STORE_PG, false);                        \
    }                                                       \
    Test(sink_contract, name##_redis) {                     \
        run_##name(STORE_REDIS, false);                     \
    }                                                       \
    static void check_##name(struct projection_sink *sink)

EACH_ADAPTER(data_head_and_checkpoint_move_together) {
    const char *id = fresh_id("acc");
    const struct row first = row_of(id, 1, 0);
    const struct row second = row_of(id, 2, 500);

    cr_assert_eq(checkpoint_of(sink), SINK_NO_CHECKPOINT);
    cr_assert_eq(head_of(sink, id), 0);
    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, 10, &first, id), ERR_OK);
    cr_assert_eq(checkpoint_of(sink), 10);
    cr_assert_eq(head_of(sink, id), 1);
    cr_assert_eq(apply(sink, 10, 11, &second, id), ERR_OK);
    cr_assert_eq(checkpoint_of(sink), 11);
    cr_assert_eq(head_of(sink, id), 2);
}

EACH_ADAPTER(another_checkpoint_than_expected_is_fenced) {
    const char *id = fresh_id("acc");
    const struct row first = row_of(id, 1, 0);
    const struct row second = row_of(id, 2, 500);

    cr_assert_eq(apply(sink, 5, 10, &first, id), ERR_FENCED, "there is none yet");
    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, 10, &first, id), ERR_OK);
    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, 11, &second, id), ERR_FENCED);
    cr_assert_eq(apply(sink, 9, 11, &second, id), ERR_FENCED);
    cr_assert_eq(checkpoint_of(sink), 10);
    cr_assert_eq(head_of(sink, id), 1, "a fenced write changed something");
    cr_assert_eq(apply(sink, 10, 11, &second, id), ERR_OK, "the sink goes on after a refusal");
}

EACH_ADAPTER(an_older_version_never_overwrites) {
    const char *id = fresh_id("acc");
    const struct row first = row_of(id, 1, 0);
    const struct row third = row_of(id, 3, 700);
    const struct row late = row_of(id, 2, 500);

    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, 1, &first, id), ERR_OK);
    cr_assert_eq(apply(sink, 1, 2, &third, id), ERR_OK);
    /* Rows only: heads are the engine's to keep from moving back. */
    const struct sink_batch batch = {
        .partition = PARTITION, .expected = 2, .next = 3, .rows = &late, .row_count = 1};
    cr_assert_eq(sink->ops->apply(sink, &batch, NULL), ERR_OK);
    cr_assert_eq(head_of(sink, id), 3);
}

EACH_ADAPTER(a_batch_without_rows_moves_the_checkpoint) {
    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, 4, NULL, "x"), ERR_OK);
    cr_assert_eq(apply(sink, 4, 8, NULL, "x"), ERR_OK);
    cr_assert_eq(checkpoint_of(sink), 8);
}
