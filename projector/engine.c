#include "projector/engine.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/domain/registry.h"
#include "common/runtime/backoff.h"
#include "projector/emitter.h"

enum { STREAM_SLOTS = 4 * ENGINE_BATCH_MAX, DECODE_BYTES_MAX = 1024 * 1024 };

/* A stream as it stands while a batch is gathered. */
struct stream_progress {
    bool moved;
    bool stopped;
};

struct decoded {
    const struct aggregate *aggregate;
    struct event event;
    const char *defect; /* why it can't be applied; NULL: it can */
    char defect_text[160];
};

struct engine {
    struct engine_options options;
    struct emitter *emitter;
    struct decoded *decoded;   /* batch_max */
    struct stream_head *heads; /* batch_max: the batch's streams */
    struct stream_progress *progress;
    uint32_t *slots; /* STREAM_SLOTS: stream → index in heads + 1 */
    size_t head_count;
    struct stream_head *moved; /* batch_max */
    struct row *rows;          /* emitter's capacity */
    int64_t expected[CONSUMER_PARTITIONS_MAX][ENGINE_SINKS_MAX];

    struct metric_counter *applied;
    struct metric_counter *repeats;
    struct metric_counter *gaps;
    struct metric_counter *poison;
    struct metric_counter *fenced[ENGINE_SINKS_MAX];
    struct metric_histogram *batch_size;
    struct metric_histogram *apply_seconds[ENGINE_SINKS_MAX];
    struct metric_histogram *freshness_seconds;
};

/* --- retrying --- */

/* Waits after an outage. False: the stop was requested. */
static bool wait_retry(struct engine *engine, struct backoff *backoff, const char *what,
                       const struct err *err) {
    const int64_t wait_ms = backoff_next_ms(backoff);

    if (backoff->tries == 1 || backoff->tries % 16 == 0) {
        log_warn(engine->options.log, log_event("sink.unavailable"),
                 log_cstr("projection", engine->options.projection->name), log_cstr("sink", what),
                 log_err(err), log_i64("retry_in_ms", wait_ms));
    }
    return !stop_wait_ms(engine->options.stop, wait_ms);
}

static enum err_code read_checkpoint(struct engine *engine, size_t sink_index, int32_t partition,
                                     struct err *err) {
    struct projection_sink *sink = engine->options.sinks[sink_index];
    struct backoff backoff;

    backoff_init(&backoff, 50, 2000);
    for (;;) {
        const enum err_code code = sink->ops->read_checkpoint(
            sink, partition, &engine->expected[partition][sink_index], err);
        if (code == ERR_OK || !err_retriable(code)) {
            return code;
        }
        if (!wait_retry(engine, &backoff, sink->ops->name, err)) {
            return err_set(err, ERR_CLOSED, "stopping");
        }
    }
}

enum err_code engine_begin_partition(struct engine *engine, int32_t partition, int64_t *offset,
                                     struct err *err) {
    assert(partition >= 0 && partition < CONSUMER_PARTITIONS_MAX);
    *offset = INT64_MAX;
    for (size_t s = 0; s < engine->options.sink_count; s++) {
        const enum err_code code = read_checkpoint(engine, s, partition, err);
        if (code != ERR_OK) {
            return code;
        }
        const int64_t next = engine->expected[partition][s];
        const int64_t begin = next == SINK_NO_CHECKPOINT ? 0 : next;
        *offset = begin < *offset ? begin : *offset;
    }
    log_info(engine->options.log, log_event("partition.assigned"),
             log_cstr("projection", engine->options.projection->name),
             log_i64("partition", partition), log_i64("offset", *offset));
    return ERR_OK;
}

/* --- gathering --- */

static void decode_record(const struct consumed_record *record, struct arena *arena,
                          struct decoded *out) {
    struct err err = {0};

    out->defect = record->defect;
    out->aggregate = registry_find(record->event.aggregate_type);
    if (out->defect == NULL && out->aggregate == NULL) {
        out->defect = "unknown aggregate type";
    }
    if (out->defect != NULL) {
        return;
    }
    arena_clear(arena);
    out->event.recorded_at_us = record->event.recorded_at_us;
    if (event_decode(out->aggregate, record->event.event_type, record->event.schema_version,
                     record->event.payload, arena, &out->event, &err) != ERR_OK) {
        (void)snprintf(out->defect_text, sizeof(out->defect_text), "%.159s", err.message);
        out->defect = out->defect_text;
    }
}

static bool same_stream(const struct stream_key *a, const struct recorded_event *b) {
    return str_eq(a->stream_id, b->stream_id) && str_eq(a->aggregate_type, b->aggregate_type);
}

/* The index of the record's stream among the batch's, added when new. */
static size_t stream_index(struct engine *engine, const struct recorded_event *event) {
    uint64_t slot =
        hash_fnv1a(hash_fnv1a(HASH_FNV1A_START, event->aggregate_type), event->stream_id) &
        (STREAM_SLOTS - 1);

    while (engine->slots[slot] != 0) {
        const size_t index = engine->slots[slot] - 1;
        if (same_stream(&engine->heads[index].stream, event)) {
            return index;
        }
        slot = (slot + 1) & (STREAM_SLOTS - 1);
    }
    engine->heads[engine->head_count] =
        (struct stream_head){.stream = {event->aggregate_type, event->stream_id}};
    engine->progress[engine->head_count] = (struct stream_progress){0};
    engine->slots[slot] = (uint32_t)++engine->head_count;
    return engine->head_count - 1;
}

static void stop_stream(struct engine *engine, const struct consumed_record *record, int64_t head,
                        const char *why) {
    log_error(engine->options.log, log_event("stream.stopped"),
              log_cstr("projection", engine->options.projection->name),
              log_str("stream", record->event.stream_id), log_cstr("why", why),
              log_i64("applied_version", head), log_i64("seen_version", record->event.version),
              log_i64("partition", record->partition), log_i64("offset", record->offset),
              log_str("correlation_id", record->event.correlation_id));
    if (engine->options.health != NULL) {
        health_degrade(engine->options.health, "stream %.*s stopped at version %" PRId64 ": %s",
                       STR_ARG(record->event.stream_id), head, why);
    }
}

/* Decides what becomes of one record and emits its rows. */
static void gather_record(struct engine *engine, const struct consumed_record *record,
                          const struct decoded *decoded) {
    if (record->event.stream_id.len == 0) {
        metric_add(engine->poison, 1);
        stop_stream(engine, record, 0, decoded->defect);
        return;
    }
    const size_t index = stream_index(engine, &record->event);
    struct stream_head *head = &engine->heads[index];
    struct stream_progress *progress = &engine->progress[index];

    if (record->event.version <= head->version && record->defect == NULL) {
        metric_add(engine->repeats, 1);
        return;
    }
    if (decoded->defect != NULL || record->event.version != head->version + 1) {
        const bool gap = decoded->defect == NULL;
        metric_add(gap ? engine->gaps : engine->poison, 1);
        if (!progress->stopped) {
            stop_stream(engine, record, head->version, gap ? "gap in versions" : decoded->defect);
        }
        progress->stopped = true;
        return;
    }
    const struct projected_event event = {&record->event, decoded->aggregate, &decoded->event,
                                          record->partition};
    engine->options.projection->project(&event, engine->emitter);
    emitter_fold(engine->emitter);
    head->version = record->event.version;
    progress->moved = true;
    metric_add(engine->applied, 1);
}

/* --- applying --- */

static void list_streams(struct engine *engine, const struct consumed_record *records,
                         size_t count) {
    memset(engine->slots, 0, STREAM_SLOTS * sizeof(engine->slots[0]));
    engine->head_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (records[i].event.stream_id.len > 0) {
            (void)stream_index(engine, &records[i].event);
        }
    }
}

static size_t list_moved(struct engine *engine) {
    size_t count = 0;

    for (size_t i = 0; i < engine->head_count; i++) {
        if (engine->progress[i].moved) {
            engine->moved[count++] = engine->heads[i];
        }
    }
    return count;
}

static enum err_code apply_once(struct engine *engine, size_t sink_index, int32_t partition,
                                const struct consumed_record *records, size_t count,
                                struct err *err) {
    struct projection_sink *sink = engine->options.sinks[sink_index];
    const int64_t started_us = clock_monotonic_us();

    list_streams(engine, records, count);
    enum err_code code =
        sink->ops->read_heads(sink, partition, engine->heads, engine->head_count, err);
    if (code != ERR_OK) {
        return code;
    }
    emitter_clear(engine->emitter);
    for (size_t i = 0; i < count; i++) {
        gather_record(engine, &records[i], &engine->decoded[i]);
    }
    const struct sink_batch batch = {
        .partition = partition,
        .expected = engine->expected[partition][sink_index],
        .next = records[count - 1].offset + 1,
        .rows = engine->rows,
        .row_count = emitter_rows(engine->emitter, sink->store, engine->rows),
        .heads = engine->moved,
        .head_count = list_moved(engine),
    };
    code = sink->ops->apply(sink, &batch, err);
    if (code == ERR_OK) {
        engine->expected[partition][sink_index] = batch.next;
        metric_observe(engine->apply_seconds[sink_index], clock_monotonic_us() - started_us);
    }
    return code;
}

static enum err_code apply_to_sink(struct engine *engine, size_t sink_index, int32_t partition,
                                   const struct consumed_record *records, size_t count,
                                   struct err *err) {
    struct projection_sink *sink = engine->options.sinks[sink_index];
    struct backoff backoff;

    backoff_init(&backoff, 20, 2000);
    for (;;) {
        const int64_t before = engine->expected[partition][sink_index];
        const enum err_code code = apply_once(engine, sink_index, partition, records, count, err);
        if (code == ERR_FENCED) {
            metric_add(engine->fenced[sink_index], 1);
            log_warn(engine->options.log, log_event("sink.fenced"),
                     log_cstr("projection", engine->options.projection->name), log_err(err));
        }
        if (code == ERR_OK || !err_retriable(code)) {
            return code;
        }
        if (!wait_retry(engine, &backoff, sink->ops->name, err)) {
            return err_set(err, ERR_CLOSED, "stopping");
        }
        /* The outage may have hidden a success, or taken the data with it: look. */
        const enum err_code looked = read_checkpoint(engine, sink_index, partition, err);
        if (looked != ERR_OK) {
            return looked;
        }
        if (engine->expected[partition][sink_index] != before) {
            return engine->expected[partition][sink_index] == records[count - 1].offset + 1
                       ? ERR_OK
                       : err_set(err, ERR_FENCED, "the checkpoint moved during an outage");
        }
    }
}

/* Records that this sink doesn't have yet. */
static size_t skip_applied(const struct engine *engine, size_t sink_index, int32_t partition,
                           const struct consumed_record *records, size_t count) {
    const int64_t expected = engine->expected[partition][sink_index];
    size_t first = 0;

    while (first < count && expected != SINK_NO_CHECKPOINT && records[first].offset < expected) {
        first++;
    }
    return first;
}

enum err_code engine_apply(struct engine *engine, int32_t partition,
                           const struct consumed_record *records, size_t count, struct err *err) {
    struct decoded *all = engine->decoded;
    struct arena arena;
    enum err_code code = ERR_OK;

    assert(count > 0 && count <= engine->options.batch_max);
    arena_init(&arena, 4096, DECODE_BYTES_MAX);
    for (size_t i = 0; i < count; i++) {
        decode_record(&records[i], &arena, &engine->decoded[i]);
    }
    arena_release(&arena);
    for (size_t s = 0; s < engine->options.sink_count && code == ERR_OK; s++) {
        const size_t first = skip_applied(engine, s, partition, records, count);
        if (first < count) {
            engine->decoded = all + first;
            code = apply_to_sink(engine, s, partition, records + first, count - first, err);
            engine->decoded = all;
        }
    }
    if (code == ERR_OK) {
        metric_observe(engine->batch_size, (int64_t)count);
        metric_observe(engine->freshness_seconds,
                       clock_wall_us() - records[count - 1].event.recorded_at_us);
    }
    return code;
}

/* --- life --- */

static void register_metrics(struct engine *engine) {
    struct metrics *m = engine->options.metrics;
    const char *name = engine->options.projection->name;
    char labels[128];

    (void)snprintf(labels, sizeof(labels), "projection=\"%s\"", name);
    engine->applied = metrics_counter(m, "daybook_projector_events_applied_total", labels,
                                      "Events applied, summed over the sinks.");
    engine->repeats = metrics_counter(m, "daybook_projector_repeats_total", labels,
                                      "Events ignored because their version was applied before.");
    engine->gaps = metrics_counter(m, "daybook_projector_gaps_total", labels,
                                   "Events refused because a version before them is missing.");
    engine->poison = metrics_counter(m, "daybook_projector_poison_total", labels,
                                     "Events that can't be applied.");
    engine->batch_size =
        metrics_sizes(m, "daybook_projector_batch_size", labels, "Records applied at once.");
    engine->freshness_seconds =
        metrics_latency(m, "daybook_projector_freshness_seconds", labels,
                        "From the event's recording to its visibility in all sinks.");
    for (size_t s = 0; s < engine->options.sink_count; s++) {
        (void)snprintf(labels, sizeof(labels), "projection=\"%s\",sink=\"%s\"", name,
                       engine->options.sinks[s]->ops->name);
        engine->fenced[s] = metrics_counter(m, "daybook_projector_fenced_total", labels,
                                            "Writes refused by the checkpoint's comparison.");
        engine->apply_seconds[s] = metrics_latency(m, "daybook_projector_apply_seconds", labels,
                                                   "One batch into one sink.");
    }
}

struct engine *engine_new(const struct engine_options *options) {
    struct engine *engine = mem_zalloc(sizeof(*engine));
    const size_t n = options->batch_max;

    assert(n > 0 && n <= ENGINE_BATCH_MAX && options->sink_count <= ENGINE_SINKS_MAX);
    engine->options = *options;
    engine->emitter = emitter_new(n);
    engine->decoded = mem_array(n, sizeof(engine->decoded[0]));
    engine->heads = mem_array(n, sizeof(engine->heads[0]));
    engine->progress = mem_array(n, sizeof(engine->progress[0]));
    engine->moved = mem_array(n, sizeof(engine->moved[0]));
    engine->slots = mem_array(STREAM_SLOTS, sizeof(engine->slots[0]));
    engine->rows = mem_array(n * EMITTER_ROWS_PER_EVENT_MAX, sizeof(engine->rows[0]));
    register_metrics(engine);
    return engine;
}

void engine_free(struct engine *engine) {
    if (engine == NULL) {
        return;
    }
    emitter_free(engine->emitter);
    mem_free(engine->decoded);
    mem_free(engine->heads);
    mem_free(engine->progress);
    mem_free(engine->moved);
    mem_free(engine->slots);
    mem_free(engine->rows);
    mem_free(engine);
}
