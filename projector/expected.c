#include "projector/expected.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

enum {
    STREAMS_MAX = 20000000,
    SCRATCH_BYTES = 1024 * 1024,
    SILENCE_US = 30000000,
    HELD_MAX = 32768, /* records; beyond it they are fetched again */
};

/* A partition's way from the reader to the fold. */
struct held {
    bool started; /* the reader goes on behind the last record held */
    struct consumed_record *records;
    size_t first, count, cap;
};

void expected_init(struct expected *expected, const struct projection *projection, unsigned store,
                   int32_t partitions, struct event_reader *reader) {
    const size_t n = (size_t)partitions;

    *expected = (struct expected){
        .projection = projection, .store = store, .partitions = partitions, .reader = reader};
    rowset_init(&expected->rows);
    expected->folds = mem_array(n, sizeof(expected->folds[0]));
    expected->refused = mem_array(n, sizeof(expected->refused[0]));
    expected->positions = mem_array(n, sizeof(expected->positions[0]));
    expected->held = mem_array(n, sizeof(expected->held[0]));
    for (int32_t p = 0; p < partitions; p++) {
        fold_init(&expected->folds[p], projection, p, STREAMS_MAX);
        streams_init(&expected->refused[p], STREAMS_MAX);
    }
    expected->emitter = emitter_new(1);
    arena_init(&expected->scratch, 4096, SCRATCH_BYTES);
    expected->records = mem_array(EXPECTED_BATCH, sizeof(expected->records[0]));
}

/* --- records that wait for the cut --- */

static void drop_held(struct expected *expected, int32_t partition) {
    struct held *held = &expected->held[partition];

    expected->reader->ops->release(expected->reader, held->records + held->first, held->count);
    expected->held_count -= held->count;
    held->first = 0;
    held->count = 0;
}

/* Ends the reading of a partition; it begins again at its position. */
static void stop_reading(struct expected *expected, int32_t partition) {
    struct held *held = &expected->held[partition];

    if (held->started) {
        expected->reader->ops->stop(expected->reader, partition);
        held->started = false;
    }
    drop_held(expected, partition);
}

static void hold(struct expected *expected, const struct consumed_record *record) {
    struct held *held = &expected->held[record->partition];

    if (held->first > 0 && held->first + held->count == held->cap) {
        memmove(held->records, held->records + held->first, held->count * sizeof(held->records[0]));
        held->first = 0;
    }
    if (held->count == held->cap) {
        held->cap = held->cap > 0 ? 2 * held->cap : EXPECTED_BATCH;
        held->records = mem_resize(held->records, held->cap, sizeof(held->records[0]));
    }
    held->records[held->first + held->count++] = *record;
    expected->held_count++;
}

void expected_release(struct expected *expected) {
    for (int32_t p = 0; p < expected->partitions; p++) {
        stop_reading(expected, p);
        mem_free(expected->held[p].records);
        fold_release(&expected->folds[p]);
        streams_release(&expected->refused[p]);
    }
    rowset_release(&expected->rows);
    mem_free(expected->folds);
    mem_free(expected->refused);
    mem_free(expected->positions);
    mem_free(expected->held);
    mem_free(expected->records);
    emitter_free(expected->emitter);
    arena_release(&expected->scratch);
}

static enum err_code fold_one(struct expected *expected, const struct consumed_record *record,
                              struct err *err) {
    struct fold *fold = &expected->folds[record->partition];
    const int64_t *refused =
        streams_find(&expected->refused[record->partition], record->event.stream_id);
    struct parked_event parked;
    struct decoded decoded;
    enum fold_verdict verdict = FOLD_PASSED;
    size_t count = 0;

    decode_record(record, expected->projection->aggregate, &expected->scratch, &decoded);
    if (refused != NULL && record->offset == *refused && decoded.defect == NULL) {
        decoded.defect = "refused by the store";
    }
    emitter_clear(expected->emitter);
    const enum err_code code =
        fold_record(fold, record, &decoded, expected->emitter, &verdict, &parked, err);
    const struct row *rows = emitter_all(expected->emitter, &count);
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        if (rows[i].table->stores & expected->store) {
            rowset_add(&expected->rows, &rows[i], record->partition, record->offset);
        }
    }
    expected->events++;
    return code;
}

static enum err_code fold_if_before(struct expected *expected, const int64_t *cuts,
                                    struct consumed_record *record, bool *folded, struct err *err) {
    int64_t *position = &expected->positions[record->partition];
    enum err_code code = ERR_OK;

    *folded = record->offset < cuts[record->partition];
    if (*folded) {
        if (record->offset >= *position) {
            code = fold_one(expected, record, err);
            *position = record->offset + 1;
        }
        expected->reader->ops->release(expected->reader, record, 1);
    }
    return code;
}

/* What an earlier cut has left. */
static enum err_code fold_held(struct expected *expected, int32_t partition, const int64_t *cuts,
                               struct err *err) {
    struct held *held = &expected->held[partition];
    enum err_code code = ERR_OK;
    bool folded = true;

    while (code == ERR_OK && held->count > 0) {
        code = fold_if_before(expected, cuts, &held->records[held->first], &folded, err);
        if (!folded) {
            break;
        }
        held->first++;
        held->count--;
        expected->held_count--;
    }
    if (held->count == 0) {
        held->first = 0;
    }
    return code;
}

/* Reads once; what lies behind the cuts is held. */
static enum err_code read_on(struct expected *expected, const int64_t *cuts, size_t *count,
                             struct err *err) {
    struct event_reader *reader = expected->reader;
    enum err_code code =
        reader->ops->poll(reader, 200, expected->records, EXPECTED_BATCH, count, err);

    for (size_t i = 0; i < *count; i++) {
        struct consumed_record *record = &expected->records[i];
        bool folded = false;
        if (code == ERR_OK && expected->held[record->partition].started) {
            code = fold_if_before(expected, cuts, record, &folded, err);
            if (!folded) {
                hold(expected, record);
            }
        } else {
            reader->ops->release(reader, record, 1);
        }
    }
    for (int32_t p = 0; expected->held_count > HELD_MAX && p < expected->partitions; p++) {
        stop_reading(expected, p);
    }
    if (expected->progress != NULL) {
        expected->progress(expected->progress_arg, expected->events);
    }
    return code;
}

/* Begins to read where something is left to fold; *behind -1: nowhere. */
static enum err_code start_reading(struct expected *expected, const int64_t *cuts, int32_t *behind,
                                   struct err *err) {
    struct event_reader *reader = expected->reader;
    enum err_code code = ERR_OK;

    *behind = -1;
    for (int32_t p = 0; code == ERR_OK && p < expected->partitions; p++) {
        struct held *held = &expected->held[p];
        if (expected->positions[p] < cuts[p]) {
            code = fold_held(expected, p, cuts, err);
        }
        if (code != ERR_OK || expected->positions[p] >= cuts[p]) {
            continue;
        }
        *behind = p;
        if (!held->started) {
            code = reader->ops->start(reader, p, expected->positions[p], err);
            held->started = code == ERR_OK;
        }
    }
    return code;
}

enum err_code expected_move_all(struct expected *expected, const int64_t *cuts, struct err *err) {
    int64_t heard_at_us = clock_monotonic_us();
    int32_t behind = -1;
    enum err_code code = start_reading(expected, cuts, &behind, err);

    while (code == ERR_OK && behind >= 0) {
        size_t count = 0;
        code = read_on(expected, cuts, &count, err);
        if (count > 0) {
            heard_at_us = clock_monotonic_us();
        } else if (code == ERR_OK && clock_monotonic_us() - heard_at_us > SILENCE_US) {
            code = err_set(err, ERR_UNAVAILABLE,
                           "partition %" PRId32 ": the topic is silent at offset %" PRId64
                           " before the cut at %" PRId64,
                           behind, expected->positions[behind], cuts[behind]);
        }
        if (code == ERR_OK) {
            code = start_reading(expected, cuts, &behind, err);
        }
    }
    return code;
}

enum err_code expected_move(struct expected *expected, int32_t partition, int64_t next,
                            struct err *err) {
    int64_t cuts[TOPIC_PARTITIONS_MAX] = {0};

    if (next <= expected->positions[partition]) {
        return next == expected->positions[partition]
                   ? ERR_OK
                   : err_set(err, ERR_CONFLICT,
                             "partition %" PRId32 ": the checkpoint went back from %" PRId64
                             " to %" PRId64,
                             partition, expected->positions[partition], next);
    }
    cuts[partition] = next;
    return expected_move_all(expected, cuts, err);
}

enum err_code expected_rows_of(struct expected *expected, int32_t partition, int64_t offset,
                               void (*fn)(void *arg, const struct row *row), void *arg,
                               struct err *err) {
    struct event_reader *reader = expected->reader;
    for (int32_t p = 0; p < expected->partitions; p++) {
        stop_reading(expected, p);
    }
    enum err_code code = reader->ops->start(reader, partition, offset, err);
    const int64_t deadline_us = clock_monotonic_us() + SILENCE_US;
    struct consumed_record record;
    size_t count = 0;

    while (code == ERR_OK && count == 0 && clock_monotonic_us() < deadline_us) {
        code = reader->ops->poll(reader, 200, &record, 1, &count, err);
    }
    reader->ops->stop(reader, partition);
    if (code != ERR_OK || count == 0) {
        return code;
    }
    struct decoded decoded;
    decode_record(&record, expected->projection->aggregate, &expected->scratch, &decoded);
    if (decoded.ours && decoded.defect == NULL) {
        const struct projected_event event = {&record.event, &decoded.event, partition};
        size_t rows = 0;
        emitter_clear(expected->emitter);
        expected->projection->project(&event, expected->emitter);
        emitter_fold(expected->emitter);
        const struct row *all = emitter_all(expected->emitter, &rows);
        for (size_t i = 0; i < rows; i++) {
            fn(arg, &all[i]);
        }
    }
    reader->ops->release(reader, &record, 1);
    return ERR_OK;
}
