/* A reader over records in memory, for tests: the same contract. One thread. */
#ifndef DAYBOOK_ADAPTERS_READER_MEM_H
#define DAYBOOK_ADAPTERS_READER_MEM_H

#include "common/ports/event_reader.h"

struct event_reader *reader_mem_new(int32_t partitions);
/* Adds at the partition's end. Slices of `event` are borrowed for the reader's life. */
void reader_mem_add(struct event_reader *reader, int32_t partition,
                    const struct recorded_event *event);

#endif
