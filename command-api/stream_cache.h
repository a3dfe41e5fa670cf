/*
 * The states of the streams that a shard has lately worked on: a hash table with
 * least-recently-used eviction. Belongs to the shard's thread.
 *
 * Each entry has two states: `committed` is the fold of the log, `working` what it becomes if the
 * batch that works on it commits.
 */
#ifndef DAYBOOK_COMMAND_API_STREAM_CACHE_H
#define DAYBOOK_COMMAND_API_STREAM_CACHE_H

#include "common/base/uuid.h"
#include "common/domain/aggregate.h"

struct command_job;
struct shard_batch;

struct stream_state {
    int64_t version;
    int64_t recorded_at_us; /* of the last event, */
    struct uuid event_id;   /* as this */
    union {
        char bytes[AGGREGATE_STATE_BYTES_MAX];
        int64_t align;
    } data;
};

struct stream_entry {
    const struct aggregate *aggregate;
    char stream_id[STREAM_ID_BYTES_MAX + 1];
    uint64_t hash;
    bool loaded;                        /* committed is known */
    struct shard_batch *batch;          /* that works on it, and pins it; NULL: none */
    bool fresh;                         /* committed was read from the log for this batch */
    bool doubtful;                      /* a command was refused on a state that isn't fresh */
    bool moved;                         /* the last look at the log found new events */
    bool snapshot_due;                  /* whatever its version */
    int64_t snapshot_version;           /* of the newest that is known; 0: none */
    struct command_job *first_in_batch; /* this batch's jobs on the stream, newest first */
    struct stream_state committed;
    struct stream_state working;
    struct stream_entry *next_in_bucket;
    struct stream_entry *newer, *older;
};

struct stream_cache;

struct stream_cache *stream_cache_new(size_t entries_max);
void stream_cache_free(struct stream_cache *cache);

/* Finds or makes the entry (not loaded then) and makes it the newest; `hit` says which. May evict
 * the oldest entry that no batch works on. */
struct stream_entry *stream_cache_get(struct stream_cache *cache, const struct aggregate *aggregate,
                                      const char *stream_id, bool *hit);
/* Back to nothing: the next use loads it from the log. */
void stream_entry_forget(struct stream_entry *entry);
size_t stream_cache_count(const struct stream_cache *cache);

#endif
