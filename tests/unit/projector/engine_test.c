/* The engine on a sink in memory: order, repetitions, gaps, poison, fences, lost data. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/sink_mem.h"
#include "projector/engine.h"
#include "projector/registry.h"

enum { RECORDS = 32, BALANCE = 5, VERSION = 1 };

/* The version of the projection that is tested. */
static int64_t live_version(void) {
    return registry_find_projection(STR("accounts"))->version;
}

static struct {
    struct projection_sink *sink;
    struct engine *engine;
    struct metrics *metrics;
} fixture;

static struct consumed_record records[RECORDS];
static char payloads[RECORDS][128];
static size_t count;

static enum err_code begin_at(int32_t partition) {
    struct sink_checkpoint at;
    struct err err = {0};

    return engine_begin(fixture.engine, partition, &at, &err);
}

static enum err_code begin(void) {
    return begin_at(0);
}

static void set_up(void) {
    const struct projection *projection = registry_find_projection(STR("accounts"));

    fixture.sink = sink_mem_new(projection, STORE_PG);
    fixture.metrics = metrics_new();
    fixture.engine = engine_new(&(struct engine_options){
        .projection = projection,
        .sink = fixture.sink,
        .metrics = fixture.metrics,
        .batch_max = RECORDS,
    });
    cr_assert_eq(begin(), ERR_OK);
}

static void tear_down(void) {
    engine_free(fixture.engine);
    fixture.sink->ops->free(fixture.sink);
    metrics_free(fixture.metrics);
}

TestSuite(engine, .init = set_up, .fini = tear_down, .timeout = 10);

static struct consumed_record *record(const char *stream, int64_t version, int64_t balance) {
    struct consumed_record *r = &records[count];
    char *payload = payloads[count];

    if (version == 1) {
        (void)snprintf(payload, sizeof(payloads[0]), "{\"currency\":\"USD\"}");
    } else {
        (void)snprintf(payload, sizeof(payloads[0]),
                       "{\"amount_minor\":1,\"balance_minor\":%lld,\"currency\":\"USD\"}",
                       (long long)balance);
    }
    *r = (struct consumed_record){
        .offset = (int64_t)count,
        .event = {.aggregate_type = STR("account"),
                  .stream_id = str_from(stream),
                  .version = version,
                  .event_type = version == 1 ? STR("AccountCreated") : STR("MoneyDeposited"),
                  .schema_version = 1,
                  .payload = str_from(payload),
                  .recorded_at_us = 1000 + version},
    };
    count++;
    return r;
}

static enum err_code apply_from(size_t first) {
    struct err err = {0};

    return engine_apply(fixture.engine, 0, records + first, count - first, &err);
}

static int64_t cell_of(const char *stream, int column) {
    const struct projection *projection = registry_find_projection(STR("accounts"));
    struct row key = {.table = projection->tables[0]};

    row_text(&key, 0, str_from(stream));
    const struct row *row = sink_mem_find(fixture.sink, &key);
    return row != NULL ? row->cells[column].number : -1;
}

static uint64_t counter(const char *name) {
    return metric_counter_value(
        metrics_counter(fixture.metrics, name, "projection=\"accounts\",sink=\"memory\"", ""));
}

static void list_offset(void *arg, const struct parked_event *event) {
    int64_t *offsets = arg;

    *offsets = *offsets * 10 + event->offset;
}

/* The offsets of the stream's parked events as digits. */
static int64_t parked(const char *stream) {
    const struct sink_checkpoint at = {0};
    int64_t offsets = 0;

    cr_assert_eq(fixture.sink->ops->read_parked(fixture.sink, 0, &at, str_from(stream), list_offset,
                                                &offsets, NULL),
                 ERR_OK);
    return offsets;
}

Test(engine, applies_in_order) {
    record("a", 1, 0);
    record("b", 1, 0);
    record("a", 2, 500);
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(cell_of("a", BALANCE), 500);
    cr_assert_eq(cell_of("b", VERSION), 1);
    cr_assert_eq(engine_position(fixture.engine, 0).next, 3);
}

Test(engine, repetitions_are_ignored_and_counted) {
    record("a", 1, 0);
    record("a", 2, 500);
    cr_assert_eq(apply_from(0), ERR_OK);
    record("a", 2, 999);
    record("a", 3, 600);
    cr_assert_eq(apply_from(2), ERR_OK);
    cr_assert_eq(cell_of("a", BALANCE), 600);
    cr_assert_eq(counter("daybook_projector_repeats_total"), 1);
    cr_assert_eq(engine_parked_streams(fixture.engine, 0), 0);
}

Test(engine, heads_are_read_from_the_sink_after_a_restart) {
    record("a", 1, 0);
    record("a", 2, 500);
    cr_assert_eq(apply_from(0), ERR_OK);
    engine_end(fixture.engine, 0);
    cr_assert_eq(begin(), ERR_OK);
    record("a", 3, 600);
    cr_assert_eq(apply_from(2), ERR_OK);
    cr_assert_eq(cell_of("a", BALANCE), 600);
    cr_assert_eq(engine_parked_streams(fixture.engine, 0), 0);
}

Test(engine, a_gap_parks_its_stream_and_no_other) {
    record("a", 1, 0);
    record("a", 3, 700);
    record("b", 1, 0);
    record("a", 4, 800);
    record("b", 2, 100);
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(cell_of("a", VERSION), 1);
    cr_assert_eq(cell_of("b", BALANCE), 100);
    cr_assert_eq(engine_parked_streams(fixture.engine, 0), 1);
    engine_end(fixture.engine, 0);
    cr_assert_eq(begin(), ERR_OK);
    record("a", 2, 600); /* what was missing comes too late: order is kept */
    cr_assert_eq(apply_from(5), ERR_OK);
    cr_assert_eq(cell_of("a", VERSION), 1);
    cr_assert_eq(parked("a"), 135, "in order, across a restart");
    cr_assert_eq(counter("daybook_projector_events_parked_total"), 3);
}

Test(engine, poison_parks_its_stream_and_no_other) {
    record("a", 1, 0);
    record("a", 2, 500)->event.payload = STR("{\"amount_minor\":");
    record("a", 3, 600);
    record("b", 1, 0)->defect = "no ce_id";
    record("c", 1, 0);
    record("d\xff", 1, 0);
    record("e", 1, 0)->event.event_type = STR("Unheard\xff");
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(cell_of("a", VERSION), 1);
    cr_assert_eq(cell_of("b", VERSION), -1);
    cr_assert_eq(cell_of("c", VERSION), 1);
    cr_assert_eq(parked("a"), 12);
    cr_assert_eq(parked("b"), 3);
    cr_assert_eq(parked("?d?"), 5, "a name that can be shown");
    cr_assert_eq(parked("e"), 6);
}

Test(engine, events_of_other_aggregates_pass_by) {
    record("a", 1, 0);
    record("a", 7, 0)->event.aggregate_type = STR("order");
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(engine_parked_streams(fixture.engine, 0), 0);
    cr_assert_eq(engine_position(fixture.engine, 0).next, 2);
}

Test(engine, what_the_store_refuses_is_found_and_parked) {
    sink_mem_refuse(fixture.sink, "b");
    record("a", 1, 0);
    record("b", 1, 0);
    record("c", 1, 0);
    record("a", 2, 70);
    record("b", 2, 80);
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(cell_of("a", BALANCE), 70);
    cr_assert_eq(cell_of("b", VERSION), -1);
    cr_assert_eq(cell_of("c", VERSION), 1);
    cr_assert_eq(parked("b"), 14);
    cr_assert_eq(engine_position(fixture.engine, 0).next, 5);
}

Test(engine, an_outage_parks_nothing_and_is_told) {
    record("a", 1, 0);
    sink_mem_fail_next(fixture.sink, ERR_UNAVAILABLE, false);
    cr_assert_eq(apply_from(0), ERR_UNAVAILABLE);
    cr_assert_eq(begin(), ERR_OK);
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(cell_of("a", VERSION), 1);
    cr_assert_eq(engine_parked_streams(fixture.engine, 0), 0);
}

Test(engine, a_success_hidden_by_an_outage_is_not_done_twice) {
    record("a", 1, 0);
    sink_mem_fail_next(fixture.sink, ERR_UNAVAILABLE, true);
    cr_assert_eq(apply_from(0), ERR_UNAVAILABLE);
    cr_assert_eq(begin(), ERR_OK);
    record("a", 2, 5);
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(cell_of("a", BALANCE), 5);
    cr_assert_eq(counter("daybook_projector_repeats_total"), 0);
}

Test(engine, a_zombie_is_fenced_and_writes_nothing) {
    const struct sink_batch others = {.partition = 0,
                                      .expected = {.next = SINK_NO_CHECKPOINT},
                                      .next = {.next = 9, .version = live_version()}};

    cr_assert_eq(fixture.sink->ops->apply(fixture.sink, &others, NULL), ERR_OK);
    record("a", 1, 0);
    cr_assert_eq(apply_from(0), ERR_FENCED);
    cr_assert_eq(cell_of("a", VERSION), -1);
    cr_assert_eq(counter("daybook_projector_fenced_total"), 1);
}

Test(engine, a_sink_that_lost_its_data_is_noticed_without_an_event) {
    const int32_t partition = 0;
    int32_t changed = -1;

    record("a", 1, 0);
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(engine_check(fixture.engine, &partition, 1, &changed, NULL), ERR_OK);
    sink_mem_lose(fixture.sink);
    cr_assert_eq(engine_check(fixture.engine, &partition, 1, &changed, NULL), ERR_FENCED);
    cr_assert_eq(changed, 0);
    cr_assert_eq(begin(), ERR_OK);
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(cell_of("a", VERSION), 1);
}

Test(engine, a_model_of_another_version_is_left_alone) {
    const struct sink_batch newer = {.partition = 0,
                                     .expected = {.next = SINK_NO_CHECKPOINT},
                                     .next = {.next = 0, .version = live_version() + 1}};

    cr_assert_eq(fixture.sink->ops->apply(fixture.sink, &newer, NULL), ERR_OK);
    cr_assert_eq(begin(), ERR_CLOSED);
}

Test(engine, void_versions_count_as_applied) {
    const struct void_range range = {STR("a"), 2, 3};
    const struct sink_batch declared = {.partition = 0,
                                        .expected = {.next = SINK_NO_CHECKPOINT},
                                        .next = {.next = 0, .version = live_version()},
                                        .voids = &range,
                                        .void_count = 1};

    cr_assert_eq(fixture.sink->ops->apply(fixture.sink, &declared, NULL), ERR_OK);
    cr_assert_eq(begin(), ERR_OK);
    record("a", 1, 0);
    record("a", 2, 5)->event.payload = STR("poison");
    record("a", 4, 70);
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(cell_of("a", BALANCE), 70);
    cr_assert_eq(engine_parked_streams(fixture.engine, 0), 0);
}

/* --- several partitions --- */

enum { SHARES = 3 };

static struct engine_share shares[SHARES];

/* Records of three partitions, one stream each, of this version, from these offsets on. */
static void share_out(int64_t version, int64_t balance) {
    static const char *const streams[SHARES] = {"a", "b", "c"};

    for (int32_t p = 0; p < SHARES; p++) {
        struct consumed_record *r = record(streams[p], version, balance + p);
        r->partition = p;
        r->offset = version - 1;
        shares[p] = (struct engine_share){.partition = p, .records = r, .count = 1};
    }
}

/* All three have a checkpoint and an account. */
static void begin_shares(void) {
    for (int32_t p = 1; p < SHARES; p++) {
        cr_assert_eq(begin_at(p), ERR_OK);
    }
    share_out(1, 0);
    engine_apply_all(fixture.engine, shares, SHARES);
    for (size_t i = 0; i < SHARES; i++) {
        cr_assert_eq(shares[i].code, ERR_OK, "%s", shares[i].err.message);
    }
}

/* As another replica would: the partition goes on without us. */
static void write_elsewhere(int32_t partition) {
    const struct sink_checkpoint now = engine_position(fixture.engine, partition);
    struct sink_checkpoint next = now;

    next.next += 5;
    const struct sink_batch batch = {.partition = partition, .expected = now, .next = next};
    cr_assert_eq(fixture.sink->ops->apply(fixture.sink, &batch, NULL), ERR_OK);
}

Test(engine, partitions_are_applied_in_one_step) {
    begin_shares();
    const uint64_t steps = sink_mem_steps(fixture.sink);

    share_out(2, 500);
    engine_apply_all(fixture.engine, shares, SHARES);
    cr_assert_eq(sink_mem_steps(fixture.sink), steps + 1);
    cr_assert_eq(cell_of("a", BALANCE), 500);
    cr_assert_eq(cell_of("b", BALANCE), 501);
    cr_assert_eq(cell_of("c", BALANCE), 502);
    for (int32_t p = 0; p < SHARES; p++) {
        cr_assert_eq(shares[p].code, ERR_OK);
        cr_assert_eq(engine_position(fixture.engine, p).next, 2);
    }
    cr_assert_eq(counter("daybook_projector_events_applied_total"), 2 * SHARES);
}

Test(engine, partitions_without_a_checkpoint_are_begun_one_by_one) {
    const uint64_t steps = sink_mem_steps(fixture.sink);

    begin_shares();
    cr_assert_eq(sink_mem_steps(fixture.sink), steps + SHARES);
    cr_assert_eq(cell_of("c", VERSION), 1);
}

/* The one in the middle belongs to another replica by now, or will soon. */
static void expect_one_fenced(void) {
    share_out(2, 500);
    engine_apply_all(fixture.engine, shares, SHARES);
    cr_assert_eq(shares[0].code, ERR_OK);
    cr_assert_eq(shares[1].code, ERR_FENCED);
    cr_assert_eq(shares[2].code, ERR_OK);
    cr_assert_eq(cell_of("a", BALANCE), 500);
    cr_assert_eq(cell_of("b", VERSION), 1, "a zombie has written");
    cr_assert_eq(cell_of("c", BALANCE), 502);
    cr_assert_eq(counter("daybook_projector_fenced_total"), 1);
    cr_assert_eq(counter("daybook_projector_repeats_total"), 0);
}

Test(engine, a_fenced_partition_does_not_hold_up_the_others) {
    begin_shares();
    write_elsewhere(1);
    expect_one_fenced();
}

Test(engine, a_refused_record_parks_its_stream_in_its_partition_alone) {
    begin_shares();
    sink_mem_refuse(fixture.sink, "b");
    share_out(2, 500);
    engine_apply_all(fixture.engine, shares, SHARES);
    for (int32_t p = 0; p < SHARES; p++) {
        cr_assert_eq(shares[p].code, ERR_OK, "%s", shares[p].err.message);
        cr_assert_eq(engine_parked_streams(fixture.engine, p), p == 1);
        cr_assert_eq(engine_position(fixture.engine, p).next, 2);
    }
    cr_assert_eq(cell_of("a", BALANCE), 500);
    cr_assert_eq(cell_of("b", VERSION), 1);
    cr_assert_eq(cell_of("c", BALANCE), 502);
    cr_assert_eq(counter("daybook_projector_events_applied_total"), 2 * SHARES - 1);
}

/* An outage of all, before the step or behind it: told to each, and made good by beginning anew. */
static void outage(bool after) {
    begin_shares();
    share_out(2, 500);
    const uint64_t steps = sink_mem_steps(fixture.sink);
    sink_mem_fail_next(fixture.sink, ERR_UNAVAILABLE, after);
    engine_apply_all(fixture.engine, shares, SHARES);
    cr_assert_eq(sink_mem_steps(fixture.sink) - steps, after, "tried again without a wait");
    for (int32_t p = 0; p < SHARES; p++) {
        cr_assert_eq(shares[p].code, ERR_UNAVAILABLE);
        cr_assert_eq(begin_at(p), ERR_OK);
    }
    engine_apply_all(fixture.engine, shares, SHARES);
    for (int32_t p = 0; p < SHARES; p++) {
        cr_assert_eq(shares[p].code, ERR_OK, "%s", shares[p].err.message);
        cr_assert_eq(engine_parked_streams(fixture.engine, p), 0);
    }
    cr_assert_eq(cell_of("c", BALANCE), 502);
    cr_assert_eq(counter("daybook_projector_repeats_total"), 0);
    /* It may have been one partition's: so they went one by one. From now on together again. */
    const uint64_t made_good = sink_mem_steps(fixture.sink);
    cr_assert_eq(made_good - steps, after ? 1 : SHARES);
    share_out(3, 600);
    engine_apply_all(fixture.engine, shares, SHARES);
    cr_assert_eq(sink_mem_steps(fixture.sink), made_good + 1);
    cr_assert_eq(cell_of("c", BALANCE), 602);
}

Test(engine, an_outage_is_told_to_every_partition) {
    outage(false);
}

Test(engine, a_step_of_all_partitions_hidden_by_an_outage_is_not_done_twice) {
    outage(true);
}

/* --- several partitions, in a store where each has a step of its own --- */

Test(engine, beside_a_fenced_partition_the_others_are_applied_once) {
    begin_shares();
    sink_mem_apart(fixture.sink);
    write_elsewhere(1);
    const uint64_t steps = sink_mem_steps(fixture.sink);
    expect_one_fenced();
    cr_assert_eq(sink_mem_steps(fixture.sink), steps + SHARES, "tried again");
}

Test(engine, beside_a_refused_record_the_others_are_applied_once) {
    begin_shares();
    sink_mem_apart(fixture.sink);
    sink_mem_refuse(fixture.sink, "b");
    share_out(2, 500);
    engine_apply_all(fixture.engine, shares, SHARES);
    for (int32_t p = 0; p < SHARES; p++) {
        cr_assert_eq(shares[p].code, ERR_OK, "%s", shares[p].err.message);
        cr_assert_eq(engine_parked_streams(fixture.engine, p), p == 1);
    }
    cr_assert_eq(cell_of("c", BALANCE), 502);
    cr_assert_eq(counter("daybook_projector_repeats_total"), 0);
}

Test(engine, what_was_applied_before_an_outage_is_not_applied_again) {
    begin_shares();
    sink_mem_apart(fixture.sink);
    sink_mem_fail_in(fixture.sink, 1, ERR_UNAVAILABLE);
    share_out(2, 500);
    engine_apply_all(fixture.engine, shares, SHARES);
    cr_assert_eq(shares[0].code, ERR_OK);
    cr_assert_eq(shares[1].code, ERR_UNAVAILABLE);
    cr_assert_eq(shares[2].code, ERR_UNAVAILABLE);
    cr_assert_eq(engine_position(fixture.engine, 0).next, 2);
    for (int32_t p = 1; p < SHARES; p++) {
        cr_assert_eq(cell_of(p == 1 ? "b" : "c", VERSION), 1);
        cr_assert_eq(begin_at(p), ERR_OK);
    }
    const uint64_t steps = sink_mem_steps(fixture.sink);
    engine_apply_all(fixture.engine, shares, SHARES);
    cr_assert_eq(sink_mem_steps(fixture.sink), steps + SHARES - 1);
    cr_assert_eq(cell_of("a", BALANCE), 500);
    cr_assert_eq(cell_of("b", BALANCE), 501);
    cr_assert_eq(cell_of("c", BALANCE), 502);
    cr_assert_eq(counter("daybook_projector_repeats_total"), 0);
}

/* --- another replica takes a partition while a refused batch is halved --- */

/* Between the engine and its sink: at the n-th refusal the partition is taken, at once (the engine
 * reads the checkpoint next) or when that was read (the engine writes next). */
static struct {
    const struct projection_sink_ops *real;
    struct projection_sink_ops ops;
    int32_t partition;
    int refusals; /* still to come */
    bool after_reading;
} thief;

static void take_partition(void) {
    fixture.sink->ops = thief.real;
    write_elsewhere(thief.partition);
}

static void count_refusal(enum err_code code) {
    if (code == ERR_INVALID && --thief.refusals == 0 && !thief.after_reading) {
        take_partition();
    }
}

static enum err_code apply_watched(struct projection_sink *sink, const struct sink_batch *batch,
                                   struct err *err) {
    const enum err_code code = thief.real->apply(sink, batch, err);

    count_refusal(code);
    return code;
}

static enum err_code apply_all_watched(struct projection_sink *sink,
                                       const struct sink_batch *batches, size_t n,
                                       enum err_code *codes, struct err *err) {
    const enum err_code code = thief.real->apply_all(sink, batches, n, codes, err);

    count_refusal(code);
    return code;
}

/* What is read behind the checkpoint. */
static enum err_code read_watched(struct projection_sink *sink, int32_t partition,
                                  const struct sink_checkpoint *at,
                                  const struct sink_exceptions *into, struct err *err) {
    const enum err_code code = thief.real->read_exceptions(sink, partition, at, into, err);

    if (thief.refusals == 0 && partition == thief.partition) {
        take_partition();
    }
    return code;
}

static void steal(int32_t partition, int refusals, bool after_reading) {
    thief.real = fixture.sink->ops;
    thief.ops = *thief.real;
    thief.ops.apply = apply_watched;
    thief.ops.apply_all = apply_all_watched;
    thief.ops.read_exceptions = read_watched;
    thief.partition = partition;
    thief.refusals = refusals;
    thief.after_reading = after_reading;
    fixture.sink->ops = &thief.ops;
}

static void begin_anew(void) {
    tear_down();
    count = 0;
    set_up();
}

/* Where the replica that took the partition has left it, and nothing parked. */
static void expect_left_alone(int32_t partition, int64_t next) {
    struct sink_checkpoint at;

    cr_assert_eq(fixture.sink->ops, thief.real, "the partition was not taken");
    cr_assert_eq(sink_read_checkpoint(fixture.sink, partition, &at, NULL), ERR_OK);
    cr_assert_eq(at.next, next, "a zombie has moved the checkpoint");
    cr_assert_eq(counter("daybook_projector_events_parked_total"), 0);
    cr_assert_eq(counter("daybook_projector_fenced_total"), 1);
}

/* Of a2 a3 a4 b1 b2 b1 is refused: so all are, then a2 a3 are taken, a4 b1 b2 refused, a4 taken, b1
 * b2 refused, b1 refused. */
static void steal_while_halving(bool after_reading) {
    static const int64_t applied[] = {1, 3, 4, 4}; /* up to the n-th refusal, with a1 */

    for (int n = 0; n < 4; n++) {
        begin_anew();
        record("a", 1, 0);
        cr_assert_eq(apply_from(0), ERR_OK);
        sink_mem_refuse(fixture.sink, "b");
        for (int64_t version = 2; version <= 4; version++) {
            record("a", version, 10 * version);
        }
        record("b", 1, 0);
        record("b", 2, 80);
        steal(0, n + 1, after_reading);
        cr_assert_eq(apply_from(1), ERR_FENCED);
        expect_left_alone(0, applied[n] + 5);
        cr_assert_eq(cell_of("a", VERSION), applied[n]);
        cr_assert_eq(cell_of("b", VERSION), -1);
        cr_assert_eq(counter("daybook_projector_events_applied_total"), applied[n]);
    }
}

Test(engine, a_partition_that_is_taken_while_a_batch_is_halved_is_fenced) {
    steal_while_halving(false);
}

Test(engine, a_partition_that_is_taken_before_a_half_is_written_is_fenced) {
    steal_while_halving(true);
}

/* The step of all is refused, then the one partition's own. */
static void steal_one_of_several(bool after_reading) {
    for (int n = 0; n < 4; n++) {
        begin_anew();
        begin_shares();
        if (n >= 2) {
            sink_mem_apart(fixture.sink);
        }
        sink_mem_refuse(fixture.sink, "b");
        steal(1, 1 + n % 2, after_reading);
        expect_one_fenced();
        expect_left_alone(1, 6);
    }
}

Test(engine, a_partition_that_is_taken_when_its_record_was_refused_is_fenced_alone) {
    steal_one_of_several(false);
}

Test(engine, a_partition_that_is_taken_before_it_is_tried_alone_is_fenced_alone) {
    steal_one_of_several(true);
}
