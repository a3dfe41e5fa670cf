#include "projector/prepare.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/base/mem.h"
#include "projector/rebuild.h"

struct progress {
    const struct prepare_options *options;
    struct metric_gauge *done;
    struct metric_gauge *total;
};

static void show_progress(void *arg, int64_t done, int64_t total, double seconds) {
    const struct progress *progress = arg;
    const double rate = seconds > 0 ? (double)done / seconds : 0;

    metric_set(progress->done, done);
    metric_set(progress->total, total);
    health_fail(progress->options->health,
                "rebuilding for version %d: %" PRId64 " of %" PRId64 " events, %.0f/s",
                progress->options->projection->version, done, total, rate);
}

/* *older: the store's model has to be rebuilt. */
static enum err_code look(const struct prepare_options *options, unsigned store, bool *older,
                          struct err *err) {
    const struct world *world = options->world;
    const int32_t count = (int32_t)world->config->topic_partitions;
    struct sink_checkpoint at[TOPIC_PARTITIONS_MAX];
    int32_t partitions[TOPIC_PARTITIONS_MAX];
    struct projection_sink *sink = NULL;
    enum err_code code =
        world->sink(world, options->projection, store, SINK_LIVE, NULL, &sink, err);

    *older = false;
    if (code != ERR_OK) {
        return code;
    }
    for (int32_t p = 0; p < count; p++) {
        partitions[p] = p;
    }
    code = sink->ops->read_checkpoints(sink, partitions, (size_t)count, at, err);
    for (int32_t p = 0; code == ERR_OK && p < count; p++) {
        if (checkpoint_exists(&at[p]) && at[p].version > options->projection->version) {
            code = err_set(err, ERR_CLOSED,
                           "%s: the model is of version %" PRId64 ", this program's is %d",
                           sink->ops->name, at[p].version, options->projection->version);
        }
        *older =
            *older || (checkpoint_exists(&at[p]) && at[p].version < options->projection->version);
    }
    sink->ops->free(sink);
    return code;
}

static enum err_code rebuild_older(const struct prepare_options *options, unsigned stores,
                                   struct err *err) {
    struct progress progress = {.options = options};
    struct rebuild_options work = {
        .world = options->world, .progress = show_progress, .progress_arg = &progress};
    struct rebuild_result result = {0};
    char labels[96];

    (void)snprintf(labels, sizeof(labels), "projection=\"%s\"", options->projection->name);
    progress.done = metrics_gauge(options->metrics, "daybook_projector_rebuild_events", labels,
                                  "Events that a running rebuild has read.");
    progress.total = metrics_gauge(options->metrics, "daybook_projector_rebuild_events_total",
                                   labels, "Events that a running rebuild has to read.");
    log_info(options->world->log, log_event("rebuild.begun"),
             log_cstr("projection", options->projection->name),
             log_i64("version", options->projection->version));
    rebuild_add(&work, options->projection, stores);
    const enum err_code code = rebuild(&work, &result, err);
    metric_set(progress.done, 0);
    metric_set(progress.total, 0);
    if (code == ERR_OK) {
        log_info(options->world->log, log_event("rebuild.ended"),
                 log_cstr("projection", options->projection->name),
                 log_i64("events", result.events),
                 log_i64("took_ms", (int64_t)(result.seconds * 1000)));
    }
    return code;
}

enum err_code prepare_projection(const struct prepare_options *options, struct err *err) {
    static const unsigned all[] = {STORE_PG, STORE_REDIS};
    const unsigned used = projection_stores(options->projection);
    unsigned older = 0;

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        bool is_older = false;
        struct err why = {0};
        if (!(used & all[i])) {
            continue;
        }
        const enum err_code code = look(options, all[i], &is_older, &why);
        if (code == ERR_CLOSED) {
            return err_set(err, code, "%s", why.message);
        }
        /* A store that doesn't answer holds up no other: its lane looks at the version too. */
        older |= is_older ? all[i] : 0;
    }
    return older != 0 ? rebuild_older(options, older, err) : ERR_OK;
}
