/*
 * Writes snapshots off the hot path: a thread with a store of its own. Shards offer states and go
 * on; what finds the queue full, or the store away, is dropped and counted. The next one comes N
 * events later.
 */
#ifndef DAYBOOK_COMMAND_API_SNAPSHOT_WRITER_H
#define DAYBOOK_COMMAND_API_SNAPSHOT_WRITER_H

#include "command-api/stream_cache.h"
#include "common/base/log.h"
#include "common/ports/event_store.h"
#include "common/runtime/metrics.h"

enum { SNAPSHOT_QUEUE_MAX = 1024 };

struct snapshot_writer_options {
    struct event_store *store; /* borrowed; used by the writer's thread alone */
    struct log *log;
    struct metrics *metrics;
};

struct snapshot_writer;

MUST_CHECK enum err_code snapshot_writer_start(const struct snapshot_writer_options *options,
                                               struct snapshot_writer **out, struct err *err);
/* Copies what it needs; never waits. Any thread. */
void snapshot_writer_offer(struct snapshot_writer *writer, const struct aggregate *aggregate,
                           const char *stream_id, const struct stream_state *state);
/* Writes what was offered, unless the store is away, then ends the thread. NULL is allowed. */
void snapshot_writer_stop(struct snapshot_writer *writer);

#endif
