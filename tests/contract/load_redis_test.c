/* Lists loaded in bulk: the newest of each stream stand there, the newest first, however often what
 * was kept had to be sent in between. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "../support/environment.h"
#include "common/adapters/load_redis.h"
#include "common/adapters/redis_model.h"

enum { ID, VERSION, STREAMS = 40, VERSIONS = 250, LONGEST = 100, PARTITION = 2, MODEL = 987654 };

static const struct model_column columns[] = {
    [ID] = {"id", COLUMN_TEXT, MERGE_SET},
    [VERSION] = {"version", COLUMN_I64, MERGE_SET},
};
static const struct model_table table = {
    .name = "loaded",
    .columns = columns,
    .column_count = ARRAY_LEN(columns),
    .key_count = 2,
    .version_column = VERSION,
    .stores = STORE_REDIS,
    .redis_prefix = "loaded",
    .redis_list_max = LONGEST,
    .append_only = true,
};

static struct redis_link_options options;

static void load_versions(struct model_load *load, int32_t partition, int64_t first, int64_t last) {
    struct err err = {0};

    for (int64_t version = first; version <= last; version++) {
        for (int stream = 0; stream < STREAMS; stream++) {
            struct row row = {.table = &table};
            char id[16];
            (void)snprintf(id, sizeof(id), "s%d", stream);
            row_text(&row, ID, str_from(id));
            row_i64(&row, VERSION, version);
            cr_assert_eq(load->ops->rows(load, partition, &row, 1, &err), ERR_OK, "%s",
                         err.message);
        }
    }
}

/* Another partition comes in between, whose lists must not get among ours. */
static void load_all(size_t kept_bytes) {
    struct err err = {0};
    struct model_load *load = load_redis_new(&options, &table, MODEL, kept_bytes);

    load_versions(load, PARTITION, 1, VERSIONS / 2);
    load_versions(load, PARTITION + 1, 1, VERSIONS);
    load_versions(load, PARTITION, VERSIONS / 2 + 1, VERSIONS);
    cr_assert_eq(load->ops->end(load, &err), ERR_OK, "%s", err.message);
    load->ops->free(load);
}

static redisReply *ask(struct redis_link *link, const char *verb, const char *last,
                       int32_t partition, int stream) {
    redisReply *reply = NULL;
    struct err err = {0};

    redis_link_begin(link);
    redis_link_put(link, str_from(verb));
    redis_link_printf(link, "{p%d}:loaded#%d:s%d", (int)partition, MODEL, stream);
    if (last != NULL) {
        redis_link_put(link, STR("0"));
        redis_link_put(link, str_from(last));
    }
    cr_assert_eq(redis_link_call(link, &reply, &err), ERR_OK, "%s", err.message);
    return reply;
}

static void forget(struct redis_link *link, int32_t partition) {
    for (int stream = 0; stream < STREAMS; stream++) {
        freeReplyObject(ask(link, "DEL", NULL, partition, stream));
    }
}

static void expect_lists(struct redis_link *link, int32_t partition) {
    for (int stream = 0; stream < STREAMS; stream++) {
        redisReply *list = ask(link, "LRANGE", "-1", partition, stream);
        cr_assert_eq(list->elements, LONGEST);
        for (int i = 0; i < LONGEST; i++) {
            int64_t version = 0;
            cr_assert(str_to_i64(redis_reply_str(list->element[i]), &version));
            cr_assert_eq(version, VERSIONS - i);
        }
        freeReplyObject(list);
    }
}

static void expect_newest(size_t kept_bytes) {
    struct redis_link link;
    struct err err = {0};

    cr_assert_eq(redis_url_parse(str_from(stack_environment("DAYBOOK_TEST_REDIS_PROJECTOR_URL")),
                                 &options.url, &err),
                 ERR_OK, "%s", err.message);
    options.partitions = 6;
    options.timeout_ms = 5000;
    options.name = "loaded";
    redis_link_init(&link, &options);
    cr_assert_eq(redis_link_ensure(&link, &err), ERR_OK, "%s", err.message);
    for (int32_t p = PARTITION; p <= PARTITION + 1; p++) {
        forget(&link, p);
    }
    load_all(kept_bytes);
    for (int32_t p = PARTITION; p <= PARTITION + 1; p++) {
        expect_lists(&link, p);
        forget(&link, p);
    }
    redis_link_release(&link);
}

Test(load_redis, the_newest_stand_in_their_lists, .timeout = 30) {
    expect_newest(0);
}

Test(load_redis, lists_that_are_sent_in_pieces_are_cut, .timeout = 30) {
    expect_newest(2000);
}
