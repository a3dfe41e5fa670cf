/* The engine on sinks in memory: order, repetitions, gaps, poison, fences, lost data. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/sink_mem.h"
#include "projector/engine.h"
#include "projector/registry.h"

enum { RECORDS = 32, BALANCE = 5, VERSION = 1 };

static struct {
    struct projection_sink *redis, *pg;
    struct engine *engine;
    struct stop *stop;
    struct metrics *metrics;
    struct health *health;
} fixture;

static struct consumed_record records[RECORDS];
static char payloads[RECORDS][128];
static size_t count;

static void set_up(void) {
    struct err err;
    int64_t offset = -1;

    fixture.redis = sink_mem_new(STORE_REDIS);
    fixture.pg = sink_mem_new(STORE_PG);
    fixture.metrics = metrics_new();
    fixture.health = health_new("projector");
    cr_assert_eq(stop_new_quiet(&fixture.stop, &err), ERR_OK);
    fixture.engine = engine_new(&(struct engine_options){
        .projection = registry_find_projection(STR("accounts")),
        .sinks = {fixture.redis, fixture.pg},
        .sink_count = 2,
        .stop = fixture.stop,
        .metrics = fixture.metrics,
        .health = health_component(fixture.health, "streams"),
        .batch_max = RECORDS,
    });
    cr_assert_eq(engine_begin_partition(fixture.engine, 0, &offset, &err), ERR_OK);
    cr_assert_eq(offset, 0);
}

static void tear_down(void) {
    engine_free(fixture.engine);
    fixture.redis->ops->free(fixture.redis);
    fixture.pg->ops->free(fixture.pg);
    stop_free(fixture.stop);
    metrics_free(fixture.metrics);
    health_free(fixture.health);
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
    return engine_apply(fixture.engine, 0, records + first, count - first, NULL);
}

static int64_t cell_of(struct projection_sink *sink, const char *stream, int column) {
    const struct projection *projection = registry_find_projection(STR("accounts"));
    struct row key = {.table = projection->tables[0]};

    row_text(&key, 0, str_from(stream));
    const struct row *row = sink_mem_find(sink, &key);
    return row != NULL ? row->cells[column].number : -1;
}

static uint64_t counter(const char *name) {
    return metric_counter_value(
        metrics_counter(fixture.metrics, name, "projection=\"accounts\"", ""));
}

static bool degraded(void) {
    struct buf text;

    buf_init(&text, 4096);
    health_render(fixture.health, &text);
    const bool is = strstr(text.ptr, "\"status\":\"degraded\"") != NULL;
    buf_release(&text);
    return is;
}

Test(engine, applies_in_order_to_all_sinks) {
    record("a", 1, 0);
    record("b", 1, 0);
    record("a", 2, 500);
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(cell_of(fixture.pg, "a", BALANCE), 500);
    cr_assert_eq(cell_of(fixture.redis, "a", BALANCE), 500);
    cr_assert_eq(cell_of(fixture.pg, "b", VERSION), 1);
}

Test(engine, repetitions_are_ignored) {
    record("a", 1, 0);
    record("a", 2, 500);
    cr_assert_eq(apply_from(0), ERR_OK);
    record("a", 2, 999);
    record("a", 3, 600);
    cr_assert_eq(apply_from(2), ERR_OK);
    cr_assert_eq(cell_of(fixture.pg, "a", BALANCE), 600);
    cr_assert_eq(counter("daybook_projector_repeats_total"), 2);
    cr_assert_not(degraded());
}

Test(engine, a_gap_stops_its_stream_and_no_other) {
    record("a", 1, 0);
    record("a", 3, 700);
    record("b", 1, 0);
    record("a", 4, 800);
    record("b", 2, 100);
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(cell_of(fixture.pg, "a", VERSION), 1);
    cr_assert_eq(cell_of(fixture.pg, "b", BALANCE), 100);
    cr_assert_eq(counter("daybook_projector_gaps_total"), 4, "two events, two sinks");
    cr_assert(degraded());
    record("a", 5, 900); /* and it stays stopped */
    cr_assert_eq(apply_from(5), ERR_OK);
    cr_assert_eq(cell_of(fixture.redis, "a", VERSION), 1);
}

Test(engine, poison_stops_its_stream_and_no_other) {
    record("a", 1, 0);
    record("a", 2, 500)->event.payload = STR("{\"amount_minor\":");
    record("a", 3, 600);
    record("b", 1, 0)->defect = "no ce_id";
    record("c", 1, 0);
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(cell_of(fixture.pg, "a", VERSION), 1);
    cr_assert_eq(cell_of(fixture.pg, "b", VERSION), -1);
    cr_assert_eq(cell_of(fixture.pg, "c", VERSION), 1);
    cr_assert_eq(counter("daybook_projector_poison_total"), 4);
    cr_assert(degraded());
}

Test(engine, an_outage_is_retried_until_it_passes) {
    record("a", 1, 0);
    sink_mem_fail_next(fixture.pg, ERR_UNAVAILABLE, false);
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(cell_of(fixture.pg, "a", VERSION), 1);
}

Test(engine, a_success_hidden_by_an_outage_is_not_done_twice) {
    record("a", 1, 0);
    sink_mem_fail_next(fixture.pg, ERR_UNAVAILABLE, true);
    cr_assert_eq(apply_from(0), ERR_OK);
    record("a", 2, 5);
    cr_assert_eq(apply_from(1), ERR_OK);
    cr_assert_eq(cell_of(fixture.pg, "a", BALANCE), 5);
}

Test(engine, a_zombie_is_fenced_and_writes_nothing) {
    const struct sink_batch others = {.partition = 0, .expected = SINK_NO_CHECKPOINT, .next = 9};

    cr_assert_eq(fixture.pg->ops->apply(fixture.pg, &others, NULL), ERR_OK);
    record("a", 1, 0);
    cr_assert_eq(apply_from(0), ERR_FENCED);
    cr_assert_eq(cell_of(fixture.pg, "a", VERSION), -1);
}

Test(engine, a_sink_that_lost_its_data_is_filled_again) {
    int64_t offset = -1;

    record("a", 1, 0);
    record("a", 2, 500);
    cr_assert_eq(apply_from(0), ERR_OK);
    sink_mem_lose(fixture.redis);
    record("a", 3, 600);
    cr_assert_eq(apply_from(2), ERR_FENCED, "the loss is noticed");
    cr_assert_eq(engine_begin_partition(fixture.engine, 0, &offset, NULL), ERR_OK);
    cr_assert_eq(offset, 0);
    cr_assert_eq(apply_from(0), ERR_OK);
    cr_assert_eq(cell_of(fixture.redis, "a", BALANCE), 600);
    cr_assert_eq(cell_of(fixture.pg, "a", BALANCE), 600);
}

Test(engine, each_sink_goes_on_from_its_own_checkpoint) {
    int64_t offset = -1;

    record("a", 1, 0);
    cr_assert_eq(apply_from(0), ERR_OK);
    record("a", 2, 500);
    sink_mem_fail_next(fixture.pg, ERR_FENCED, false); /* the crash between two sinks */
    cr_assert_eq(apply_from(1), ERR_FENCED);
    cr_assert_eq(cell_of(fixture.redis, "a", VERSION), 2);
    cr_assert_eq(engine_begin_partition(fixture.engine, 0, &offset, NULL), ERR_OK);
    cr_assert_eq(offset, 1);
    cr_assert_eq(apply_from(1), ERR_OK);
    cr_assert_eq(cell_of(fixture.pg, "a", VERSION), 2);
}
