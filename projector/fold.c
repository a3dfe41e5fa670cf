#include "projector/fold.h"

#include <string.h>

#include "common/base/mem.h"

enum { VOIDS_MAX = 100000 };

void fold_init(struct fold *fold, const struct projection *projection, int32_t partition,
               size_t streams_max) {
    *fold = (struct fold){.projection = projection, .partition = partition};
    streams_init(&fold->heads, streams_max);
    streams_init(&fold->parked, streams_max);
}

static void forget_voids(struct fold *fold) {
    for (size_t i = 0; i < fold->void_count; i++) {
        mem_free_const(fold->voids[i].stream_id.ptr);
    }
    fold->void_count = 0;
}

void fold_release(struct fold *fold) {
    streams_release(&fold->heads);
    streams_release(&fold->parked);
    forget_voids(fold);
    mem_free(fold->voids);
}

void fold_clear(struct fold *fold) {
    streams_clear(&fold->heads);
    streams_clear(&fold->parked);
    forget_voids(fold);
}

/* --- what a sink knows --- */

struct loading {
    struct fold *fold;
    bool parked;
    bool full;
};

static void load_parked(void *arg, const struct parked_event *first, int64_t count) {
    struct loading *loading = arg;

    (void)count;
    if (loading->parked &&
        streams_add(&loading->fold->parked, first->stream_id, first->offset) == NULL) {
        loading->full = true;
    }
}

static struct void_range *find_void(const struct fold *fold, const struct void_range *range) {
    for (size_t i = 0; i < fold->void_count; i++) {
        struct void_range *known = &fold->voids[i];
        if (known->first == range->first && str_eq(known->stream_id, range->stream_id)) {
            return known;
        }
    }
    return NULL;
}

void fold_add_void(struct fold *fold, const struct void_range *range) {
    struct void_range *known = find_void(fold, range);

    if (known != NULL) {
        known->last = known->last > range->last ? known->last : range->last;
        return;
    }
    if (fold->void_count % 64 == 0) {
        fold->voids = mem_resize(fold->voids, fold->void_count + 64, sizeof(fold->voids[0]));
    }
    fold->voids[fold->void_count++] = (struct void_range){
        str_of(mem_strndup(range->stream_id), range->stream_id.len), range->first, range->last};
}

static void load_void(void *arg, const struct void_range *range) {
    struct loading *loading = arg;

    if (loading->fold->void_count >= VOIDS_MAX && find_void(loading->fold, range) == NULL) {
        loading->full = true;
    } else {
        fold_add_void(loading->fold, range);
    }
}

enum err_code fold_load(struct fold *fold, struct projection_sink *sink,
                        const struct sink_checkpoint *at, bool parked, struct err *err) {
    struct loading loading = {fold, parked, false};
    const struct sink_exceptions into = {load_parked, load_void, &loading};
    const enum err_code code = sink->ops->read_exceptions(sink, fold->partition, at, &into, err);

    return code == ERR_OK && loading.full
               ? err_set(err, ERR_UNAVAILABLE,
                         "partition %d: too many parked streams or void versions to go on",
                         (int)fold->partition)
               : code;
}

bool fold_set_head(struct fold *fold, struct str stream_id, int64_t version) {
    int64_t *head = streams_add(&fold->heads, stream_id, version);

    if (head == NULL) {
        return false;
    }
    *head = version;
    return true;
}

/* --- records --- */

struct str fold_stream_id(const struct consumed_record *record, const struct decoded *decoded,
                          char text[STREAM_ID_BYTES_MAX + 1]) {
    const struct str key = record->event.stream_id;
    size_t len = 0;

    if (decoded->trusted || decoded->defect == NULL) {
        return key;
    }
    text[len++] = '?';
    for (size_t i = 0; i < key.len && len < STREAM_ID_BYTES_MAX; i++) {
        const char c = key.ptr[i];
        text[len++] = c > ' ' && c <= '~' ? c : '?';
    }
    text[len] = '\0';
    return str_of(text, len);
}

/* The head, past versions that count as applied. */
static void skip_voids(const struct fold *fold, struct str stream_id, int64_t *head) {
    for (bool moved = true; moved;) {
        moved = false;
        for (size_t i = 0; i < fold->void_count; i++) {
            const struct void_range *range = &fold->voids[i];
            if (str_eq(range->stream_id, stream_id) && range->first <= *head + 1 &&
                range->last > *head) {
                *head = range->last;
                moved = true;
            }
        }
    }
}

static struct str printable_type(struct str type) {
    for (size_t i = 0; i < type.len; i++) {
        if (type.ptr[i] < ' ' || type.ptr[i] > '~') {
            return STR("?");
        }
    }
    return str_of(type.ptr, type.len < 100 ? type.len : 100);
}

static enum err_code park(struct fold *fold, const struct consumed_record *record,
                          const struct decoded *decoded, struct str why,
                          struct parked_event *parked, struct err *err) {
    char text[STREAM_ID_BYTES_MAX + 1];
    const struct str id = fold_stream_id(record, decoded, text);
    const struct str waits = {0};
    const bool behind = streams_find(&fold->parked, id) != NULL;

    if (streams_add(&fold->parked, id, record->offset) == NULL) {
        return err_set(err, ERR_UNAVAILABLE, "partition %d: too many parked streams to go on",
                       (int)fold->partition);
    }
    *parked = (struct parked_event){
        .stream_id = streams_id(&fold->parked, id),
        .offset = record->offset,
        .version = record->event.version,
        .event_type = printable_type(record->event.event_type),
        .event_id = record->event.event_id,
        .payload = record->event.payload,
        .recorded_at_us = record->event.recorded_at_us,
        .reason = behind ? waits : why,
    };
    return ERR_OK;
}

enum err_code fold_judge(struct fold *fold, const struct consumed_record *record,
                         const struct decoded *decoded, struct judgement *judgement,
                         struct parked_event *parked, struct err *err) {
    const int64_t version = record->event.version;

    *judgement = (struct judgement){decoded->ours ? FOLD_PARKED : FOLD_PASSED, 0};
    if (!decoded->ours) {
        return ERR_OK;
    }
    if (!decoded->trusted) {
        return park(fold, record, decoded, str_from(decoded->defect), parked, err);
    }
    int64_t *head = streams_add(&fold->heads, record->event.stream_id, 0);
    if (head == NULL) {
        return err_set(err, ERR_LIMIT, "partition %d: more streams than may be kept",
                       (int)fold->partition);
    }
    if (fold->void_count > 0) {
        skip_voids(fold, record->event.stream_id, head);
    }
    if (version <= *head) {
        judgement->verdict = FOLD_REPEATED;
        return ERR_OK;
    }
    if (fold->parked.count > 0 && streams_find(&fold->parked, record->event.stream_id) != NULL) {
        return park(fold, record, decoded, (struct str){0}, parked, err);
    }
    if (version != *head + 1) {
        return park(fold, record, decoded, STR("a version before it is missing"), parked, err);
    }
    if (decoded->defect != NULL) {
        return park(fold, record, decoded, str_from(decoded->defect), parked, err);
    }
    *head = version;
    *judgement = (struct judgement){FOLD_APPLIED, streams_place(&fold->heads, head)};
    return ERR_OK;
}

void fold_emit(const struct projection *projection, const struct consumed_record *record,
               const struct decoded *decoded, struct emitter *emitter) {
    const struct projected_event event = {&record->event, &decoded->event, record->partition};

    projection->project(&event, emitter);
}

enum err_code fold_record(struct fold *fold, const struct consumed_record *record,
                          const struct decoded *decoded, struct emitter *emitter,
                          enum fold_verdict *verdict, struct parked_event *parked,
                          struct err *err) {
    struct judgement judgement;
    const enum err_code code = fold_judge(fold, record, decoded, &judgement, parked, err);

    if (code == ERR_OK && judgement.verdict == FOLD_APPLIED) {
        fold_emit(fold->projection, record, decoded, emitter);
        emitter_fold(emitter);
    }
    *verdict = judgement.verdict;
    return code;
}
