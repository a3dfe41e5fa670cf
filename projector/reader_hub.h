/*
 * The hub: lanes of one process that read the same partitions share one reader, so that the broker
 * is asked once for each record and not once for each store of each projection. Each lane holds a
 * tap: an event_reader of its own, with the contract of that port.
 *
 *              queue full while another lane waits, position far from the others', reader failed
 *     shared ────────────────────────────────────────────────────────────────────────▶ apart
 *       ▲                                                                                │
 *       └──────────── all its partitions near their ends and near the hub ───────────────┘
 *
 * Invariants
 *  1. A tap that is shared gets every record from its position on: the hub's position in a
 * partition is never beyond that of a tap that shares it. Who begins a little earlier takes the hub
 * back, and the others leave out what they have had.
 *  2. Nobody waits for a slow lane: when its queue is full the hub stops as long as all others have
 *     work, too, and then sends it away, to read by a reader of its own until it has caught up.
 *  3. What is held is bounded: by the reader's own limit and a queue per tap, whose records are
 *     those of the others.
 */
#ifndef DAYBOOK_PROJECTOR_READER_HUB_H
#define DAYBOOK_PROJECTOR_READER_HUB_H

#include "common/base/log.h"
#include "common/ports/event_reader.h"

enum { HUB_TAPS_MAX = 64 };

struct reader_hub_options {
    /* A new reader of the topic: one for the hub, one for each tap that is apart. */
    struct event_reader *(*make)(void *arg);
    void *make_arg; /* borrowed */
    int32_t partitions;
    struct log *log; /* borrowed */
};

struct reader_hub;

MUST_CHECK enum err_code reader_hub_start(const struct reader_hub_options *options,
                                          struct reader_hub **out, struct err *err);
/* A tap, to be freed before the hub. Each belongs to one thread. At most HUB_TAPS_MAX. */
struct event_reader *reader_hub_tap(struct reader_hub *hub);
/* For tests: how many taps are apart. */
size_t reader_hub_apart(struct reader_hub *hub);
void reader_hub_free(struct reader_hub *hub);

#endif
