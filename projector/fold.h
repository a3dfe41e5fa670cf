/*
 * The fold of one partition's events by one projection: what becomes of each record. Live
 * application, rebuild and verification all go through here, so they can't differ.
 *
 *   applied   version = head + 1 and decodable: its rows are emitted, the head moves
 *   repeated  version <= head: ignored
 *   parked    it can't be decoded or applied, or a version before it is missing: the head stays,
 *             and so all later events of the stream are parked behind it
 *   passed    an event of another aggregate
 *
 * Versions that an operator has declared void count as applied.
 */
#ifndef DAYBOOK_PROJECTOR_FOLD_H
#define DAYBOOK_PROJECTOR_FOLD_H

#include "projector/decode.h"
#include "projector/emitter.h"
#include "projector/streams.h"

enum fold_verdict { FOLD_APPLIED, FOLD_REPEATED, FOLD_PARKED, FOLD_PASSED };

struct fold {
    const struct projection *projection;
    int32_t partition;
    struct streams heads;  /* version applied; a stream that is missing has none: 0 */
    struct streams parked; /* offset of the first event parked */
    struct void_range *voids;
    size_t void_count;
};

void fold_init(struct fold *fold, const struct projection *projection, int32_t partition,
               size_t streams_max);
void fold_release(struct fold *fold);
void fold_clear(struct fold *fold);

/* Adds the partition's parked streams and voids as a sink knows them. `parked` false: voids only.
 */
MUST_CHECK enum err_code fold_load(struct fold *fold, struct projection_sink *sink,
                                   const struct sink_checkpoint *at, bool parked, struct err *err);
/* Takes the stream's head as known. False: too many streams. */
MUST_CHECK bool fold_set_head(struct fold *fold, struct str stream_id, int64_t version);
/* One that begins where a known one does makes that as long as the longer of both. */
void fold_add_void(struct fold *fold, const struct void_range *range);

struct judgement {
    enum fold_verdict verdict;
    size_t stream; /* FOLD_APPLIED: which of fold->heads it is, from 0, in the order they came in */
};

/* `parked` is filled for FOLD_PARKED; its texts live as long as record, decoded and the fold.
 * ERR_LIMIT: more streams than the fold may hold. */
MUST_CHECK enum err_code fold_record(struct fold *fold, const struct consumed_record *record,
                                     const struct decoded *decoded, struct emitter *emitter,
                                     enum fold_verdict *verdict, struct parked_event *parked,
                                     struct err *err);
/* Its two halves, for whoever folds once for several projections: the verdict, which is the same
 * for all that handle the same events and have no voids, moves the head; and, after FOLD_APPLIED,
 * what a projection makes of the event, which the emitter then holds as it came. */
MUST_CHECK enum err_code fold_judge(struct fold *fold, const struct consumed_record *record,
                                    const struct decoded *decoded, struct judgement *judgement,
                                    struct parked_event *parked, struct err *err);
void fold_emit(const struct projection *projection, const struct consumed_record *record,
               const struct decoded *decoded, struct emitter *emitter);
/* The id under which a record's stream is known: the id itself, or a printable form of what can't
 * be one, made in `text`. */
struct str fold_stream_id(const struct consumed_record *record, const struct decoded *decoded,
                          char text[STREAM_ID_BYTES_MAX + 1]);

#endif
