/* The consumer in memory, for tests: the only member of its group. One thread. */
#ifndef DAYBOOK_ADAPTERS_CONSUMER_MEM_H
#define DAYBOOK_ADAPTERS_CONSUMER_MEM_H

#include "common/ports/event_consumer.h"

struct event_consumer *consumer_mem_new(int32_t partitions);
/* Appends a record; the event's slices are borrowed for the consumer's life. */
void consumer_mem_add(struct event_consumer *consumer, int32_t partition,
                      const struct recorded_event *event);

#endif
