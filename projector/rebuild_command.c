/* daybook-projector rebuild NAME|all */
#include <inttypes.h>
#include <stdio.h>

#include "projector/commands.h"
#include "projector/rebuild.h"
#include "projector/serve.h"

static void show_progress(void *arg, int64_t done, int64_t total, double seconds) {
    const double rate = (double)done / (seconds > 0.001 ? seconds : 0.001);

    (void)arg;
    if (done == 0) {
        return; /* nothing can be said of the time yet */
    }
    (void)fprintf(stderr, "rebuild: %" PRId64 " of %" PRId64 " events, %.0f/s, %.0f s left\n", done,
                  total, rate, (double)(total - done) / rate);
}

int command_rebuild(const struct world *world, const char *const *words, size_t count) {
    const struct projection *chosen[REBUILD_PROJECTIONS_MAX];
    struct rebuild_options options = {.world = world, .progress = show_progress};
    struct rebuild_result result = {0};
    struct err err = {0};
    size_t chosen_count = 0;

    if (count != 2) {
        return command_misused("rebuild takes the name of a projection, or all");
    }
    if (choose_projections(str_from(words[1]), chosen, REBUILD_PROJECTIONS_MAX, &chosen_count,
                           &err) != ERR_OK) {
        return command_misused(err.message);
    }
    for (size_t i = 0; i < chosen_count; i++) {
        rebuild_add(&options, chosen[i], STORE_PG | STORE_REDIS);
    }
    if (rebuild(&options, &result, &err) != ERR_OK) {
        return command_failed("rebuild", &err);
    }
    (void)printf("rebuilt %s: %" PRId64 " events in %.2f s (%.2f s of them in bulk, %.0f/s)\n",
                 words[1], result.events, result.seconds, result.bulk_seconds,
                 result.bulk_seconds > 0 ? (double)result.events / result.bulk_seconds : 0);
    return 0;
}
