/* daybook-projector status: from the stores and the topic, whoever serves them. */
#include <inttypes.h>
#include <stdio.h>

#include "common/base/mem.h"
#include "projector/commands.h"
#include "projector/registry.h"

static const unsigned stores[] = {STORE_PG, STORE_REDIS};

struct table {
    const struct world *world;
    int64_t ends[TOPIC_PARTITIONS_MAX];
    int64_t parked;
    bool complete;
};

static enum err_code read_ends(struct table *table, struct err *err) {
    struct event_reader *reader = table->world->reader(table->world, READ_IN_TURN);
    enum err_code code = reader->ops->open(reader, err);
    int64_t first = 0;

    for (int32_t p = 0; code == ERR_OK && p < table->world->config->topic_partitions; p++) {
        code = reader->ops->bounds(reader, p, &first, &table->ends[p], err);
    }
    reader->ops->free(reader);
    return code;
}

static void count_parked(void *arg, const struct parked_event *first, int64_t count) {
    (void)first;
    (void)count;
    ((struct table *)arg)->parked++;
}

static void pass_void(void *arg, const struct void_range *range) {
    (void)arg;
    (void)range;
}

static enum err_code print_partition(struct table *table, const struct projection *projection,
                                     struct projection_sink *sink, int32_t p, struct err *err) {
    const struct sink_exceptions into = {count_parked, pass_void, table};
    struct sink_checkpoint at;
    enum err_code code = sink_read_checkpoint(sink, p, &at, err);

    table->parked = 0;
    if (code == ERR_OK && checkpoint_exists(&at)) {
        code = sink->ops->read_exceptions(sink, p, &at, &into, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    const int64_t next = checkpoint_exists(&at) ? at.next : 0;
    (void)printf("%-12s %-10s %9" PRId32 " %7" PRId64 " %11" PRId64 " %11" PRId64 " %11" PRId64
                 " %7" PRId64 "%s\n",
                 projection->name, sink->ops->name, p, checkpoint_exists(&at) ? at.version : 0,
                 table->ends[p], next, table->ends[p] - next, table->parked,
                 checkpoint_exists(&at) && at.version != projection->version ? "  other version"
                                                                             : "");
    return ERR_OK;
}

static void print_store(struct table *table, const struct projection *projection, unsigned store) {
    struct projection_sink *sink = NULL;
    struct err err = {0};
    enum err_code code =
        table->world->sink(table->world, projection, store, SINK_LIVE, NULL, &sink, &err);

    for (int32_t p = 0; code == ERR_OK && p < table->world->config->topic_partitions; p++) {
        code = print_partition(table, projection, sink, p, &err);
    }
    if (code != ERR_OK) {
        (void)printf("%-12s %-10s %s\n", projection->name,
                     store == STORE_PG ? "postgresql" : "redis", err.message);
        table->complete = false;
    }
    if (sink != NULL) {
        sink->ops->free(sink);
    }
}

int command_status(const struct world *world, const char *const *words, size_t count) {
    struct table table = {.world = world, .complete = true};
    struct err err = {0};

    (void)words;
    if (count != 1) {
        return command_misused("status takes no words");
    }
    if (read_ends(&table, &err) != ERR_OK) {
        return command_failed("status", &err);
    }
    (void)printf("%-12s %-10s %9s %7s %11s %11s %11s %7s\n", "projection", "store", "partition",
                 "version", "log", "applied", "lag", "parked");
    for (size_t i = 0; i < registry_projection_count; i++) {
        for (size_t s = 0; s < ARRAY_LEN(stores); s++) {
            if (projection_stores(registry_projections[i]) & stores[s]) {
                print_store(&table, registry_projections[i], stores[s]);
            }
        }
    }
    return table.complete ? 0 : 1;
}
