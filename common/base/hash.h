/* Hashes. Neither is for secrets. */
#ifndef DAYBOOK_BASE_HASH_H
#define DAYBOOK_BASE_HASH_H

#include <stdint.h>

#include "common/base/str.h"

/* MurmurHash2, 32 bit, seed 0x9747b28c, as org.apache.kafka.common.utils.Utils.murmur2 computes it.
 */
uint32_t hash_murmur2(struct str bytes);
/* The partition that Kafka's Java client gives a key: (murmur2(key) & 0x7fffffff) % partitions. */
int32_t hash_kafka_partition(struct str key, int32_t partitions);
/* FNV-1a, 64 bit. `seed` continues an earlier hash; start with HASH_FNV1A_START. */
#define HASH_FNV1A_START UINT64_C(0xcbf29ce484222325)
uint64_t hash_fnv1a(uint64_t seed, struct str bytes);
/* The same for a struct that is mostly unused, zeroed memory: the zeros at its end cost next to
 * nothing. */
uint64_t hash_fnv1a_sparse(uint64_t seed, struct str bytes);

/* Of the bytes, eight at a time: for tables in memory. Not the same on every machine, so never to
 * be stored. */
uint64_t hash_words(uint64_t seed, struct str bytes);
/* A number mixed in: a round of splitmix64 (S. Vigna). */
uint64_t hash_mix(uint64_t seed, uint64_t number);

#endif
