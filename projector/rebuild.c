#include "projector/rebuild.h"

#include <inttypes.h>
#include <pthread.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "projector/engine.h"
#include "projector/rebuild_bulk.h"

enum { BATCH = 2000, SWAP_TRIES = 500, SILENCE_US = 30000000 };

void rebuild_add(struct rebuild_options *options, const struct projection *projection,
                 unsigned stores) {
    static const unsigned all[] = {STORE_PG, STORE_REDIS};

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        if ((projection_stores(projection) & stores & all[i]) &&
            options->target_count < REBUILD_TARGETS_MAX) {
            options->targets[options->target_count++] =
                (struct rebuild_target){.projection = projection, .store = all[i]};
        }
    }
}

/* --- catching up --- */

/* One target, from the end of the bulk to the switch. */
struct chase {
    const struct rebuild_options *options;
    const struct rebuild_target *target;
    struct projection_sink *sink;
    struct engine *engine;
    struct event_reader *reader;
    struct consumed_record *records; /* BATCH */
    struct metrics *metrics;
    bool begun[TOPIC_PARTITIONS_MAX];
};

static enum err_code chase_begin(struct chase *chase, int32_t partition, struct err *err) {
    struct sink_checkpoint at;

    if (chase->begun[partition]) {
        return ERR_OK;
    }
    enum err_code code = engine_begin(chase->engine, partition, &at, err);
    if (code == ERR_OK && (!checkpoint_exists(&at) || at.model != chase->target->at.model ||
                           at.epoch != chase->target->at.epoch)) {
        code = err_set(err, ERR_FENCED, "the build of %s is no longer this process's",
                       chase->target->projection->name);
    }
    chase->begun[partition] = code == ERR_OK;
    return code;
}

/* Applies the log up to `end`. */
static enum err_code chase_to(struct chase *chase, int32_t partition, int64_t end,
                              struct err *err) {
    struct event_reader *reader = chase->reader;
    int64_t heard_at_us = clock_monotonic_us();
    enum err_code code = chase_begin(chase, partition, err);
    int64_t next = code == ERR_OK ? engine_position(chase->engine, partition).next : 0;

    if (code != ERR_OK || next >= end) {
        return code;
    }
    code = reader->ops->start(reader, partition, next, err);
    while (code == ERR_OK && next < end) {
        size_t count = 0;
        code = reader->ops->poll(reader, 100, chase->records, BATCH, &count, err);
        if (code == ERR_OK && count > 0) {
            code = engine_apply(chase->engine, partition, chase->records, count, err);
            heard_at_us = clock_monotonic_us();
        }
        reader->ops->release(reader, chase->records, count);
        if (code == ERR_OK) {
            next = engine_position(chase->engine, partition).next;
        }
        if (code == ERR_OK && clock_monotonic_us() - heard_at_us > SILENCE_US) {
            code = err_set(err, ERR_UNAVAILABLE, "partition %" PRId32 ": the topic is silent",
                           partition);
        }
    }
    reader->ops->stop(reader, partition);
    return code;
}

static enum err_code chase_to_end(struct chase *chase, struct err *err) {
    enum err_code code = ERR_OK;

    for (int32_t p = 0; code == ERR_OK && p < chase->options->world->config->topic_partitions;
         p++) {
        int64_t first = 0;
        int64_t end = 0;
        code = chase->reader->ops->bounds(chase->reader, p, &first, &end, err);
        if (code == ERR_OK) {
            code = chase_to(chase, p, end, err);
        }
    }
    return code;
}

static enum err_code reach(void *arg, const struct sink_checkpoint *live, struct err *err) {
    struct chase *chase = arg;
    enum err_code code = ERR_OK;

    for (int32_t p = 0; code == ERR_OK && p < chase->options->world->config->topic_partitions;
         p++) {
        int64_t first = 0;
        int64_t end = 0;
        if (!checkpoint_exists(&live[p])) {
            continue;
        }
        /* A live checkpoint beyond the log is damage, and a rebuild is its repair. */
        code = chase->reader->ops->bounds(chase->reader, p, &first, &end, err);
        if (code == ERR_OK) {
            code = chase_to(chase, p, live[p].next < end ? live[p].next : end, err);
        }
    }
    return code;
}

static enum err_code chase_and_swap(struct chase *chase, struct err *err) {
    const struct timespec pause = {.tv_nsec = 5000000};
    struct model_builder *builder = chase->target->builder;
    enum err_code code = ERR_CONFLICT;

    for (int i = 0; code == ERR_CONFLICT && i < SWAP_TRIES; i++) {
        if (i > 0) {
            (void)nanosleep(&pause, NULL);
        }
        code = chase_to_end(chase, err);
        if (code == ERR_OK) {
            code = builder->ops->swap(builder, reach, chase, err);
        }
    }
    return code;
}

static enum err_code finish_target(const struct rebuild_options *options,
                                   const struct rebuild_target *target, struct err *err) {
    const struct world *world = options->world;
    struct chase chase = {.options = options, .target = target};
    enum err_code code =
        world->sink(world, target->projection, target->store, SINK_BUILD, NULL, &chase.sink, err);

    if (code != ERR_OK) {
        return code;
    }
    chase.metrics = metrics_new();
    chase.records = mem_array(BATCH, sizeof(chase.records[0]));
    chase.reader = world->reader(world, READ_IN_TURN);
    chase.engine = engine_new(&(struct engine_options){.projection = target->projection,
                                                       .sink = chase.sink,
                                                       .log = world->log,
                                                       .metrics = chase.metrics,
                                                       .batch_max = BATCH});
    code = chase.reader->ops->open(chase.reader, err);
    if (code == ERR_OK) {
        code = chase_and_swap(&chase, err);
    }
    engine_free(chase.engine);
    chase.reader->ops->free(chase.reader);
    chase.sink->ops->free(chase.sink);
    metrics_free(chase.metrics);
    mem_free(chase.records);
    return code;
}

/* --- all of it --- */

static enum err_code read_ends(const struct rebuild_options *options, int64_t *ends,
                               struct err *err) {
    struct event_reader *reader = options->world->reader(options->world, READ_IN_TURN);
    enum err_code code = reader->ops->open(reader, err);

    for (int32_t p = 0; code == ERR_OK && p < options->world->config->topic_partitions; p++) {
        int64_t first = 0;
        code = reader->ops->bounds(reader, p, &first, &ends[p], err);
        if (code == ERR_OK && first > 0) {
            code = err_set(err, ERR_CORRUPT,
                           "partition %" PRId32 " of the topic begins at offset %" PRId64
                           ": the log is not whole",
                           p, first);
        }
    }
    reader->ops->free(reader);
    return code;
}

/* One target's steps that run beside those of the others, in a thread of its own. */
struct task {
    const struct rebuild_options *options;
    struct rebuild_target *target;
    pthread_t thread;
    bool started;
    enum err_code code;
    struct err err;
};

struct work {
    struct task *tasks; /* one for each target */
    size_t count;
};

static void task_start(struct task *task, void *(*run)(void *task)) {
    task->started = pthread_create(&task->thread, NULL, run, task) == 0;
    if (!task->started) {
        (void)run(task);
    }
}

/* Waits for all; the first failure, if none came before. */
static enum err_code tasks_end(struct task *tasks, size_t count, enum err_code code,
                               struct err *err) {
    for (size_t i = 0; i < count; i++) {
        if (tasks[i].started) {
            (void)pthread_join(tasks[i].thread, NULL);
            tasks[i].started = false;
        }
        if (code == ERR_OK && tasks[i].code != ERR_OK) {
            code = err_set(err, tasks[i].code, "%s", tasks[i].err.message);
        }
    }
    return code;
}

static struct task *tasks_new(struct rebuild_options *options) {
    struct task *tasks = mem_array(options->target_count, sizeof(tasks[0]));

    for (size_t i = 0; i < options->target_count; i++) {
        tasks[i].options = options;
        tasks[i].target = &options->targets[i];
    }
    return tasks;
}

static void *begin_main(void *arg) {
    struct task *task = arg;
    const struct world *world = task->options->world;
    struct rebuild_target *target = task->target;

    task->code = target->builder != NULL ? ERR_OK
                                         : world->builder(world, target->projection, target->store,
                                                          &target->builder, &task->err);
    if (task->code == ERR_OK) {
        target->begun = true;
        task->code = target->builder->ops->begin(
            target->builder, (int32_t)world->config->topic_partitions, &target->at, &task->err);
    }
    return NULL;
}

/* Builders for the lock alone: of projections whose PostgreSQL is not rebuilt. */
struct guards {
    struct model_builder *builders[REBUILD_TARGETS_MAX];
    size_t count;
};

/* PostgreSQL's lock says whether another rebuild of the projection is at work, also where only
 * another store is rebuilt. One after the other, in the order of the targets: of two that begin at
 * once one gets all. */
static enum err_code lock_out_others(struct rebuild_options *options, struct guards *guards,
                                     struct err *err) {
    const struct world *world = options->world;
    const struct projection *locked = NULL;
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < options->target_count; i++) {
        struct rebuild_target *target = &options->targets[i];
        struct model_builder **builder = &target->builder;
        if (target->projection == locked || !(projection_stores(target->projection) & STORE_PG)) {
            continue;
        }
        if (target->store != STORE_PG) { /* it would be the projection's first */
            builder = &guards->builders[guards->count++];
        }
        locked = target->projection;
        code = world->builder(world, target->projection, STORE_PG, builder, err);
        code = code == ERR_OK ? (*builder)->ops->sole(*builder, err) : code;
    }
    return code;
}

static enum err_code begin_all(void *arg, struct err *err) {
    const struct work *work = arg;

    for (size_t i = 0; i < work->count; i++) {
        task_start(&work->tasks[i], begin_main);
    }
    return tasks_end(work->tasks, work->count, ERR_OK, err);
}

/* From the bulk to readers. */
static void *finish_main(void *arg) {
    struct task *task = arg;
    const struct rebuild_target *target = task->target;
    struct model_builder *builder = target->builder;

    task->code = builder->ops->seal(builder, &task->err);
    if (task->code == ERR_OK) {
        task->code = finish_target(task->options, target, &task->err);
    }
    if (task->code == ERR_OK) {
        log_info(task->options->world->log, log_event("model.switched"),
                 log_cstr("projection", target->projection->name),
                 log_cstr("store", builder->ops->name),
                 log_i64("version", target->projection->version));
        task->code = builder->ops->clean(builder, &task->err);
    }
    return NULL;
}

/* From a thread of the bulk: others may still be loading other targets. */
static void on_loaded(void *arg, size_t target) {
    const struct work *work = arg;

    task_start(&work->tasks[target], finish_main);
}

static enum err_code build_and_swap(struct rebuild_options *options, const int64_t *ends,
                                    struct rebuild_result *result, struct err *err) {
    const int64_t started_us = clock_monotonic_us();
    struct work work = {tasks_new(options), options->target_count};
    enum err_code code =
        rebuild_bulk(options, &(struct rebuild_bulk){ends, begin_all, on_loaded, &work}, err);

    result->bulk_seconds = (double)(clock_monotonic_us() - started_us) / 1e6;
    code = tasks_end(work.tasks, work.count, code, err);
    mem_free(work.tasks);
    return code;
}

enum err_code rebuild(struct rebuild_options *options, struct rebuild_result *result,
                      struct err *err) {
    const int64_t started_us = clock_monotonic_us();
    int64_t ends[TOPIC_PARTITIONS_MAX] = {0};
    struct guards guards = {.count = 0};
    enum err_code code = read_ends(options, ends, err);

    *result = (struct rebuild_result){0};
    if (code == ERR_OK) {
        code = lock_out_others(options, &guards, err);
    }
    if (code == ERR_OK) {
        code = build_and_swap(options, ends, result, err);
    }
    for (size_t i = 0; i < options->target_count; i++) {
        struct rebuild_target *target = &options->targets[i];
        /* Who has switched has cleaned, and finds nothing of his any more. */
        if (target->builder != NULL && code != ERR_OK && target->begun) {
            (void)target->builder->ops->clean(target->builder, NULL);
        }
        if (target->builder != NULL) {
            target->builder->ops->free(target->builder);
            target->builder = NULL;
        }
    }
    for (size_t i = 0; i < guards.count; i++) {
        if (guards.builders[i] != NULL) {
            guards.builders[i]->ops->free(guards.builders[i]);
        }
    }
    for (int32_t p = 0; p < TOPIC_PARTITIONS_MAX; p++) {
        result->events += ends[p];
    }
    result->seconds = (double)(clock_monotonic_us() - started_us) / 1e6;
    return code;
}
