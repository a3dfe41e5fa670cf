/* The change feed in memory, for tests: a list of transactions. One thread. */
#ifndef DAYBOOK_ADAPTERS_CHANGE_FEED_MEM_H
#define DAYBOOK_ADAPTERS_CHANGE_FEED_MEM_H

#include "common/ports/change_feed.h"

struct change_feed *change_feed_mem_new(void);
/* Appends a transaction of one change per stream id; commit LSNs are 10, 20, 30, … */
void change_feed_mem_add(struct change_feed *feed, const char *const *stream_ids, size_t count);
/* What was confirmed; survives close and open, as a slot does. */
uint64_t change_feed_mem_confirmed(const struct change_feed *feed);
/* The next call of next fails. */
void change_feed_mem_break(struct change_feed *feed);

#endif
