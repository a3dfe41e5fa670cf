/*
 * Gathers the rows of a batch, folded by key: a sink gets each key once. SET columns take the
 * newest value, ADD columns the sum (kept within int64: what would overflow is a defect and
 * asserted).
 */
#ifndef DAYBOOK_PROJECTOR_EMITTER_H
#define DAYBOOK_PROJECTOR_EMITTER_H

#include "common/ports/projection.h"

enum { EMITTER_ROWS_PER_EVENT_MAX = 4 };

struct emitter;

struct emitter *emitter_new(size_t events_max);
void emitter_free(struct emitter *emitter);

void emitter_clear(struct emitter *emitter);
/* Folds the rows emitted since the last call into the batch. To be called after each event. */
void emitter_fold(struct emitter *emitter);
/* The batch's rows of the tables that `store` keeps, copied to `out` (room for all). */
size_t emitter_rows(const struct emitter *emitter, unsigned store, struct row *out);
/* All of them; borrowed until the next fold or clear. */
const struct row *emitter_all(const struct emitter *emitter, size_t *count);
/* The rows emitted since the last take, as they came, for whoever does without folding; borrowed
 * until the next is emitted. */
const struct row *emitter_take(struct emitter *emitter, size_t *count);

#endif
