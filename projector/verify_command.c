/* daybook-projector verify [NAME] */
#include <inttypes.h>
#include <stdio.h>

#include "projector/commands.h"
#include "projector/registry.h"
#include "projector/verify.h"

static const unsigned stores[] = {STORE_PG, STORE_REDIS};

/* A switch to a rebuilt model, or a store that is being filled again, is waited out so often. */
enum { TRIES = 3 };

static enum err_code verify_once(const struct world *world, const struct projection *projection,
                                 unsigned store, struct verify_result *result, struct err *err) {
    struct model_scan *scan = NULL;
    struct event_reader *reader = NULL;
    enum err_code code = world->scan(world, projection, store, &scan, err);

    if (code == ERR_OK) {
        reader = world->reader(world, READ_TOGETHER);
        code = reader->ops->open(reader, err);
    }
    if (code == ERR_OK) {
        const struct verify_options options = {
            .projection = projection,
            .scan = scan,
            .reader = reader,
            .partitions = (int32_t)world->config->topic_partitions,
            .out = stdout,
            .progress = stderr,
        };
        code = verify_store(&options, result, err);
    }
    if (reader != NULL) {
        reader->ops->free(reader);
    }
    if (scan != NULL) {
        scan->ops->free(scan);
    }
    return code;
}

/* 0, 1: differences or failed. */
static int verify_one(const struct world *world, const struct projection *projection,
                      unsigned store) {
    struct verify_result result = {0};
    struct err err = {0};
    enum err_code code = ERR_CONFLICT;

    for (int i = 0; code == ERR_CONFLICT && i < TRIES; i++) {
        code = verify_once(world, projection, store, &result, &err);
    }
    (void)printf("%-12s %-10s ", projection->name, store == STORE_PG ? "postgresql" : "redis");
    if (code != ERR_OK) {
        (void)printf("not verified: %s\n", err.message);
        return 1;
    }
    (void)printf("%" PRId64 " rows against %" PRId64 " events, %" PRId64 " streams parked: %" PRId64
                 " differences\n",
                 result.rows, result.events, result.parked, result.differences);
    (void)fflush(stdout);
    return result.differences == 0 ? 0 : 1;
}

int command_verify(const struct world *world, const char *const *words, size_t count) {
    const struct projection *only =
        count == 2 ? registry_find_projection(str_from(words[1])) : NULL;
    int exit_code = 0;

    if (count > 2 || (count == 2 && only == NULL)) {
        return command_misused("verify takes the name of one projection, or none");
    }
    for (size_t i = 0; i < registry_projection_count; i++) {
        const struct projection *projection = registry_projections[i];
        for (size_t s = 0; s < ARRAY_LEN(stores); s++) {
            if ((only == NULL || only == projection) &&
                (projection_stores(projection) & stores[s])) {
                exit_code |= verify_one(world, projection, stores[s]);
            }
        }
    }
    return exit_code;
}
