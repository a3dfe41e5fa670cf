/*
 * Brings cached streams up to the log, all in one round trip: each from its snapshot where it has
 * one that fits, and the later events.
 *
 * A snapshot of another layout, of a log that this is not (restored from a backup, say) or with a
 * wrong checksum is ignored with a warning; its stream is due for a new one at once.
 */
#ifndef DAYBOOK_COMMAND_API_STREAM_LOADER_H
#define DAYBOOK_COMMAND_API_STREAM_LOADER_H

#include "command-api/stream_cache.h"
#include "common/base/log.h"
#include "common/ports/event_store.h"
#include "common/runtime/metrics.h"

enum { STREAM_LOAD_MAX = 1024 };

struct stream_loader;

/* `store` and `log` are borrowed. */
struct stream_loader *stream_loader_new(struct event_store *store, struct log *log,
                                        struct metrics *metrics);
void stream_loader_free(struct stream_loader *loader);

/* On ERR_OK all entries are loaded, fresh, and `moved` says whether the log had something new. On
 * failure none is loaded; what was folded of them until then is kept, so that a stream too long for
 * one try is loaded by several. ERR_CORRUPT: the log itself can't be folded; all are forgotten. */
MUST_CHECK enum err_code stream_loader_load(struct stream_loader *loader,
                                            struct stream_entry *const *entries, size_t count,
                                            struct err *err);

#endif
