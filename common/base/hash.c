#include "common/base/hash.h"

#include <assert.h>
#include <string.h>

static uint32_t read_le32(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint32_t hash_murmur2(struct str bytes) {
    static const uint32_t seed = 0x9747b28c;
    static const uint32_t m = 0x5bd1e995;
    static const uint32_t r = 24;

    const unsigned char *p = (const unsigned char *)bytes.ptr;
    size_t left = bytes.len;
    uint32_t h = seed ^ (uint32_t)bytes.len;
    for (; left >= 4; p += 4, left -= 4) {
        uint32_t k = read_le32(p);
        k *= m;
        k ^= k >> r;
        k *= m;
        h *= m;
        h ^= k;
    }
    if (left > 0) {
        for (size_t i = 0; i < left; i++) {
            h ^= (uint32_t)p[i] << (8 * i);
        }
        h *= m;
    }
    h ^= h >> 13;
    h *= m;
    h ^= h >> 15;
    return h;
}

int32_t hash_kafka_partition(struct str key, int32_t partitions) {
    assert(partitions > 0);
    return (int32_t)(hash_murmur2(key) & 0x7fffffff) % partitions;
}

static const uint64_t fnv1a_prime = UINT64_C(0x100000001b3);

uint64_t hash_fnv1a(uint64_t seed, struct str bytes) {
    uint64_t h = seed;
    for (size_t i = 0; i < bytes.len; i++) {
        h ^= (unsigned char)bytes.ptr[i];
        h *= fnv1a_prime;
    }
    return h;
}

uint64_t hash_fnv1a_sparse(uint64_t seed, struct str bytes) {
    size_t used = bytes.len;

    while (used > 0 && bytes.ptr[used - 1] == 0) {
        used--;
    }
    /* A zero byte multiplies by the prime, so n of them by its n-th power. */
    uint64_t h = hash_fnv1a(seed, str_of(bytes.ptr, used));
    uint64_t square = fnv1a_prime;
    for (size_t zeros = bytes.len - used; zeros > 0; zeros /= 2) {
        h *= zeros % 2 == 1 ? square : 1;
        square *= square;
    }
    return h;
}

uint64_t hash_mix(uint64_t seed, uint64_t number) {
    uint64_t z = (seed ^ number) + UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t hash_words(uint64_t seed, struct str bytes) {
    uint64_t h = hash_mix(seed, bytes.len);
    uint64_t word = 0;

    for (; bytes.len >= sizeof(word); bytes.ptr += sizeof(word), bytes.len -= sizeof(word)) {
        memcpy(&word, bytes.ptr, sizeof(word));
        h = hash_mix(h, word);
    }
    if (bytes.len > 0) {
        word = 0;
        memcpy(&word, bytes.ptr, bytes.len);
        h = hash_mix(h, word);
    }
    return h;
}
