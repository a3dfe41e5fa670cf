/*
 * A stream's state as it is kept beside the log: JSON by the aggregate's state fields, with a
 * fingerprint of these and a checksum.
 */
#ifndef DAYBOOK_COMMAND_API_SNAPSHOT_H
#define DAYBOOK_COMMAND_API_SNAPSHOT_H

#include "command-api/stream_cache.h"
#include "common/ports/event_store.h"

/* Changes whenever the layout of the aggregate's state does. */
int64_t snapshot_layout(const struct aggregate *aggregate);

/* Writes the state into `text` and describes it; slices of `out` live as long as `text` and
 * `stream_id`. */
void snapshot_write(const struct aggregate *aggregate, const char *stream_id,
                    const struct stream_state *state, struct buf *text,
                    struct stream_snapshot *out);
/* The state that a snapshot of this layout holds. ERR_CORRUPT: it is damaged; `out` is undefined.
 */
MUST_CHECK enum err_code snapshot_read(const struct aggregate *aggregate,
                                       const struct stream_snapshot *snapshot, struct arena *arena,
                                       struct stream_state *out, struct err *err);

#endif
