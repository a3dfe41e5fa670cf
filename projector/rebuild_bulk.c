#include "projector/rebuild_bulk.h"

#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "projector/fold.h"
#include "projector/merged.h"

enum {
    BATCH = 32,          /* all that is at hand for it fits the caches */
    ROWS_AT_ONCE = 4000, /* into a sink: of what was merged, or a batch's */
    MERGED_MAX = 500000, /* rows of one partition merged in memory */
    STREAMS_MAX = 50000000,
    SCRATCH_BYTES = 1024 * 1024,
    SILENCE_US = 30000000,
    THREADS_MAX = 32,
};

_Static_assert(ROWS_AT_ONCE >= BATCH * EMITTER_ROWS_PER_EVENT_MAX, "a batch's rows fit");

struct shared {
    const struct rebuild_options *options;
    const struct rebuild_bulk *bulk;
    int32_t partitions;
    _Atomic int64_t loading[REBUILD_TARGETS_MAX]; /* threads that have not done with it */
    _Atomic int64_t done;
    _Atomic int32_t next_partition;
    _Atomic bool failed;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    bool begun; /* the targets have their places */
    enum err_code code;
    struct err err;
};

/* One projection's state in one thread. */
struct builder_lane {
    const struct projection *projection;
    struct projection_sink *adviser; /* where no way leads to PostgreSQL: it tells of voids, too */
    struct fold fold;
    struct builder_lane *judge;   /* whose verdicts count: its own, or those of one before it that
                                     can't judge differently */
    struct judgement *judgements; /* BATCH */
    struct parked_event *parked;  /* BATCH + 1 */
    size_t parked_count;
    struct emitter *emitter;
    struct merged merged;
};

/* One target's ways into its store, in one thread. */
struct way {
    const struct rebuild_target *target;
    size_t lane;
    struct projection_sink *sink;
    struct model_load *loads[MODEL_TABLES_MAX]; /* NULL: through the sink */
};

struct bulk_thread {
    struct shared *shared;
    struct event_reader *reader;
    int32_t claimed; /* the partition that is to come; none is left: beyond the last */
    struct builder_lane lanes[REBUILD_PROJECTIONS_MAX];
    size_t lane_count;
    struct way ways[REBUILD_TARGETS_MAX];
    size_t way_count;
    struct consumed_record *records; /* BATCH */
    struct decoded *decoded;         /* BATCH */
    struct row *rows;                /* ROWS_AT_ONCE */
    struct row *through_sink;        /* a batch's */
    struct arena scratch;
};

/* --- into the stores --- */

static enum err_code put(const struct way *way, int32_t partition, const struct row *rows,
                         size_t count, const struct parked_event *parked, size_t parked_count,
                         struct err *err) {
    struct sink_checkpoint after = way->target->at;

    if (count == 0 && parked_count == 0) {
        return ERR_OK;
    }
    after.next = SINK_NO_CHECKPOINT;
    const struct sink_batch batch = {
        .partition = partition,
        .expected = way->target->at,
        .next = after,
        .rows = rows,
        .row_count = count,
        .parked = parked,
        .parked_count = parked_count,
    };
    return way->sink->ops->apply(way->sink, &batch, err);
}

/* The rows of one batch that never change (t->rows), and what it parked, into one target. */
static enum err_code put_appended(struct bulk_thread *t, const struct way *way, int32_t partition,
                                  size_t count, struct err *err) {
    const struct projection *projection = way->target->projection;
    const struct builder_lane *judge = t->lanes[way->lane].judge;
    enum err_code code = ERR_OK;
    size_t through_sink = 0;

    for (size_t i = 0; code == ERR_OK && i < projection->table_count; i++) {
        const struct model_table *table = projection->tables[i];
        if (!table->append_only || !(table->stores & way->target->store)) {
            continue;
        }
        if (way->loads[i] != NULL) {
            code = way->loads[i]->ops->rows(way->loads[i], partition, t->rows, count, err);
            continue;
        }
        for (size_t r = 0; r < count; r++) {
            if (t->rows[r].table == table) {
                t->through_sink[through_sink++] = t->rows[r];
            }
        }
    }
    return code == ERR_OK ? put(way, partition, t->through_sink, through_sink, judge->parked,
                                judge->parked_count, err)
                          : code;
}

static enum err_code flush_way(struct bulk_thread *t, const struct way *way, int32_t partition,
                               struct err *err) {
    const struct merged *merged = &t->lanes[way->lane].merged;
    const struct row *row = NULL;
    enum err_code code = ERR_OK;
    size_t at = 0;
    size_t count = 0;

    while (code == ERR_OK && (row = merged_next(merged, &at)) != NULL) {
        if (!(row->table->stores & way->target->store)) {
            continue;
        }
        t->rows[count++] = *row;
        if (count == ROWS_AT_ONCE) {
            code = put(way, partition, t->rows, count, NULL, 0, err);
            count = 0;
        }
    }
    return code == ERR_OK ? put(way, partition, t->rows, count, NULL, 0, err) : code;
}

static enum err_code flush_merged(struct bulk_thread *t, size_t lane_index, int32_t partition,
                                  struct err *err) {
    enum err_code code = ERR_OK;

    for (size_t w = 0; code == ERR_OK && w < t->way_count; w++) {
        if (t->ways[w].lane == lane_index) {
            code = flush_way(t, &t->ways[w], partition, err);
        }
    }
    merged_clear(&t->lanes[lane_index].merged);
    return code;
}

/* With what was declared void and left out: the store may have lost it, or never heard of it. */
static enum err_code set_checkpoint(const struct way *way, const struct fold *fold, int64_t next,
                                    struct err *err) {
    struct sink_checkpoint after = way->target->at;

    after.next = next;
    const struct sink_batch batch = {.partition = fold->partition,
                                     .expected = way->target->at,
                                     .next = after,
                                     .voids = fold->voids,
                                     .void_count = fold->void_count};
    return way->sink->ops->apply(way->sink, &batch, err);
}

/* --- records --- */

static enum err_code judge_batch(struct bulk_thread *t, struct builder_lane *lane, size_t count,
                                 struct err *err) {
    enum err_code code = ERR_OK;

    lane->parked_count = 0;
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        struct judgement *judgement = &lane->judgements[i];
        code = fold_judge(&lane->fold, &t->records[i], &t->decoded[i], judgement,
                          &lane->parked[lane->parked_count], err);
        lane->parked_count += judgement->verdict == FOLD_PARKED;
    }
    return code;
}

/* What the lane's projection makes of the batch: rows that change are merged, those that don't are
 * put into t->rows. Returns how many these are. */
static size_t emit_batch(struct bulk_thread *t, struct builder_lane *lane, size_t count) {
    size_t appended = 0;

    for (size_t i = 0; i < count; i++) {
        const struct judgement *judgement = &lane->judge->judgements[i];
        size_t row_count = 0;
        if (judgement->verdict != FOLD_APPLIED) {
            continue;
        }
        fold_emit(lane->projection, &t->records[i], &t->decoded[i], lane->emitter);
        const struct row *rows = emitter_take(lane->emitter, &row_count);
        for (size_t r = 0; r < row_count; r++) {
            if (rows[r].table->append_only) {
                t->rows[appended++] = rows[r];
            } else {
                merged_add(&lane->merged, &rows[r], judgement->stream);
            }
        }
    }
    return appended;
}

static enum err_code fold_batch(struct bulk_thread *t, size_t lane_index, int32_t partition,
                                size_t count, struct err *err) {
    struct builder_lane *lane = &t->lanes[lane_index];
    enum err_code code = lane->judge == lane ? judge_batch(t, lane, count, err) : ERR_OK;
    const size_t appended = code == ERR_OK ? emit_batch(t, lane, count) : 0;

    for (size_t w = 0; code == ERR_OK && w < t->way_count; w++) {
        if (t->ways[w].lane == lane_index) {
            code = put_appended(t, &t->ways[w], partition, appended, err);
        }
    }
    if (code == ERR_OK && merged_count(&lane->merged) > MERGED_MAX) {
        code = flush_merged(t, lane_index, partition, err);
    }
    return code;
}

static enum err_code apply_batch(struct bulk_thread *t, int32_t partition, size_t count,
                                 struct err *err) {
    const struct aggregate *decoded_for = NULL;
    enum err_code code = ERR_OK;

    for (size_t l = 0; code == ERR_OK && l < t->lane_count; l++) {
        const struct aggregate *aggregate = t->lanes[l].projection->aggregate;
        for (size_t i = 0; aggregate != decoded_for && i < count; i++) {
            decode_record(&t->records[i], aggregate, &t->scratch, &t->decoded[i]);
        }
        decoded_for = aggregate;
        code = fold_batch(t, l, partition, count, err);
    }
    return code;
}

/* Takes records up to the end; leaves out what lies behind it. */
static enum err_code read_on(struct bulk_thread *t, int32_t partition, int64_t end, int64_t *next,
                             struct err *err) {
    struct event_reader *reader = t->reader;
    int64_t heard_at_us = clock_monotonic_us();
    enum err_code code = ERR_OK;

    while (code == ERR_OK && *next < end && !atomic_load(&t->shared->failed)) {
        size_t count = 0;
        code = reader->ops->poll(reader, 100, t->records, BATCH, &count, err);
        size_t inside = count;
        while (inside > 0 && t->records[inside - 1].offset >= end) {
            inside--;
        }
        if (code == ERR_OK && count > 0) {
            code = apply_batch(t, partition, inside, err);
            *next = t->records[count - 1].offset + 1;
            heard_at_us = clock_monotonic_us();
            atomic_fetch_add(&t->shared->done, (int64_t)inside);
        } else if (code == ERR_OK && clock_monotonic_us() - heard_at_us > SILENCE_US) {
            code = err_set(err, ERR_UNAVAILABLE, "partition %" PRId32 ": the topic is silent",
                           partition);
        }
        reader->ops->release(reader, t->records, count);
    }
    return code;
}

/* The heads are kept once for all that can't judge differently: those of the same aggregate without
 * voids. */
static void choose_judges(struct bulk_thread *t) {
    for (size_t l = 0; l < t->lane_count; l++) {
        struct builder_lane *lane = &t->lanes[l];
        lane->judge = lane;
        for (size_t i = 0; lane->judge == lane && i < l; i++) {
            struct builder_lane *other = &t->lanes[i];
            if (other->projection->aggregate == lane->projection->aggregate &&
                other->fold.void_count == 0 && lane->fold.void_count == 0) {
                lane->judge = other;
            }
        }
    }
}

/* What any store knows to be void is void in all. */
static enum err_code begin_folds(struct bulk_thread *t, int32_t partition, struct err *err) {
    const struct sink_checkpoint none = {.next = SINK_NO_CHECKPOINT};
    enum err_code code = ERR_OK;

    for (size_t l = 0; code == ERR_OK && l < t->lane_count; l++) {
        struct builder_lane *lane = &t->lanes[l];
        fold_clear(&lane->fold);
        lane->fold.partition = partition;
        if (lane->adviser != NULL) {
            code = fold_load(&lane->fold, lane->adviser, &none, false, err);
        }
    }
    for (size_t w = 0; code == ERR_OK && w < t->way_count; w++) {
        const struct way *way = &t->ways[w];
        code = fold_load(&t->lanes[way->lane].fold, way->sink, &way->target->at, false, err);
    }
    choose_judges(t);
    return code;
}

/* Takes the next partition that nobody has taken and has it read ahead, so that its records are
 * there when what comes before is done. */
static enum err_code claim_partition(struct bulk_thread *t, struct err *err) {
    t->claimed = atomic_fetch_add(&t->shared->next_partition, 1);
    if (t->claimed >= t->shared->partitions || t->shared->bulk->ends[t->claimed] == 0) {
        return ERR_OK;
    }
    return t->reader->ops->start(t->reader, t->claimed, 0, err);
}

/* The one that is claimed. */
static enum err_code build_partition(struct bulk_thread *t, struct err *err) {
    const int32_t partition = t->claimed;
    const int64_t end = t->shared->bulk->ends[partition];
    int64_t next = 0;
    enum err_code code = begin_folds(t, partition, err);

    if (code == ERR_OK) {
        code = read_on(t, partition, end, &next, err);
    }
    t->reader->ops->stop(t->reader, partition);
    if (code == ERR_OK) {
        code = claim_partition(t, err);
    }
    for (size_t l = 0; code == ERR_OK && l < t->lane_count; l++) {
        code = flush_merged(t, l, partition, err);
    }
    for (size_t w = 0; code == ERR_OK && w < t->way_count; w++) {
        code = set_checkpoint(&t->ways[w], &t->lanes[t->ways[w].lane].fold, end, err);
    }
    return code;
}

/* --- threads --- */

static enum err_code open_way(struct bulk_thread *t, const struct rebuild_target *target,
                              struct err *err) {
    const struct world *world = t->shared->options->world;
    struct way *way = &t->ways[t->way_count++];
    enum err_code code = ERR_OK;

    way->target = target;
    if (t->lane_count == 0 || t->lanes[t->lane_count - 1].projection != target->projection) {
        struct builder_lane *lane = &t->lanes[t->lane_count++];
        lane->projection = target->projection;
        fold_init(&lane->fold, target->projection, 0, STREAMS_MAX);
        merged_init(&lane->merged, target->projection);
        lane->emitter = emitter_new(1);
        lane->judgements = mem_array(BATCH, sizeof(lane->judgements[0]));
        lane->parked = mem_array(BATCH + 1, sizeof(lane->parked[0]));
        if (target->store != STORE_PG && (projection_stores(target->projection) & STORE_PG)) {
            code = world->sink(world, target->projection, STORE_PG, SINK_LIVE, NULL, &lane->adviser,
                               err);
        }
    }
    way->lane = t->lane_count - 1;
    code = code == ERR_OK ? world->sink(world, target->projection, target->store, SINK_BUILD, NULL,
                                        &way->sink, err)
                          : code;
    for (size_t i = 0; code == ERR_OK && i < target->projection->table_count; i++) {
        if (target->projection->tables[i]->stores & target->store) {
            code = target->builder->ops->load(target->builder, target->projection->tables[i],
                                              &way->loads[i], err);
        }
    }
    return code;
}

/* Waits until the targets are there, or not to be. */
static enum err_code await_targets(struct shared *shared, struct err *err) {
    (void)pthread_mutex_lock(&shared->mutex);
    while (!shared->begun && shared->code == ERR_OK) {
        (void)pthread_cond_wait(&shared->changed, &shared->mutex);
    }
    const enum err_code code =
        shared->code == ERR_OK ? ERR_OK : err_set(err, shared->code, "%s", shared->err.message);
    (void)pthread_mutex_unlock(&shared->mutex);
    return code;
}

static enum err_code open_thread(struct bulk_thread *t, struct err *err) {
    const struct rebuild_options *options = t->shared->options;
    enum err_code code = ERR_OK;

    t->records = mem_array(BATCH, sizeof(t->records[0]));
    t->decoded = mem_array(BATCH, sizeof(t->decoded[0]));
    t->rows = mem_array(ROWS_AT_ONCE, sizeof(t->rows[0]));
    t->through_sink = mem_array((size_t)BATCH * EMITTER_ROWS_PER_EVENT_MAX, sizeof(t->rows[0]));
    arena_init(&t->scratch, 4096, SCRATCH_BYTES);
    t->reader = options->world->reader(options->world, READ_IN_TURN);
    code = t->reader->ops->open(t->reader, err);
    if (code == ERR_OK) {
        code = claim_partition(t, err);
    }
    if (code == ERR_OK) {
        code = await_targets(t->shared, err);
    }
    for (size_t i = 0; code == ERR_OK && i < options->target_count; i++) {
        code = open_way(t, &options->targets[i], err);
    }
    return code;
}

static void close_thread(struct bulk_thread *t) {
    for (size_t w = 0; w < t->way_count; w++) {
        for (size_t i = 0; i < MODEL_TABLES_MAX; i++) {
            if (t->ways[w].loads[i] != NULL) {
                t->ways[w].loads[i]->ops->free(t->ways[w].loads[i]);
            }
        }
        if (t->ways[w].sink != NULL) {
            t->ways[w].sink->ops->free(t->ways[w].sink);
        }
    }
    for (size_t l = 0; l < t->lane_count; l++) {
        if (t->lanes[l].adviser != NULL) {
            t->lanes[l].adviser->ops->free(t->lanes[l].adviser);
        }
        fold_release(&t->lanes[l].fold);
        merged_release(&t->lanes[l].merged);
        emitter_free(t->lanes[l].emitter);
        mem_free(t->lanes[l].judgements);
        mem_free(t->lanes[l].parked);
    }
    if (t->reader != NULL) {
        t->reader->ops->free(t->reader);
    }
    arena_release(&t->scratch);
    mem_free(t->records);
    mem_free(t->decoded);
    mem_free(t->rows);
    mem_free(t->through_sink);
    mem_free(t);
}

static enum err_code end_way(struct way *way, struct err *err) {
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < MODEL_TABLES_MAX; i++) {
        if (way->loads[i] != NULL) {
            code = way->loads[i]->ops->end(way->loads[i], err);
        }
    }
    return code;
}

static void leave_target(struct shared *shared, size_t target) {
    if (atomic_fetch_sub(&shared->loading[target], 1) == 1 && !atomic_load(&shared->failed)) {
        shared->bulk->loaded(shared->bulk->arg, target);
    }
}

/* PostgreSQL first: its indexes take the longest. */
static enum err_code end_ways(struct bulk_thread *t, struct err *err) {
    static const unsigned order[] = {STORE_PG, STORE_REDIS};
    enum err_code code = ERR_OK;

    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        for (size_t w = 0; code == ERR_OK && w < t->way_count; w++) {
            const bool its_turn = t->ways[w].target->store == order[i];
            code = its_turn ? end_way(&t->ways[w], err) : ERR_OK;
            if (its_turn && code == ERR_OK) {
                leave_target(t->shared, w);
            }
        }
    }
    return code;
}

/* `code` counts if it is the first. */
static void fail(struct shared *shared, enum err_code code, const struct err *err) {
    (void)pthread_mutex_lock(&shared->mutex);
    if (shared->code == ERR_OK) {
        shared->code = code;
        shared->err = *err;
    }
    atomic_store(&shared->failed, true);
    (void)pthread_cond_broadcast(&shared->changed);
    (void)pthread_mutex_unlock(&shared->mutex);
}

static void *thread_main(void *arg) {
    struct bulk_thread *t = arg;
    struct shared *shared = t->shared;
    struct err err = {0};
    enum err_code code = open_thread(t, &err);

    while (code == ERR_OK && t->claimed < shared->partitions && !atomic_load(&shared->failed)) {
        code = build_partition(t, &err);
    }
    if (code == ERR_OK) {
        code = end_ways(t, &err);
    }
    if (code != ERR_OK) {
        fail(shared, code, &err);
    }
    close_thread(t);
    return NULL;
}

static void *progress_main(void *arg) {
    struct shared *shared = arg;
    const struct rebuild_options *options = shared->options;
    const struct timespec pause = {.tv_nsec = 100000000};
    const int64_t started_us = clock_monotonic_us();
    int64_t total = 0;

    for (int32_t p = 0; p < shared->partitions; p++) {
        total += shared->bulk->ends[p];
    }
    for (int turn = 0;
         !atomic_load(&shared->failed) && atomic_load(&shared->next_partition) < INT32_MAX / 2;
         turn++) {
        if (turn % 5 == 0 && options->progress != NULL) {
            options->progress(options->progress_arg, atomic_load(&shared->done), total,
                              (double)(clock_monotonic_us() - started_us) / 1e6);
        }
        (void)nanosleep(&pause, NULL);
    }
    return NULL;
}

/* The threads are connecting meanwhile. */
static void begin_targets(struct shared *shared) {
    struct err err = {0};
    const enum err_code code = shared->bulk->begin(shared->bulk->arg, &err);

    if (code != ERR_OK) {
        fail(shared, code, &err);
        return;
    }
    (void)pthread_mutex_lock(&shared->mutex);
    shared->begun = true;
    (void)pthread_cond_broadcast(&shared->changed);
    (void)pthread_mutex_unlock(&shared->mutex);
}

enum err_code rebuild_bulk(const struct rebuild_options *options, const struct rebuild_bulk *bulk,
                           struct err *err) {
    const struct projector_config *config = options->world->config;
    struct bulk_thread *threads[THREADS_MAX];
    struct shared shared = {.options = options,
                            .bulk = bulk,
                            .partitions = (int32_t)config->topic_partitions,
                            .mutex = PTHREAD_MUTEX_INITIALIZER,
                            .changed = PTHREAD_COND_INITIALIZER};
    int64_t count = config->rebuild_threads < THREADS_MAX ? config->rebuild_threads : THREADS_MAX;
    pthread_t progress;
    pthread_t handles[THREADS_MAX];
    int64_t started = 0;

    count = count < shared.partitions ? count : shared.partitions;
    for (size_t i = 0; i < options->target_count; i++) {
        atomic_store(&shared.loading[i], count);
    }
    const bool watched = pthread_create(&progress, NULL, progress_main, &shared) == 0;
    for (; started < count; started++) {
        threads[started] = mem_zalloc(sizeof(*threads[started]));
        threads[started]->shared = &shared;
        if (pthread_create(&handles[started], NULL, thread_main, threads[started]) != 0) {
            mem_free(threads[started]);
            break;
        }
    }
    for (size_t i = 0; started > 0 && i < options->target_count; i++) {
        for (int64_t missing = started; missing < count; missing++) {
            leave_target(&shared, i);
        }
    }
    if (started > 0) {
        begin_targets(&shared);
    }
    for (int64_t i = 0; i < started; i++) {
        (void)pthread_join(handles[i], NULL);
    }
    atomic_store(&shared.next_partition, INT32_MAX / 2);
    if (watched) {
        (void)pthread_join(progress, NULL);
    }
    (void)pthread_cond_destroy(&shared.changed);
    (void)pthread_mutex_destroy(&shared.mutex);
    if (started == 0) {
        return err_set(err, ERR_INTERNAL, "no thread can be started");
    }
    return shared.code == ERR_OK ? ERR_OK : err_set(err, shared.code, "%s", shared.err.message);
}
