#include "projector/engine.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "projector/apply_trace.h"
#include "projector/fold.h"

enum { DECODE_BYTES_MAX = 1024 * 1024, CHECKED_MAX = TOPIC_PARTITIONS_MAX };

struct place {
    struct fold fold;
    struct sink_checkpoint at;
};

/* What one try amounts to; counted when the sink has taken it, so that retries aren't. */
struct tally {
    uint64_t applied, repeated, passed;
};

struct engine {
    struct engine_options options;
    struct emitter *emitter;
    struct arena scratch;
    struct decoded *decoded;     /* batch_max */
    struct stream_head *unknown; /* batch_max */
    struct parked_event *parked; /* batch_max */
    size_t parked_count;
    struct row *rows; /* emitter's capacity */
    struct tally tally;
    struct place *places[TOPIC_PARTITIONS_MAX]; /* NULL: not begun */

    struct metric_counter *applied;
    struct metric_counter *repeats;
    struct metric_counter *parked_events;
    struct metric_counter *fenced;
    struct metric_histogram *batch_size;
    struct metric_histogram *apply_seconds;
    struct metric_histogram *freshness_seconds;
};

/* --- beginning and ending --- */

void engine_end(struct engine *engine, int32_t partition) {
    struct place *place = engine->places[partition];

    if (place != NULL) {
        fold_release(&place->fold);
        mem_free(place);
        engine->places[partition] = NULL;
    }
}

static enum err_code load(struct engine *engine, struct place *place, struct err *err) {
    struct projection_sink *sink = engine->options.sink;
    enum err_code code = sink_read_checkpoint(sink, place->fold.partition, &place->at, err);

    fold_clear(&place->fold);
    if (code != ERR_OK) {
        return code;
    }
    if (checkpoint_exists(&place->at) && place->at.version != engine->options.projection->version) {
        return err_set(err, ERR_CLOSED,
                       "%s: the model is of version %" PRId64 ", this program's is %d",
                       sink->ops->name, place->at.version, engine->options.projection->version);
    }
    return fold_load(&place->fold, sink, &place->at, true, err);
}

enum err_code engine_begin(struct engine *engine, int32_t partition, struct sink_checkpoint *at,
                           struct err *err) {
    assert(partition >= 0 && partition < TOPIC_PARTITIONS_MAX);
    struct place *place = engine->places[partition];

    if (place == NULL) {
        place = mem_zalloc(sizeof(*place));
        fold_init(&place->fold, engine->options.projection, partition, ENGINE_STREAMS_MAX);
        engine->places[partition] = place;
    }
    const enum err_code code = load(engine, place, err);
    *at = place->at;
    if (code != ERR_OK) {
        engine_end(engine, partition);
    }
    return code;
}

struct sink_checkpoint engine_position(const struct engine *engine, int32_t partition) {
    return engine->places[partition]->at;
}

size_t engine_parked_streams(const struct engine *engine, int32_t partition) {
    const struct place *place = engine->places[partition];

    return place != NULL ? place->fold.parked.count : 0;
}

/* --- gathering --- */

/* Makes the heads of the batch's streams known. Those of earlier batches are, unless there are too
 * many. */
static enum err_code learn_heads(struct engine *engine, struct place *place,
                                 const struct consumed_record *records, size_t count,
                                 struct err *err) {
    struct streams *heads = &place->fold.heads;
    size_t unknown = 0;

    if (streams_full(heads, count)) {
        streams_clear(heads);
    }
    for (size_t i = 0; i < count; i++) {
        const struct str id = records[i].event.stream_id;
        if (engine->decoded[i].ours && engine->decoded[i].trusted &&
            streams_find(heads, id) == NULL) {
            if (!fold_set_head(&place->fold, id, 0)) {
                return err_set(err, ERR_INTERNAL, "no room for the heads of a batch");
            }
            engine->unknown[unknown++] = (struct stream_head){.stream_id = id};
        }
    }
    if (unknown == 0 || !checkpoint_exists(&place->at)) {
        return ERR_OK;
    }
    struct projection_sink *sink = engine->options.sink;
    const enum err_code code = sink->ops->read_heads(sink, place->fold.partition, &place->at,
                                                     engine->unknown, unknown, err);
    for (size_t i = 0; code == ERR_OK && i < unknown; i++) {
        *streams_find(heads, engine->unknown[i].stream_id) = engine->unknown[i].version;
    }
    return code;
}

static enum err_code gather(struct engine *engine, struct place *place,
                            const struct consumed_record *records, size_t count, struct err *err) {
    enum err_code code = learn_heads(engine, place, records, count, err);

    emitter_clear(engine->emitter);
    engine->tally = (struct tally){0};
    engine->parked_count = 0;
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        enum fold_verdict verdict = FOLD_PASSED;
        code = fold_record(&place->fold, &records[i], &engine->decoded[i], engine->emitter,
                           &verdict, &engine->parked[engine->parked_count], err);
        switch (verdict) {
        case FOLD_APPLIED:
            engine->tally.applied++;
            break;
        case FOLD_REPEATED:
            engine->tally.repeated++;
            break;
        case FOLD_PARKED:
            engine->parked_count += code == ERR_OK;
            break;
        case FOLD_PASSED:
            engine->tally.passed++;
            break;
        }
    }
    return code;
}

/* --- applying --- */

/* The sink has taken the batch: now it has happened. */
static void report(struct engine *engine, int32_t partition) {
    const char *sink = engine->options.sink->ops->name;

    metric_add(engine->applied, engine->tally.applied);
    metric_add(engine->repeats, engine->tally.repeated);
    metric_add(engine->parked_events, engine->parked_count);
    for (size_t i = 0; i < engine->parked_count; i++) {
        const struct parked_event *event = &engine->parked[i];
        if (event->reason.len > 0) {
            log_error(engine->options.log, log_event("stream.parked"),
                      log_cstr("projection", engine->options.projection->name),
                      log_cstr("sink", sink), log_str("stream", event->stream_id),
                      log_i64("version", event->version), log_str("why", event->reason),
                      log_i64("partition", partition), log_i64("offset", event->offset));
        }
    }
}

static enum err_code apply_once(struct engine *engine, struct place *place,
                                const struct consumed_record *records, size_t count,
                                struct err *err) {
    struct projection_sink *sink = engine->options.sink;
    const int64_t started_us = clock_monotonic_us();
    enum err_code code = gather(engine, place, records, count, err);

    if (code != ERR_OK) {
        return code;
    }
    const struct sink_batch batch = {
        .partition = place->fold.partition,
        .expected = place->at,
        .next = {.next = records[count - 1].offset + 1,
                 .version = engine->options.projection->version,
                 .model = place->at.model,
                 .epoch = place->at.epoch},
        .rows = engine->rows,
        .row_count = emitter_rows(engine->emitter, sink->store, engine->rows),
        .parked = engine->parked,
        .parked_count = engine->parked_count,
    };
    code = sink->ops->apply(sink, &batch, err);
    if (code == ERR_OK) {
        place->at = batch.next;
        report(engine, batch.partition);
        metric_observe(engine->batch_size, (int64_t)count);
        metric_observe(engine->apply_seconds, clock_monotonic_us() - started_us);
        metric_observe(engine->freshness_seconds,
                       clock_wall_us() - records[count - 1].event.recorded_at_us);
        if (engine->options.tracer != NULL) {
            apply_trace(&engine->options, records, count, started_us);
        }
    } else if (code == ERR_FENCED) {
        metric_add(engine->fenced, 1);
    }
    return code;
}

static bool is_refused(enum err_code code) {
    return code == ERR_INVALID || code == ERR_LIMIT;
}

/* A refused batch is halved until the record at fault is alone; that one is marked as poison. The
 * fold has moved on by then, so it is loaded anew before each further try. */
static enum err_code apply_or_park(struct engine *engine, struct place *place,
                                   const struct consumed_record *records, size_t count,
                                   struct err *err) {
    struct decoded *const all = engine->decoded;
    enum err_code code = ERR_OK;
    size_t done = 0;
    size_t chunk = count;

    while (code == ERR_OK && done < count) {
        struct err why = {0};
        struct decoded *first = all + done;
        engine->decoded = first;
        code = apply_once(engine, place, records + done, chunk, &why);
        engine->decoded = all;
        if (code == ERR_OK) {
            done += chunk;
            chunk = count - done;
            continue;
        }
        if (!is_refused(code) || (chunk == 1 && first->defect != NULL)) {
            return err_set(err, is_refused(code) ? ERR_INTERNAL : code, "%s", why.message);
        }
        if (chunk == 1) {
            (void)snprintf(first->text, sizeof(first->text), "refused: %.180s", why.message);
            first->defect = first->text;
        }
        chunk = chunk > 1 ? chunk / 2 : 1;
        code = load(engine, place, err);
    }
    return code;
}

enum err_code engine_apply(struct engine *engine, int32_t partition,
                           const struct consumed_record *records, size_t count, struct err *err) {
    struct place *place = engine->places[partition];

    assert(place != NULL && count <= engine->options.batch_max);
    while (count > 0 && checkpoint_exists(&place->at) && records->offset < place->at.next) {
        records++;
        count--;
    }
    for (size_t i = 0; i < count; i++) {
        decode_record(&records[i], engine->options.projection->aggregate, &engine->scratch,
                      &engine->decoded[i]);
    }
    return count > 0 ? apply_or_park(engine, place, records, count, err) : ERR_OK;
}

enum err_code engine_check(struct engine *engine, const int32_t *partitions, size_t count,
                           int32_t *changed, struct err *err) {
    struct sink_checkpoint stored[CHECKED_MAX];
    struct projection_sink *sink = engine->options.sink;

    assert(count <= CHECKED_MAX);
    const enum err_code code = sink->ops->read_checkpoints(sink, partitions, count, stored, err);
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        const struct place *place = engine->places[partitions[i]];
        if (!checkpoint_equal(&stored[i], &place->at)) {
            *changed = partitions[i];
            return err_set(err, ERR_FENCED,
                           "%s: the checkpoint of partition %" PRId32 " has changed from %" PRId64
                           " to %" PRId64,
                           sink->ops->name, partitions[i], place->at.next, stored[i].next);
        }
    }
    return code;
}

/* --- life --- */

static void register_metrics(struct engine *engine) {
    struct metrics *m = engine->options.metrics;
    char labels[128];

    (void)snprintf(labels, sizeof(labels), "projection=\"%s\",sink=\"%s\"",
                   engine->options.projection->name, engine->options.sink->ops->name);
    engine->applied =
        metrics_counter(m, "daybook_projector_events_applied_total", labels, "Events applied.");
    engine->repeats = metrics_counter(m, "daybook_projector_repeats_total", labels,
                                      "Events ignored because their version was applied before.");
    engine->parked_events = metrics_counter(m, "daybook_projector_events_parked_total", labels,
                                            "Events put aside with their streams.");
    engine->fenced = metrics_counter(m, "daybook_projector_fenced_total", labels,
                                     "Writes refused by the checkpoint's comparison.");
    engine->batch_size =
        metrics_sizes(m, "daybook_projector_batch_size", labels, "Records applied at once.");
    engine->apply_seconds =
        metrics_latency(m, "daybook_projector_apply_seconds", labels, "One batch into the sink.");
    engine->freshness_seconds =
        metrics_latency(m, "daybook_projector_freshness_seconds", labels,
                        "From the event's recording to its visibility in the sink.");
}

struct engine *engine_new(const struct engine_options *options) {
    struct engine *engine = mem_zalloc(sizeof(*engine));
    const size_t n = options->batch_max;

    assert(n > 0 && n <= ENGINE_BATCH_MAX);
    engine->options = *options;
    engine->emitter = emitter_new(n);
    arena_init(&engine->scratch, 4096, DECODE_BYTES_MAX);
    engine->decoded = mem_array(n, sizeof(engine->decoded[0]));
    engine->unknown = mem_array(n, sizeof(engine->unknown[0]));
    engine->parked = mem_array(n + 1, sizeof(engine->parked[0]));
    engine->rows = mem_array(n * EMITTER_ROWS_PER_EVENT_MAX, sizeof(engine->rows[0]));
    register_metrics(engine);
    return engine;
}

void engine_free(struct engine *engine) {
    if (engine == NULL) {
        return;
    }
    for (int32_t p = 0; p < TOPIC_PARTITIONS_MAX; p++) {
        engine_end(engine, p);
    }
    emitter_free(engine->emitter);
    arena_release(&engine->scratch);
    mem_free(engine->decoded);
    mem_free(engine->unknown);
    mem_free(engine->parked);
    mem_free(engine->rows);
    mem_free(engine);
}
