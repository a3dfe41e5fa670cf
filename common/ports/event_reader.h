/*
 * A reader: the records of those partitions of the topic that it is told to read, each from an
 * offset of the caller's choosing. It belongs to no group and remembers nothing: where to begin is
 * for the stores to say, whose checkpoints cover their data.
 *
 * Contract (tests/contract/reader_contract.c runs against every adapter)
 *  1. Per partition, records come in the order of their offsets, each once, from the offset given.
 *  2. Starting a partition again moves it; no record from before the move is delivered after it.
 *  3. What is fetched ahead is bounded; who doesn't poll makes nothing grow.
 * Belongs to one thread, but for release.
 */
#ifndef DAYBOOK_PORTS_EVENT_READER_H
#define DAYBOOK_PORTS_EVENT_READER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/err.h"
#include "common/ports/recorded_event.h"

enum { TOPIC_PARTITIONS_MAX = 256 };

struct consumed_record {
    int32_t partition;
    int64_t offset;
    struct recorded_event event; /* slices live until release */
    const char *defect;          /* not NULL: the record is no event of ours, and why */
    int64_t bytes;
    void *handle;
};

struct event_reader;

struct event_reader_ops {
    /* Connects and checks the topic's partition count. ERR_INVALID: it is another. */
    enum err_code (*open)(struct event_reader *reader, struct err *err);
    enum err_code (*start)(struct event_reader *reader, int32_t partition, int64_t offset,
                           struct err *err);
    void (*stop)(struct event_reader *reader, int32_t partition);
    /* Up to `max` records, what is there; waits up to wait_ms for the first. *count 0: nothing came
     * in that time. ERR_UNAVAILABLE: the broker can't be reached or the offset isn't there. */
    enum err_code (*poll)(struct event_reader *reader, int64_t wait_ms, struct consumed_record *out,
                          size_t max, size_t *count, struct err *err);
    void (*release)(struct event_reader *reader, struct consumed_record *records, size_t count);
    /* The offset after the partition's last record, as last heard; -1: not known. */
    int64_t (*end_offset)(struct event_reader *reader, int32_t partition);
    /* Asks the broker: first offset there is, offset after the last record. */
    enum err_code (*bounds)(struct event_reader *reader, int32_t partition, int64_t *first,
                            int64_t *end, struct err *err);
    void (*close)(struct event_reader *reader);
    void (*free)(struct event_reader *reader);
};

struct event_reader {
    const struct event_reader_ops *ops;
};

#endif
