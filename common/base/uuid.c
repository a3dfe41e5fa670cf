/*
 * Layout (RFC 9562 section 5.7): unix_ts_ms (48) | version 7 (4) | rand_a (12) | variant 10 (2) |
 * rand_b (62).
 *
 * Order within a source rests on the pair (last_ms, counter), which only ever rises: a new
 * millisecond takes a fresh random counter below half its range, which leaves 2,048 ids of room;
 * the same or an earlier millisecond counts on; a counter that would overflow moves the timestamp
 * ahead by one (section 6.2, "monotonic random" with a fixed-length counter and rollover into the
 * timestamp).
 */
#include "common/base/uuid.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

enum { COUNTER_MAX = 0xfff, COUNTER_START_MASK = 0x7ff };

static const uint64_t TIMESTAMP_MAX = (UINT64_C(1) << 48) - 1;

static void refill(struct uuid_source *source) {
    unsigned char *out = (unsigned char *)source->random_pool;
    size_t left = sizeof source->random_pool;
    while (left > 0) {
        ssize_t n = getrandom(out, left, 0);
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            /* Ids that repeat would corrupt the log; a kernel without random numbers is not one to
             * run on. */
            abort();
        }
        out += n;
        left -= (size_t)n;
    }
    source->random_left = ARRAY_LEN(source->random_pool);
}

static uint64_t random_u64(struct uuid_source *source) {
    if (source->random_left == 0) {
        refill(source);
    }
    return source->random_pool[--source->random_left];
}

void uuid_source_init(struct uuid_source *source) {
    *source = (struct uuid_source){0};
}

struct uuid uuid_next(struct uuid_source *source, int64_t wall_us) {
    uint64_t now_ms = wall_us > 0 ? (uint64_t)wall_us / 1000 : 0;
    uint64_t random = random_u64(source);
    if (now_ms > source->last_ms) {
        source->last_ms = now_ms;
        source->counter = (uint16_t)(random_u64(source) & COUNTER_START_MASK);
    } else if (source->counter < COUNTER_MAX) {
        source->counter++;
    } else {
        source->last_ms++;
        source->counter = (uint16_t)(random_u64(source) & COUNTER_START_MASK);
    }
    assert(source->last_ms <= TIMESTAMP_MAX); /* the year 10889 */

    struct uuid id;
    for (size_t i = 0; i < 6; i++) {
        id.bytes[i] = (uint8_t)(source->last_ms >> (8 * (5 - i)));
    }
    id.bytes[6] = (uint8_t)(0x70 | source->counter >> 8);
    id.bytes[7] = (uint8_t)source->counter;
    for (size_t i = 0; i < 8; i++) {
        id.bytes[8 + i] = (uint8_t)(random >> (8 * (7 - i)));
    }
    id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3f) | 0x80);
    return id;
}

static bool is_dash_place(size_t i) {
    return i == 8 || i == 13 || i == 18 || i == 23;
}

void uuid_format(char out[UUID_TEXT_BYTES], const struct uuid *uuid) {
    static const char hex[] = "0123456789abcdef";
    size_t at = 0;
    for (size_t i = 0; i < sizeof uuid->bytes; i++) {
        if (is_dash_place(at)) {
            out[at++] = '-';
        }
        out[at++] = hex[uuid->bytes[i] >> 4];
        out[at++] = hex[uuid->bytes[i] & 0xf];
    }
    out[at] = '\0';
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

bool uuid_parse(struct str text, struct uuid *out) {
    if (text.len != UUID_TEXT_BYTES - 1) {
        return false;
    }
    struct uuid parsed;
    size_t byte = 0;
    for (size_t i = 0; i < text.len;) {
        if (is_dash_place(i)) {
            if (text.ptr[i++] != '-') {
                return false;
            }
            continue;
        }
        int high = hex_value(text.ptr[i]);
        int low = hex_value(text.ptr[i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        parsed.bytes[byte++] = (uint8_t)(high << 4 | low);
        i += 2;
    }
    *out = parsed;
    return true;
}
