/* The event store in memory, for tests: the same contract, no durability. One thread. */
#ifndef DAYBOOK_ADAPTERS_EVENT_STORE_MEM_H
#define DAYBOOK_ADAPTERS_EVENT_STORE_MEM_H

#include "common/ports/event_store.h"

struct event_store *event_store_mem_new(void);
/* The next append does its work and then reports `code`: what a connection that dies at commit
 * looks like. With `lose`, it does not even do its work. */
void event_store_mem_fail_next(struct event_store *store, enum err_code code, bool lose);
size_t event_store_mem_count(const struct event_store *store);

#endif
