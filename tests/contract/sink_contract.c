/* The projection sink's contract, run against memory, PostgreSQL and Redis. Uses a projection of
 * its own over the accounts' table, under a name that no real projector uses. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "../support/environment.h"
#include "../support/shell.h"
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
        return sink_mem_new(&projection, store);
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
                         .url = stack_environment("DAYBOOK_TEST_REDIS_PROJECTOR_URL"),
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

static struct sink_checkpoint at(int64_t next) {
    return (struct sink_checkpoint){.next = next, .version = 1};
}

static enum err_code apply_batch(struct projection_sink *sink, const struct sink_batch *batch) {
    struct err err = {0};

    return sink->ops->apply(sink, batch, &err);
}

static enum err_code apply(struct projection_sink *sink, int64_t expected, int64_t next,
                           const struct row *row) {
    const struct sink_batch batch = {.partition = PARTITION,
                                     .expected = at(expected),
                                     .next = at(next),
                                     .rows = row,
                                     .row_count = row != NULL};

    return apply_batch(sink, &batch);
}

static int64_t head_in(struct projection_sink *sink, int32_t partition, const char *id) {
    struct stream_head heads[] = {{STR("nobody-at-all"), 5}, {str_from(id), 5}};
    const struct sink_checkpoint live = at(0);
    struct err err = {0};

    cr_assert_eq(sink->ops->read_heads(sink, partition, &live, heads, 2, &err), ERR_OK, "%s",
                 err.message);
    cr_assert_eq(heads[0].version, 0);
    return heads[1].version;
}

static int64_t head_of(struct projection_sink *sink, const char *id) {
    return head_in(sink, PARTITION, id);
}

static struct sink_checkpoint stored(struct projection_sink *sink) {
    struct sink_checkpoint out = {.next = 99};
    struct err err = {0};

    cr_assert_eq(sink_read_checkpoint(sink, PARTITION, &out, &err), ERR_OK, "%s", err.message);
    return out;
}

static int64_t checkpoint_of(struct projection_sink *sink) {
    return stored(sink).next;
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
    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, 10, &first), ERR_OK);
    cr_assert_eq(checkpoint_of(sink), 10);
    cr_assert_eq(head_of(sink, id), 1);
    cr_assert_eq(apply(sink, 10, 11, &second), ERR_OK);
    cr_assert_eq(checkpoint_of(sink), 11);
    cr_assert_eq(head_of(sink, id), 2);
}

EACH_ADAPTER(another_checkpoint_than_expected_is_fenced) {
    const char *id = fresh_id("acc");
    const struct row first = row_of(id, 1, 0);
    const struct row second = row_of(id, 2, 500);

    cr_assert_eq(apply(sink, 5, 10, &first), ERR_FENCED, "there is none yet");
    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, 10, &first), ERR_OK);
    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, 11, &second), ERR_FENCED);
    cr_assert_eq(apply(sink, 9, 11, &second), ERR_FENCED);
    cr_assert_eq(checkpoint_of(sink), 10);
    cr_assert_eq(head_of(sink, id), 1, "a fenced write changed something");
    cr_assert_eq(apply(sink, 10, 11, &second), ERR_OK, "the sink goes on after a refusal");
}

EACH_ADAPTER(an_older_version_never_overwrites) {
    const char *id = fresh_id("acc");
    const struct row first = row_of(id, 1, 0);
    const struct row third = row_of(id, 3, 700);
    const struct row late = row_of(id, 2, 500);

    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, 1, &first), ERR_OK);
    cr_assert_eq(apply(sink, 1, 2, &third), ERR_OK);
    const struct sink_batch batch = {
        .partition = PARTITION, .expected = at(2), .next = at(3), .rows = &late, .row_count = 1};
    cr_assert_eq(apply_batch(sink, &batch), ERR_OK);
    cr_assert_eq(head_of(sink, id), 3);
}

EACH_ADAPTER(a_batch_without_rows_moves_the_checkpoint) {
    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, 4, NULL), ERR_OK);
    cr_assert_eq(apply(sink, 4, 8, NULL), ERR_OK);
    cr_assert_eq(checkpoint_of(sink), 8);
}

EACH_ADAPTER(every_part_of_the_checkpoint_is_compared) {
    const struct sink_checkpoint raised = {.next = 4, .version = 1, .epoch = 1};
    const struct sink_batch raise = {.partition = PARTITION, .expected = at(4), .next = raised};

    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, 4, NULL), ERR_OK);
    cr_assert_eq(apply_batch(sink, &raise), ERR_OK);
    cr_assert_eq(apply(sink, 4, 5, NULL), ERR_FENCED, "somebody has changed the model");
    cr_assert_eq(stored(sink).epoch, 1);
    const struct sink_checkpoint other = {.next = 4, .version = 2, .epoch = 1};
    const struct sink_batch newer = {.partition = PARTITION, .expected = other, .next = other};
    cr_assert_eq(apply_batch(sink, &newer), ERR_FENCED);
}

static struct {
    int64_t streams, events, offset, version, voids;
    char reason[64];
} seen;

static void see_parked(void *arg, const struct parked_event *first, int64_t count) {
    (void)arg;
    seen.streams++;
    seen.events = count;
    seen.offset = first->offset;
    seen.version = first->version;
    (void)snprintf(seen.reason, sizeof(seen.reason), "%.*s", STR_ARG(first->reason));
}

static void see_void(void *arg, const struct void_range *range) {
    (void)arg;
    seen.voids += range->last - range->first + 1;
}

static void see_event(void *arg, const struct parked_event *event) {
    int64_t *offsets = arg;

    *offsets = *offsets * 100 + event->offset;
}

static void look(struct projection_sink *sink) {
    const struct sink_checkpoint live = stored(sink);
    const struct sink_exceptions into = {see_parked, see_void, NULL};

    memset(&seen, 0, sizeof(seen));
    cr_assert_eq(sink->ops->read_exceptions(sink, PARTITION, &live, &into, NULL), ERR_OK);
}

EACH_ADAPTER(parked_events_are_kept_in_order_until_they_are_released) {
    const struct str id = str_from(fresh_id("acc"));
    const struct parked_event first = {.stream_id = id,
                                       .offset = 11,
                                       .version = 2,
                                       .event_type = STR("MoneyDeposited"),
                                       .payload = STR("\xff{"),
                                       .reason = STR("not \\ JSON\t!")};
    const struct parked_event second = {
        .stream_id = id, .offset = 12, .version = 3, .event_type = STR("MoneyDeposited")};
    const struct void_range range = {id, 2, 3};
    struct sink_batch batch = {.partition = PARTITION,
                               .expected = at(SINK_NO_CHECKPOINT),
                               .next = at(12),
                               .parked = &first,
                               .parked_count = 1};
    int64_t offsets = 0;

    cr_assert_eq(apply_batch(sink, &batch), ERR_OK);
    batch.expected = at(12);
    batch.next = at(13);
    batch.parked = &second;
    cr_assert_eq(apply_batch(sink, &batch), ERR_OK);
    look(sink);
    cr_assert_eq(seen.streams, 1);
    cr_assert_eq(seen.events, 2);
    cr_assert_eq(seen.offset, 11);
    cr_assert_eq(seen.version, 2);
    cr_assert(strncmp(seen.reason, "not ", 4) == 0, "%s", seen.reason);
    const struct sink_checkpoint live = at(13);
    cr_assert_eq(sink->ops->read_parked(sink, PARTITION, &live, id, see_event, &offsets, NULL),
                 ERR_OK);
    cr_assert_eq(offsets, 1112);
    batch = (struct sink_batch){.partition = PARTITION,
                                .expected = at(13),
                                .next = at(13),
                                .released = &id,
                                .released_count = 1,
                                .voids = &range,
                                .void_count = 1};
    cr_assert_eq(apply_batch(sink, &batch), ERR_OK);
    look(sink);
    cr_assert_eq(seen.streams, 0);
    cr_assert_eq(seen.voids, 2);
    /* Who tells it again doesn't double it. */
    batch.released_count = 0;
    cr_assert_eq(apply_batch(sink, &batch), ERR_OK);
    const struct void_range longer = {id, 2, 5};
    batch.voids = &longer;
    cr_assert_eq(apply_batch(sink, &batch), ERR_OK);
    look(sink);
    cr_assert_eq(seen.voids, 4);
}

EACH_ADAPTER(rows_without_a_checkpoint_fill_a_store_that_has_none) {
    const char *id = fresh_id("acc");
    const struct row first = row_of(id, 1, 0);

    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, SINK_NO_CHECKPOINT, &first), ERR_OK);
    cr_assert_eq(checkpoint_of(sink), SINK_NO_CHECKPOINT);
    cr_assert_eq(head_of(sink, id), 1);
    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, 7, NULL), ERR_OK);
    cr_assert_eq(apply(sink, SINK_NO_CHECKPOINT, SINK_NO_CHECKPOINT, &first), ERR_FENCED,
                 "somebody has begun it");
}

/* --- several partitions at once --- */

enum { OTHER = PARTITION + 1 };

static const int32_t both[] = {PARTITION, OTHER};

static void stored_of_both(struct projection_sink *sink, int64_t next[2]) {
    struct sink_checkpoint out[2];

    cr_assert_eq(sink->ops->read_checkpoints(sink, both, 2, out, NULL), ERR_OK);
    next[0] = out[0].next;
    next[1] = out[1].next;
}

/* Batches of one row each, from checkpoint 1 to 2; both partitions stand at 1. */
static void two_batches(struct projection_sink *sink, struct sink_batch batches[2],
                        const struct row rows[2]) {
    for (size_t i = 0; i < 2; i++) {
        const struct sink_batch begin = {
            .partition = both[i], .expected = at(SINK_NO_CHECKPOINT), .next = at(1)};
        cr_assert_eq(apply_batch(sink, &begin), ERR_OK);
        batches[i] = (struct sink_batch){.partition = both[i],
                                         .expected = at(1),
                                         .next = at(2),
                                         .rows = &rows[i],
                                         .row_count = 1};
    }
}

/* ERR_OK: all of them. codes[] as apply_all leaves them. */
static enum err_code apply_both(struct projection_sink *sink, const struct sink_batch batches[2],
                                enum err_code codes[2]) {
    struct err err = {0};

    codes[0] = codes[1] = ERR_INTERNAL;
    const enum err_code code = sink->ops->apply_all(sink, batches, 2, codes, &err);
    cr_assert_eq(code, codes[0] != ERR_OK ? codes[0] : codes[1]);
    cr_assert_eq(err.code, code);
    return code;
}

EACH_ADAPTER(partitions_move_at_once) {
    const char *id = fresh_id("acc");
    const char *second = fresh_id("acc");
    const struct row rows[] = {row_of(id, 1, 0), row_of(second, 1, 0)};
    const struct parked_event parked = {.stream_id = STR("gap"),
                                        .offset = 1,
                                        .version = 2,
                                        .event_type = STR("MoneyDeposited"),
                                        .payload = STR("{}"),
                                        .reason = STR("not yet")};
    struct sink_batch batches[2];
    enum err_code codes[2];
    int64_t next[2];

    two_batches(sink, batches, rows);
    batches[0].parked = &parked;
    batches[0].parked_count = 1;
    cr_assert_eq(apply_both(sink, batches, codes), ERR_OK);
    stored_of_both(sink, next);
    cr_assert_eq(next[0], 2);
    cr_assert_eq(next[1], 2);
    cr_assert_eq(head_of(sink, id), 1);
    cr_assert_eq(head_in(sink, OTHER, second), 1);
    look(sink);
    cr_assert_eq(seen.events, 1);
}

EACH_ADAPTER(an_unexpected_checkpoint_among_several_is_fenced) {
    const char *id = fresh_id("acc");
    const char *second = fresh_id("acc");
    const struct row rows[] = {row_of(id, 1, 0), row_of(second, 1, 0)};
    struct sink_batch batches[2];
    enum err_code codes[2];
    int64_t next[2];

    two_batches(sink, batches, rows);
    batches[1].expected = at(7);
    cr_assert_eq(apply_both(sink, batches, codes), ERR_FENCED);
    cr_assert_eq(codes[1], ERR_FENCED);
    stored_of_both(sink, next);
    cr_assert_eq(next[1], 1);
    cr_assert_eq(head_in(sink, OTHER, second), 0, "a fenced write changed something");
    /* The other one was done whole or not at all. */
    cr_assert_eq(next[0], codes[0] == ERR_OK ? 2 : 1);
    cr_assert_eq(head_of(sink, id), codes[0] == ERR_OK);
    batches[0].expected = at(next[0]);
    batches[1].expected = at(1);
    cr_assert_eq(apply_both(sink, batches, codes), ERR_OK, "it goes on");
    cr_assert_eq(head_of(sink, id), 1);
}

Test(sink_contract, one_unexpected_checkpoint_stops_all_postgresql) {
    struct projection_sink *sink = make(STORE_PG, false);
    const char *id = fresh_id("acc");
    const struct row rows[] = {row_of(id, 1, 0), row_of(fresh_id("acc"), 1, 0)};
    struct sink_batch batches[2];
    enum err_code codes[2];
    int64_t next[2];

    two_batches(sink, batches, rows);
    batches[1].expected = at(7);
    cr_assert_eq(apply_both(sink, batches, codes), ERR_FENCED);
    stored_of_both(sink, next);
    cr_assert_eq(next[0], 1);
    cr_assert_eq(head_of(sink, id), 0);
    sink->ops->free(sink);
}

/* Refused by a statement behind the checkpoint's: not taken for a lost partition, and nothing of
 * the step stays. */
Test(sink_contract, refused_data_change_nothing_postgresql) {
    struct projection_sink *sink = make(STORE_PG, false);
    const char *id = fresh_id("acc");
    const struct row rows[] = {row_of(id, 1, 0), row_of("not \xff UTF-8", 1, 0)};
    struct sink_batch batches[2];
    enum err_code codes[2];
    int64_t next[2];

    two_batches(sink, batches, rows);
    cr_assert_eq(apply_both(sink, batches, codes), ERR_INVALID);
    cr_assert_eq(sink->ops->apply(sink, &batches[1], NULL), ERR_INVALID);
    stored_of_both(sink, next);
    cr_assert_eq(next[0], 1);
    cr_assert_eq(next[1], 1);
    cr_assert_eq(head_of(sink, id), 0);
    cr_assert_eq(sink->ops->apply(sink, &batches[0], NULL), ERR_OK, "it goes on");
    cr_assert_eq(head_of(sink, id), 1);
    sink->ops->free(sink);
}

struct retried {
    struct projection_sink *sink;
    const struct sink_batch *batches;
    enum err_code code;
};

static bool is_available(void *arg) {
    struct retried *retried = arg;
    enum err_code codes[2];

    retried->code = apply_both(retried->sink, retried->batches, codes);
    return retried->code != ERR_UNAVAILABLE;
}

/* A restarted server has forgotten the script that a call names. */
Test(sink_contract, forgotten_scripts_are_an_outage_or_loaded_anew_redis) {
    struct projection_sink *sink = make(STORE_REDIS, false);
    const char *ids[] = {fresh_id("acc"), fresh_id("acc")};
    const struct row rows[] = {row_of(ids[0], 1, 0), row_of(ids[1], 1, 0)};
    struct sink_batch batches[2];
    enum err_code codes[2];
    struct retried retried = {.sink = sink, .batches = batches};

    two_batches(sink, batches, rows);
    cr_assert(strncmp(redis_command("SCRIPT FLUSH"), "OK", 2) == 0);
    cr_assert_eq(apply_both(sink, batches, codes), ERR_UNAVAILABLE);
    cr_assert_eq(codes[1], ERR_UNAVAILABLE);
    cr_assert(eventually(is_available, &retried, 10000));
    cr_assert_eq(retried.code, ERR_OK);
    for (size_t i = 0; i < 2; i++) {
        cr_assert_eq(head_in(sink, both[i], ids[i]), 1);
    }
    cr_assert(strncmp(redis_command("SCRIPT FLUSH"), "OK", 2) == 0);
    batches[0].expected = at(2);
    batches[0].next = at(3);
    cr_assert_eq(sink->ops->apply(sink, &batches[0], NULL), ERR_OK, "one alone is called again");
    sink->ops->free(sink);
}
