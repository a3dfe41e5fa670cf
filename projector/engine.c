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

/* One try for one partition. Its arrays are part of the engine's. */
struct attempt {
    struct place *place;
    const struct consumed_record *records;
    size_t count;
    struct decoded *decoded; /* count */
    struct row *rows;
    size_t row_count;
    struct parked_event *parked; /* count */
    size_t parked_count;
    /* Counted when the sink has taken it, so that retries aren't. */
    uint64_t applied, repeated;
};

struct engine {
    struct engine_options options;
    struct emitter *emitter;
    struct arena scratch;
    struct decoded *decoded;     /* batch_max */
    struct stream_head *unknown; /* batch_max */
    struct parked_event *parked; /* batch_max */
    struct row *rows;            /* emitter's capacity */
    bool apart;                  /* the last step of several partitions met an outage */
    struct attempt attempts[TOPIC_PARTITIONS_MAX];
    struct sink_batch batches[TOPIC_PARTITIONS_MAX];
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
static enum err_code learn_heads(struct engine *engine, const struct attempt *attempt,
                                 struct err *err) {
    struct place *place = attempt->place;
    struct streams *heads = &place->fold.heads;
    size_t unknown = 0;

    if (streams_full(heads, attempt->count)) {
        streams_clear(heads);
    }
    for (size_t i = 0; i < attempt->count; i++) {
        const struct str id = attempt->records[i].event.stream_id;
        if (attempt->decoded[i].ours && attempt->decoded[i].trusted &&
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

static enum err_code gather(struct engine *engine, struct attempt *attempt, struct err *err) {
    enum err_code code = learn_heads(engine, attempt, err);

    emitter_clear(engine->emitter);
    for (size_t i = 0; code == ERR_OK && i < attempt->count; i++) {
        enum fold_verdict verdict = FOLD_PASSED;
        code = fold_record(&attempt->place->fold, &attempt->records[i], &attempt->decoded[i],
                           engine->emitter, &verdict, &attempt->parked[attempt->parked_count], err);
        switch (verdict) {
        case FOLD_APPLIED:
            attempt->applied++;
            break;
        case FOLD_REPEATED:
            attempt->repeated++;
            break;
        case FOLD_PARKED:
            attempt->parked_count += code == ERR_OK;
            break;
        case FOLD_PASSED:
            break;
        }
    }
    attempt->row_count = emitter_rows(engine->emitter, engine->options.sink->store, attempt->rows);
    return code;
}

static struct sink_batch batch_of(const struct engine *engine, const struct attempt *attempt) {
    const struct place *place = attempt->place;

    return (struct sink_batch){
        .partition = place->fold.partition,
        .expected = place->at,
        .next = {.next = attempt->records[attempt->count - 1].offset + 1,
                 .version = engine->options.projection->version,
                 .model = place->at.model,
                 .epoch = place->at.epoch},
        .rows = attempt->rows,
        .row_count = attempt->row_count,
        .parked = attempt->parked,
        .parked_count = attempt->parked_count,
    };
}

/* --- applying --- */

static void report_parked(const struct engine *engine, const struct attempt *attempt) {
    for (size_t i = 0; i < attempt->parked_count; i++) {
        const struct parked_event *event = &attempt->parked[i];
        if (event->reason.len > 0) {
            log_error(engine->options.log, log_event("stream.parked"),
                      log_cstr("projection", engine->options.projection->name),
                      log_cstr("sink", engine->options.sink->ops->name),
                      log_str("stream", event->stream_id), log_i64("version", event->version),
                      log_str("why", event->reason),
                      log_i64("partition", attempt->place->fold.partition),
                      log_i64("offset", event->offset));
        }
    }
}

/* The sink has taken it: now it has happened. */
static void taken(struct engine *engine, const struct attempt *attempt,
                  const struct sink_batch *batch, int64_t started_us) {
    const struct consumed_record *last = &attempt->records[attempt->count - 1];

    attempt->place->at = batch->next;
    metric_add(engine->applied, attempt->applied);
    metric_add(engine->repeats, attempt->repeated);
    metric_add(engine->parked_events, attempt->parked_count);
    report_parked(engine, attempt);
    metric_observe(engine->freshness_seconds, clock_wall_us() - last->event.recorded_at_us);
    if (engine->options.tracer != NULL) {
        apply_trace(&engine->options, attempt->records, attempt->count, started_us);
    }
}

/* Into the sink; codes: what became of each. Nothing has happened to one that isn't ERR_OK. */
static enum err_code apply_once(struct engine *engine, struct attempt *attempts, size_t count,
                                enum err_code *codes, struct err *err) {
    struct projection_sink *sink = engine->options.sink;
    const int64_t started_us = clock_monotonic_us();
    size_t records = 0;

    for (size_t i = 0; i < count; i++) {
        const enum err_code gathered = gather(engine, &attempts[i], err);
        if (gathered != ERR_OK) {
            for (size_t k = 0; k < count; k++) {
                codes[k] = gathered;
            }
            return gathered;
        }
        engine->batches[i] = batch_of(engine, &attempts[i]);
    }
    if (count == 1) {
        codes[0] = sink->ops->apply(sink, engine->batches, err);
    }
    const enum err_code code =
        count == 1 ? codes[0] : sink->ops->apply_all(sink, engine->batches, count, codes, err);
    for (size_t i = 0; i < count; i++) {
        if (codes[i] == ERR_OK) {
            taken(engine, &attempts[i], &engine->batches[i], started_us);
            records += attempts[i].count;
        }
    }
    if (records > 0) {
        metric_observe(engine->batch_size, (int64_t)records);
        metric_observe(engine->apply_seconds, clock_monotonic_us() - started_us);
    }
    return code;
}

/* After a try that failed the fold has moved on, so it is loaded anew before a further one. The
 * records in hand fit only the checkpoint they were fetched for. */
static enum err_code take_back(struct engine *engine, struct place *place, struct err *err) {
    const struct sink_checkpoint believed = place->at;
    const enum err_code code = load(engine, place, err);

    if (code == ERR_OK && !checkpoint_equal(&believed, &place->at)) {
        return err_set(err, ERR_FENCED,
                       "%s: the checkpoint of partition %" PRId32 " is not %" PRId64,
                       engine->options.sink->ops->name, place->fold.partition, believed.next);
    }
    return code;
}

static bool is_refused(enum err_code code) {
    return code == ERR_INVALID || code == ERR_LIMIT;
}

/* A part of a whole attempt, with arrays of its own. */
static struct attempt part_of(const struct attempt *whole, size_t first, size_t count) {
    struct attempt part = *whole;

    part.records += first;
    part.decoded += first;
    part.count = count;
    return part;
}

/* A refused batch is halved until the record at fault is alone; that one is marked as poison. */
static enum err_code apply_or_park(struct engine *engine, const struct attempt *whole,
                                   struct err *err) {
    enum err_code code = ERR_OK;
    size_t done = 0;
    size_t chunk = whole->count;

    while (code == ERR_OK && done < whole->count) {
        struct err why = {0};
        struct attempt part = part_of(whole, done, chunk);
        struct decoded *first = part.decoded;
        (void)apply_once(engine, &part, 1, &code, &why);
        if (code == ERR_OK) {
            done += chunk;
            chunk = whole->count - done;
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
        code = take_back(engine, whole->place, err);
    }
    return code;
}

/* What is to be applied of some records; `used`: of the engine's arrays, by those before them. */
static struct attempt attempt_of(struct engine *engine, int32_t partition,
                                 const struct consumed_record *records, size_t count, size_t used) {
    struct place *place = engine->places[partition];
    struct attempt attempt = {.place = place,
                              .records = records,
                              .count = count,
                              .decoded = engine->decoded + used,
                              .rows = engine->rows + used * EMITTER_ROWS_PER_EVENT_MAX,
                              .parked = engine->parked + used};

    assert(place != NULL && used + count <= engine->options.batch_max);
    while (attempt.count > 0 && checkpoint_exists(&place->at) &&
           attempt.records->offset < place->at.next) {
        attempt.records++;
        attempt.count--;
    }
    for (size_t i = 0; i < attempt.count; i++) {
        decode_record(&attempt.records[i], engine->options.projection->aggregate, &engine->scratch,
                      &attempt.decoded[i]);
    }
    return attempt;
}

enum err_code engine_apply(struct engine *engine, int32_t partition,
                           const struct consumed_record *records, size_t count, struct err *err) {
    const struct attempt attempt = attempt_of(engine, partition, records, count, 0);
    const enum err_code code = attempt.count > 0 ? apply_or_park(engine, &attempt, err) : ERR_OK;

    if (code == ERR_FENCED) {
        metric_add(engine->fenced, 1);
    }
    return code;
}

/* --- several partitions --- */

static bool have_checkpoints(const struct engine *engine, const struct engine_share *shares,
                             size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (!checkpoint_exists(&engine->places[shares[i].partition]->at)) {
            return false;
        }
    }
    return true;
}

/* Leaves each share's code: ERR_OK where it was applied or its partition is believed to stand where
 * it stood before. False: not all were applied. */
static bool apply_together(struct engine *engine, struct engine_share *shares, size_t count) {
    struct engine_share *whose[TOPIC_PARTITIONS_MAX];
    enum err_code codes[TOPIC_PARTITIONS_MAX];
    struct err err = {0};
    size_t used = 0;
    size_t n = 0;

    for (size_t i = 0; i < count; i++) {
        engine->attempts[n] =
            attempt_of(engine, shares[i].partition, shares[i].records, shares[i].count, used);
        used += shares[i].count;
        whose[n] = &shares[i];
        n += engine->attempts[n].count > 0;
    }
    if (n == 0 || apply_once(engine, engine->attempts, n, codes, &err) == ERR_OK) {
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        whose[i]->code = codes[i];
        whose[i]->err = err;
        if (codes[i] != ERR_OK && codes[i] != ERR_UNAVAILABLE) {
            whose[i]->code = take_back(engine, engine->attempts[i].place, &whose[i]->err);
        }
    }
    return false;
}

void engine_apply_all(struct engine *engine, struct engine_share *shares, size_t count) {
    const struct engine_share *outage = NULL;

    for (size_t i = 0; i < count; i++) {
        shares[i].code = ERR_OK;
        shares[i].err = (struct err){0};
    }
    if (count > 1 && !engine->apart && have_checkpoints(engine, shares, count) &&
        apply_together(engine, shares, count)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct engine_share *share = &shares[i];
        if (outage != NULL) {
            share->code = outage->code;
            share->err = outage->err;
        } else if (share->code == ERR_OK) { /* does nothing for one that was applied */
            share->code =
                engine_apply(engine, share->partition, share->records, share->count, &share->err);
        } else if (share->code == ERR_FENCED) {
            metric_add(engine->fenced, 1);
        }
        if (outage == NULL && share->code != ERR_OK && share->code != ERR_FENCED) {
            outage = share;
        }
    }
    engine->apart = outage != NULL;
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
    engine->parked = mem_array(n, sizeof(engine->parked[0]));
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
