/* The publisher in memory, for tests: acknowledges when told to. One thread. */
#ifndef DAYBOOK_ADAPTERS_PUBLISHER_MEM_H
#define DAYBOOK_ADAPTERS_PUBLISHER_MEM_H

#include "common/ports/publisher.h"

struct published {
    int32_t partition;
    char stream_id[129];
    uint64_t commit_lsn;
    uint32_t seq;
};

/* At most in_flight_max records wait for acknowledgement. */
struct publisher *publisher_mem_new(size_t in_flight_max);
/* How many of what is in flight poll acknowledges from now on; SIZE_MAX: all. */
void publisher_mem_acknowledge(struct publisher *publisher, size_t count);
/* The next poll reports a failure; what is in flight is lost (`keep`: has arrived all the same). */
void publisher_mem_fail_next(struct publisher *publisher, bool keep);
/* What the topic holds. */
size_t publisher_mem_topic(const struct publisher *publisher, const struct published **records);

#endif
