/* Numbers by stream id: how far each stream has got. Grows as needed up to `max` streams. */
#ifndef DAYBOOK_PROJECTOR_STREAMS_H
#define DAYBOOK_PROJECTOR_STREAMS_H

#include <stdbool.h>

#include "common/base/arena.h"

struct stream_slot;
struct stream_entry;

struct streams {
    struct stream_slot *slots; /* open addressing */
    size_t slot_count;
    struct stream_entry *entries; /* in the order in which they were added */
    size_t count;
    size_t max;
    struct arena ids;
};

void streams_init(struct streams *streams, size_t max);
void streams_release(struct streams *streams);
void streams_clear(struct streams *streams);

/* The stream's number, to be read or changed until the next call that adds; NULL: not known. */
int64_t *streams_find(const struct streams *streams, struct str id);
/* The same, added with `number` where it is missing. NULL: `max` is reached. */
int64_t *streams_add(struct streams *streams, struct str id, int64_t number);
/* Of a number that find or add has returned: which of all it is, from 0, in the order in which they
 * were added. */
size_t streams_place(const struct streams *streams, const int64_t *number);
/* The id as it is kept here; len 0: not known. */
struct str streams_id(const struct streams *streams, struct str id);
bool streams_full(const struct streams *streams, size_t more);

typedef void streams_fn(void *arg, struct str id, int64_t number);
void streams_each(const struct streams *streams, streams_fn *fn, void *arg);

#endif
