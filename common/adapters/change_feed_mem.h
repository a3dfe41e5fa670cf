/*
 * The change feed in memory, for tests: a list of transactions. It belongs to one thread, but for
 * what is said to be callable from any.
 */
#ifndef DAYBOOK_ADAPTERS_CHANGE_FEED_MEM_H
#define DAYBOOK_ADAPTERS_CHANGE_FEED_MEM_H

#include <stdbool.h>
#include <stddef.h>

#include "common/ports/change_feed.h"

struct change_feed *change_feed_mem_new(void);
/* Appends a transaction of one change per stream id; commit LSNs are 10, 20, 30, … The ids are
 * borrowed. */
void change_feed_mem_add(struct change_feed *feed, const char *const *stream_ids, size_t count);
/* What is added from now on arrives this long after the feed was first opened. */
void change_feed_mem_add_later(struct change_feed *feed, int64_t ms);
/* The payload, borrowed, of what is added from now on; "{}" at first. */
void change_feed_mem_payload(struct change_feed *feed, const char *payload);
/* Log that is none of ours: the reader is told of progress. Returns the position. */
uint64_t change_feed_mem_add_foreign(struct change_feed *feed);
/* What was confirmed; survives close and open, as a slot does. From any thread. */
uint64_t change_feed_mem_confirmed(const struct change_feed *feed);
/* How often confirm was called. From any thread. */
uint64_t change_feed_mem_confirms(const struct change_feed *feed);
/* While held, somebody else has the slot. From any thread. */
void change_feed_mem_hold(struct change_feed *feed, bool held);
/* The next call of next fails. */
void change_feed_mem_break(struct change_feed *feed);
/* From now on next fails `times` times at random. */
void change_feed_mem_disturb(struct change_feed *feed, uint64_t seed, int times);
/* The next begin says that the place in the log is lost; all comes again then, in a new incarnation
 * at each try, until what is there now is confirmed. */
void change_feed_mem_lose_place(struct change_feed *feed);
/* Whether the holder before is known to have ended (as it is at first). */
void change_feed_mem_predecessor(struct change_feed *feed, bool gone);
/* How often release was called. From any thread. */
uint64_t change_feed_mem_releases(const struct change_feed *feed);

#endif
