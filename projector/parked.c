/* daybook-projector parked list | show | retry | discard */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "projector/commands.h"
#include "projector/registry.h"
#include "projector/retry.h"

static const unsigned stores[] = {STORE_PG, STORE_REDIS};

struct view {
    const struct world *world;
    const struct projection *projection;
    struct projection_sink *sink;
    int32_t partition;
    struct str stream_id; /* len 0: all */
    struct sink_checkpoint at;
    size_t found;
    enum err_code (*each)(struct view *view, struct err *err);
    struct event_reader *reader;
    bool discard;
};

/* --- printing --- */

static void print_stream(void *arg, const struct parked_event *first, int64_t count) {
    struct view *view = arg;

    view->found++;
    (void)printf("%-12s %-10s %9" PRId32 "  %-36.*s %9" PRId64 " %8" PRId64 "  %.*s\n",
                 view->projection->name, view->sink->ops->name, view->partition,
                 STR_ARG(first->stream_id), first->version, count, STR_ARG(first->reason));
}

static void print_void(void *arg, const struct void_range *range) {
    (void)arg;
    (void)range;
}

static enum err_code list_partition(struct view *view, struct err *err) {
    const struct sink_exceptions into = {print_stream, print_void, view};

    return view->sink->ops->read_exceptions(view->sink, view->partition, &view->at, &into, err);
}

static void print_event(void *arg, const struct parked_event *event) {
    struct view *view = arg;
    char time[CLOCK_RFC3339_BYTES];
    char id[UUID_TEXT_BYTES];

    view->found++;
    (void)clock_format_rfc3339(time, event->recorded_at_us);
    uuid_format(id, &event->event_id);
    (void)printf("%s partition %" PRId32 " offset %" PRId64 " version %" PRId64 " %.*s %s %s\n",
                 view->sink->ops->name, view->partition, event->offset, event->version,
                 STR_ARG(event->event_type), id, time);
    if (event->reason.len > 0) {
        (void)printf("  why      %.*s\n", STR_ARG(event->reason));
    }
    if (event->payload.len > 0) {
        (void)printf("  payload  ");
        for (size_t i = 0; i < event->payload.len; i++) {
            const char c = event->payload.ptr[i];
            (void)putchar(c >= ' ' && c <= '~' ? c : '?');
        }
        (void)putchar('\n');
    }
}

static enum err_code show_partition(struct view *view, struct err *err) {
    return view->sink->ops->read_parked(view->sink, view->partition, &view->at, view->stream_id,
                                        print_event, view, err);
}

static enum err_code retry_partition(struct view *view, struct err *err) {
    const struct retry_options options = {
        .projection = view->projection,
        .sink = view->sink,
        .reader = view->reader,
        .partition = view->partition,
        .stream_id = view->stream_id,
        .discard = view->discard,
    };
    struct retry_result result = {0};
    const enum err_code code = retry_stream(&options, &result, err);

    if (code == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    view->found++;
    if (code == ERR_OK) {
        (void)printf("%s: %zu events were parked, %zu applied, %zu are left\n",
                     view->sink->ops->name, result.parked, result.applied, result.left);
    }
    return code;
}

/* --- going through stores and partitions --- */

static enum err_code each_partition(struct view *view, struct err *err) {
    const int32_t partitions = (int32_t)view->world->config->topic_partitions;
    enum err_code code = ERR_OK;

    for (int32_t p = 0; code == ERR_OK && p < partitions; p++) {
        view->partition = p;
        code = sink_read_checkpoint(view->sink, p, &view->at, err);
        if (code == ERR_OK) {
            code = view->each(view, err);
        }
    }
    return code;
}

static enum err_code each_store(struct view *view, struct err *err) {
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < ARRAY_LEN(stores); i++) {
        if (!(projection_stores(view->projection) & stores[i])) {
            continue;
        }
        code = view->world->sink(view->world, view->projection, stores[i], SINK_LIVE, NULL,
                                 &view->sink, err);
        if (code == ERR_OK) {
            code = each_partition(view, err);
            view->sink->ops->free(view->sink);
        }
    }
    return code;
}

static int list(struct view *view) {
    struct err err = {0};

    (void)printf("%-12s %-10s %9s  %-36s %9s %8s  %s\n", "projection", "store", "partition",
                 "stream", "version", "events", "why");
    for (size_t i = 0; i < registry_projection_count; i++) {
        view->projection = registry_projections[i];
        if (each_store(view, &err) != ERR_OK) {
            return command_failed("parked list", &err);
        }
    }
    (void)printf("%zu parked\n", view->found);
    return 0;
}

/* What a rebuild has read of voids is to be all that there are when its model becomes live: so none
 * is at work meanwhile. */
static enum err_code keep_rebuilds_away(const struct view *view, struct model_builder **lock,
                                        struct err *err) {
    if (!(projection_stores(view->projection) & STORE_PG)) {
        return ERR_OK;
    }
    const enum err_code code =
        view->world->builder(view->world, view->projection, STORE_PG, lock, err);
    return code == ERR_OK ? (*lock)->ops->sole(*lock, err) : code;
}

static int change(struct view *view, const char *what) {
    struct model_builder *lock = NULL;
    struct err err = {0};
    enum err_code code = keep_rebuilds_away(view, &lock, &err);

    view->reader = view->world->reader(view->world, READ_IN_TURN);
    code = code == ERR_OK ? view->reader->ops->open(view->reader, &err) : code;
    if (code == ERR_OK) {
        code = each_store(view, &err);
    }
    view->reader->ops->free(view->reader);
    if (lock != NULL) {
        lock->ops->free(lock);
    }
    if (code != ERR_OK) {
        return command_failed(what, &err);
    }
    return view->found > 0 ? 0 : command_failed(what, &(struct err){.message = "not parked"});
}

int command_parked(const struct world *world, const char *const *words, size_t count) {
    struct view view = {.world = world, .each = list_partition};
    struct err err = {0};

    if (count == 2 && strcmp(words[1], "list") == 0) {
        return list(&view);
    }
    if (count != 4) {
        return command_misused("parked list, or parked show|retry|discard NAME STREAM");
    }
    view.projection = registry_find_projection(str_from(words[2]));
    view.stream_id = str_from(words[3]);
    if (view.projection == NULL || view.stream_id.len == 0) {
        return command_misused("there is no such projection");
    }
    if (strcmp(words[1], "show") == 0) {
        view.each = show_partition;
        if (each_store(&view, &err) != ERR_OK) {
            return command_failed("parked show", &err);
        }
        return view.found > 0
                   ? 0
                   : command_failed("parked show", &(struct err){.message = "not parked"});
    }
    view.each = retry_partition;
    view.discard = strcmp(words[1], "discard") == 0;
    if (!view.discard && strcmp(words[1], "retry") != 0) {
        return command_misused("parked list, or parked show|retry|discard NAME STREAM");
    }
    return change(&view, view.discard ? "parked discard" : "parked retry");
}
