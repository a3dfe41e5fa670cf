/* A store that lost its data, filled from another one's model. */
#include "projector/refill.h"

#include <criterion/criterion.h>

#include "common/adapters/sink_mem.h"
#include "projector/registry.h"

enum { PARTITIONS = 3, NEXT = 5000 };

/* The source: no rows, one void in each partition. */
static enum err_code open_source(struct model_scan *scan, struct sink_checkpoint *at, size_t count,
                                 struct err *err) {
    (void)scan;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        at[i] = (struct sink_checkpoint){
            .next = NEXT, .version = registry_find_projection(STR("accounts"))->version};
    }
    return ERR_OK;
}

static enum err_code no_rows(struct model_scan *scan, const struct model_table *table, int newest,
                             scan_row_fn *fn, void *arg, struct err *err) {
    (void)scan;
    (void)table;
    (void)newest;
    (void)fn;
    (void)arg;
    (void)err;
    return ERR_OK;
}

static enum err_code no_parked(struct model_scan *scan, int32_t partition, sink_parked_fn *fn,
                               void *arg, struct err *err) {
    (void)scan;
    (void)partition;
    (void)fn;
    (void)arg;
    (void)err;
    return ERR_OK;
}

static enum err_code one_void(struct model_scan *scan, int32_t partition,
                              void (*fn)(void *arg, const struct void_range *range), void *arg,
                              struct err *err) {
    (void)scan;
    (void)partition;
    (void)err;
    fn(arg, &(struct void_range){STR("poisoned"), 2, 2});
    return ERR_OK;
}

static void close_source(struct model_scan *scan) {
    (void)scan;
}

static void count_parked(void *arg, const struct parked_event *first, int64_t count) {
    (void)arg;
    (void)first;
    (void)count;
}

static void count_void(void *arg, const struct void_range *range) {
    (void)range;
    ++*(int *)arg;
}

/* Another replica fills one partition while we are at it: the others are filled all the same, with
 * what was declared void. */
Test(refill, a_partition_that_another_fills_holds_up_no_other) {
    static const struct model_scan_ops ops = {.name = "source",
                                              .open = open_source,
                                              .rows = no_rows,
                                              .parked = no_parked,
                                              .voids = one_void,
                                              .close = close_source};
    const struct projection *projection = registry_find_projection(STR("accounts"));
    struct model_scan source = {&ops, STORE_PG};
    struct projection_sink *sink = sink_mem_new(projection, STORE_REDIS);
    const bool lost[PARTITIONS] = {true, true, true};
    const struct sink_batch first = {
        .partition = 1,
        .expected = {.next = SINK_NO_CHECKPOINT},
        .next = {.next = 7, .version = projection->version},
    };
    size_t filled = 0;
    struct err err = {0};

    cr_assert_eq(sink->ops->apply(sink, &first, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(refill(&(struct refill_options){.projection = projection,
                                                 .from = &source,
                                                 .into = sink,
                                                 .partitions = PARTITIONS},
                        lost, &filled, &err),
                 ERR_OK, "%s", err.message);
    cr_assert_eq(filled, 2);
    for (int32_t p = 0; p < PARTITIONS; p++) {
        struct sink_checkpoint at;
        int voids = 0;
        const struct sink_exceptions into = {count_parked, count_void, &voids};
        cr_assert_eq(sink_read_checkpoint(sink, p, &at, &err), ERR_OK);
        cr_assert_eq(at.next, p == 1 ? 7 : NEXT, "partition %d", p);
        cr_assert_eq(sink->ops->read_exceptions(sink, p, &at, &into, &err), ERR_OK);
        cr_assert_eq(voids, p == 1 ? 0 : 1, "partition %d", p);
    }
    sink->ops->free(sink);
}
