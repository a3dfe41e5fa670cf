/* The publisher in memory, for tests: acknowledges when told to. One thread. */
#ifndef DAYBOOK_ADAPTERS_PUBLISHER_MEM_H
#define DAYBOOK_ADAPTERS_PUBLISHER_MEM_H

#include "common/ports/publisher.h"

struct published {
    int32_t partition;
    char stream_id[129];
    int64_t version;
    uint64_t incarnation;
    uint64_t commit_lsn;
    uint32_t seq;
};

/* At most in_flight_max records wait for acknowledgement. */
struct publisher *publisher_mem_new(size_t in_flight_max);
/* How many of what is in flight poll acknowledges from now on; SIZE_MAX: all. */
void publisher_mem_acknowledge(struct publisher *publisher, size_t count);
/* From now on as many polls find nothing before one acknowledges. */
void publisher_mem_delay(struct publisher *publisher, unsigned polls);
/* The next poll reports a failure; what is in flight is lost (`keep`: has arrived all the same). */
void publisher_mem_fail_next(struct publisher *publisher, bool keep);
/* From now on poll acknowledges at random, and fails `times` times at random: then of what is in
 * flight some has arrived, in each partition the first part of it. */
void publisher_mem_disturb(struct publisher *publisher, uint64_t seed, int times);
/* Puts a record into the topic as if it had been there before. */
void publisher_mem_preset(struct publisher *publisher, const struct published *record);
/* From now on records of this many bytes of payload, and larger ones, are refused; 0: none. From
 * any thread. */
void publisher_mem_refuse(struct publisher *publisher, size_t payload_bytes);
/* What the topic holds. */
size_t publisher_mem_topic(const struct publisher *publisher, const struct published **records);

#endif
