#include "projector/expected.h"

#include <inttypes.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

enum { STREAMS_MAX = 20000000, SCRATCH_BYTES = 1024 * 1024, SILENCE_US = 30000000 };

void expected_init(struct expected *expected, const struct projection *projection, unsigned store,
                   int32_t partitions, struct event_reader *reader) {
    const size_t n = (size_t)partitions;

    *expected = (struct expected){
        .projection = projection, .store = store, .partitions = partitions, .reader = reader};
    rowset_init(&expected->rows);
    expected->folds = mem_array(n, sizeof(expected->folds[0]));
    expected->refused = mem_array(n, sizeof(expected->refused[0]));
    expected->positions = mem_array(n, sizeof(expected->positions[0]));
    for (int32_t p = 0; p < partitions; p++) {
        fold_init(&expected->folds[p], projection, p, STREAMS_MAX);
        streams_init(&expected->refused[p], STREAMS_MAX);
    }
    expected->emitter = emitter_new(1);
    arena_init(&expected->scratch, 4096, SCRATCH_BYTES);
    expected->records = mem_array(EXPECTED_BATCH, sizeof(expected->records[0]));
}

void expected_release(struct expected *expected) {
    for (int32_t p = 0; p < expected->partitions; p++) {
        fold_release(&expected->folds[p]);
        streams_release(&expected->refused[p]);
    }
    rowset_release(&expected->rows);
    mem_free(expected->folds);
    mem_free(expected->refused);
    mem_free(expected->positions);
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

enum err_code expected_move(struct expected *expected, int32_t partition, int64_t next,
                            struct err *err) {
    struct event_reader *reader = expected->reader;
    int64_t *position = &expected->positions[partition];
    int64_t heard_at_us = clock_monotonic_us();

    if (next <= *position) {
        return next == *position
                   ? ERR_OK
                   : err_set(err, ERR_CONFLICT,
                             "partition %" PRId32 ": the checkpoint went back from %" PRId64
                             " to %" PRId64,
                             partition, *position, next);
    }
    enum err_code code = reader->ops->start(reader, partition, *position, err);
    while (code == ERR_OK && *position < next) {
        size_t count = 0;
        code = reader->ops->poll(reader, 200, expected->records, EXPECTED_BATCH, &count, err);
        for (size_t i = 0; i < count; i++) {
            const struct consumed_record *record = &expected->records[i];
            if (code == ERR_OK && record->offset < next) {
                code = fold_one(expected, record, err);
                *position = record->offset + 1;
            }
        }
        reader->ops->release(reader, expected->records, count);
        if (count > 0) {
            heard_at_us = clock_monotonic_us();
        } else if (code == ERR_OK && clock_monotonic_us() - heard_at_us > SILENCE_US) {
            code = err_set(err, ERR_UNAVAILABLE,
                           "partition %" PRId32 ": the topic is silent at offset %" PRId64
                           " before the cut at %" PRId64,
                           partition, *position, next);
        }
        if (expected->progress != NULL) {
            expected->progress(expected->progress_arg, expected->events);
        }
    }
    reader->ops->stop(reader, partition);
    return code;
}

enum err_code expected_rows_of(struct expected *expected, int32_t partition, int64_t offset,
                               void (*fn)(void *arg, const struct row *row), void *arg,
                               struct err *err) {
    struct event_reader *reader = expected->reader;
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
