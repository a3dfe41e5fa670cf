/*
 * The builder's contract on PostgreSQL and Redis: a rebuild that was taken for dead and comes to
 * life while another builds. Under a projection's name that no projector uses, but over the
 * statements' tables: nothing is switched here.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <time.h>

#include "../support/environment.h"
#include "../support/shell.h"
#include "common/adapters/builder_pg.h"
#include "common/adapters/builder_redis.h"
#include "common/adapters/sink_pg.h"
#include "common/adapters/sink_redis.h"

extern const struct projection statements_projection;

enum { PARTITIONS = 6, PARTITION = 3, TRIES = 20 };

static struct projection projection;
static struct model_table table;
static const struct model_table *const tables[] = {&table};
static char projection_name[64];
static char prefix[80]; /* of its keys in Redis */

struct build {
    struct model_builder *builder;
    struct projection_sink *sink;
    struct sink_checkpoint claim;
};

static struct model_builder *make_builder(unsigned store) {
    struct model_builder *builder = NULL;
    struct err err = {0};

    if (store == STORE_PG) {
        return builder_pg_new(&(struct builder_pg_options){
            .url = stack_environment("DAYBOOK_TEST_PROJECTOR_URL"),
            .projection = &projection,
            .connect_timeout_ms = 5000,
            .statement_timeout_ms = 5000,
        });
    }
    cr_assert_eq(builder_redis_new(
                     &(struct builder_redis_options){
                         .url = stack_environment("DAYBOOK_TEST_REDIS_URL"),
                         .projection = &projection,
                         .partitions = PARTITIONS,
                         .timeout_ms = 5000,
                     },
                     &builder, &err),
                 ERR_OK, "%s", err.message);
    return builder;
}

static struct projection_sink *make_sink(unsigned store) {
    struct projection_sink *sink = NULL;
    struct err err = {0};

    if (store == STORE_PG) {
        return sink_pg_new(&(struct sink_pg_options){
            .url = stack_environment("DAYBOOK_TEST_PROJECTOR_URL"),
            .projection = &projection,
            .stage = SINK_BUILD,
            .connect_timeout_ms = 5000,
            .statement_timeout_ms = 5000,
        });
    }
    cr_assert_eq(sink_redis_new(
                     &(struct sink_redis_options){
                         .url = stack_environment("DAYBOOK_TEST_REDIS_URL"),
                         .projection = &projection,
                         .stage = SINK_BUILD,
                         .partitions = PARTITIONS,
                         .timeout_ms = 5000,
                     },
                     &sink, &err),
                 ERR_OK, "%s", err.message);
    return sink;
}

static void begin(struct build *build, unsigned store) {
    struct err err = {0};

    build->builder = make_builder(store);
    build->sink = make_sink(store);
    cr_assert_eq(build->builder->ops->begin(build->builder, PARTITIONS, &build->claim, &err),
                 ERR_OK, "%s", err.message);
}

static void end(struct build *build) {
    build->sink->ops->free(build->sink);
    build->builder->ops->free(build->builder);
}

/* The step from `from` to `to`, without rows. */
static enum err_code step(const struct build *build, int64_t from, int64_t to) {
    struct sink_batch batch = {
        .partition = PARTITION, .expected = build->claim, .next = build->claim};
    struct err err = {0};

    batch.expected.next = from;
    batch.next.next = to;
    return build->sink->ops->apply(build->sink, &batch, &err);
}

static enum err_code reach_nothing(void *arg, const struct sink_checkpoint *live, struct err *err) {
    (void)arg;
    (void)live;
    (void)err;
    return ERR_OK;
}

static enum err_code load_one(const struct build *build) {
    const struct row row = {.table = projection.tables[0]};
    struct model_load *load = NULL;
    struct err err = {0};

    cr_assert_eq(build->builder->ops->load(build->builder, projection.tables[0], &load, &err),
                 ERR_OK);
    const enum err_code code = load->ops->rows(load, PARTITION, &row, 1, &err);
    load->ops->free(load);
    return code;
}

/* What seal says once the connection is made anew. */
static enum err_code seal(const struct build *build) {
    struct err err = {0};
    enum err_code code = ERR_UNAVAILABLE;

    for (int i = 0; i < TRIES && (code == ERR_UNAVAILABLE || code == ERR_OUTCOME_UNKNOWN); i++) {
        code = build->builder->ops->seal(build->builder, &err);
    }
    return code;
}

/* The statements, under a name and with keys that no real projector uses: cleaning would take the
 * real ones for leftovers. */
static void use_fresh_name(void) {
    cr_assert_eq(statements_projection.table_count, ARRAY_LEN(tables));
    projection = statements_projection;
    table = *statements_projection.tables[0];
    (void)snprintf(projection_name, sizeof(projection_name), "%s", fresh_id("builder"));
    (void)snprintf(prefix, sizeof(prefix), "%s-line", projection_name);
    projection.name = projection_name;
    projection.tables = tables;
    projection.heads = &table;
    table.redis_prefix = prefix;
}

static void check(unsigned store) {
    struct build old;
    struct build young;
    struct err err = {0};

    use_fresh_name();
    begin(&old, store);
    cr_assert_eq(step(&old, 0, SINK_NO_CHECKPOINT), ERR_OK, "rows go in beside the claim");
    if (store == STORE_PG) {
        end_rebuilds_sessions();
    }
    begin(&young, store);
    cr_assert_eq(step(&young, 0, 10), ERR_OK);

    cr_assert_eq(step(&old, 0, SINK_NO_CHECKPOINT), ERR_FENCED);
    cr_assert_eq(step(&old, 0, 10), ERR_FENCED);
    cr_assert_eq(step(&old, 10, 20), ERR_FENCED);
    if (store == STORE_PG) { /* Redis has keys of each build's own, and nothing to seal */
        cr_assert_eq(seal(&old), ERR_FENCED);
        cr_assert_eq(load_one(&old), ERR_FENCED);
    }
    cr_assert_eq(old.builder->ops->swap(old.builder, reach_nothing, NULL, &err), ERR_FENCED);
    cr_assert_eq(old.builder->ops->clean(old.builder, &err), ERR_OK, "%s", err.message);

    cr_assert_eq(step(&young, 10, 20), ERR_OK, "the old one has harmed the young one");
    cr_assert_eq(seal(&young), ERR_OK, "the old one has harmed the young one");
    cr_assert_eq(young.builder->ops->clean(young.builder, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(step(&young, 20, 30), ERR_FENCED, "nothing is left of its claim");
    end(&old);
    end(&young);
}

TestSuite(builder_contract, .timeout = 60);

Test(builder_contract, who_was_taken_for_dead_is_fenced_postgresql) {
    check(STORE_PG);
}

Test(builder_contract, who_was_taken_for_dead_is_fenced_redis) {
    check(STORE_REDIS);
}

/* Also for who rebuilds another store of the projection. */
Test(builder_contract, one_rebuilds_a_projection_at_a_time) {
    struct err err = {0};

    use_fresh_name();
    struct model_builder *first = make_builder(STORE_PG);
    struct model_builder *second = make_builder(STORE_PG);
    cr_assert_eq(first->ops->sole(first, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(second->ops->sole(second, &err), ERR_CONFLICT);
    first->ops->free(first);
    /* The server learns a little later that the connection is gone, and the lock with it. */
    enum err_code code = ERR_CONFLICT;
    for (int i = 0; code == ERR_CONFLICT && i < 500; i++) {
        code = second->ops->sole(second, &err);
        (void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    cr_assert_eq(code, ERR_OK, "%s", err.message);
    second->ops->free(second);
}

/* The old one's clean sees the keys of both. */
Test(builder_contract, cleaning_leaves_the_keys_of_a_later_build) {
    struct build old;
    struct build young;
    struct err err = {0};

    use_fresh_name();
    begin(&old, STORE_REDIS);
    begin(&young, STORE_REDIS);
    cr_assert_gt(young.claim.model, old.claim.model);
    (void)redis_command("RPUSH '{p0}:%s#%lld:young' x", prefix, (long long)young.claim.model);
    (void)redis_command("RPUSH '{p0}:%s#%lld:old' x", prefix, (long long)old.claim.model);
    cr_assert_eq(old.builder->ops->clean(old.builder, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(
        redis_command("EXISTS '{p0}:%s#%lld:young'", prefix, (long long)young.claim.model)[0], '1');
    cr_assert_eq(redis_command("EXISTS '{p0}:%s#%lld:old'", prefix, (long long)old.claim.model)[0],
                 '0');
    cr_assert_eq(young.builder->ops->clean(young.builder, &err), ERR_OK, "%s", err.message);
    end(&old);
    end(&young);
}

/* Names that begin like ours are others', and so are the keys of the live model. */
Test(builder_contract, cleaning_takes_the_leftovers_of_all_its_names_and_nothing_else) {
    struct build build;
    struct err err = {0};

    use_fresh_name();
    begin(&build, STORE_REDIS);
    const long long model = build.claim.model;
    (void)redis_command("RPUSH '{p0}:%s#%lld:clean' x", prefix, model);
    (void)redis_command("SET '{p0}:parked:%s#%lld' x", projection_name, model);
    (void)redis_command("SET '{p0}:parked:%sx#%lld' x", projection_name, model);
    (void)redis_command("SET '{p0}:%sx#%lld:clean' x", prefix, model);
    (void)redis_command("SET '{p0}:parked:%s' x", projection_name);
    cr_assert_eq(build.builder->ops->clean(build.builder, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(redis_command("EXISTS '{p0}:%s#%lld:clean'", prefix, model)[0], '0');
    cr_assert_eq(redis_command("EXISTS '{p0}:parked:%s#%lld'", projection_name, model)[0], '0');
    cr_assert_eq(redis_command("EXISTS '{p0}:parked:%sx#%lld'", projection_name, model)[0], '1');
    cr_assert_eq(redis_command("EXISTS '{p0}:%sx#%lld:clean'", prefix, model)[0], '1');
    cr_assert_eq(redis_command("EXISTS '{p0}:parked:%s'", projection_name)[0], '1');
    end(&build);
}
