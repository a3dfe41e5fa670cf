/* UUID version 7 (RFC 9562 section 5.7): ordered by time within a generator, the rest random. */
#ifndef DAYBOOK_BASE_UUID_H
#define DAYBOOK_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/str.h"

struct uuid {
    uint8_t bytes[16];
};

enum { UUID_TEXT_BYTES = 37 }; /* 36 characters and the NUL */

/* One per thread. Strictly increasing, also when the clock stands still or steps back (RFC 9562
 * section 6.2). */
struct uuid_source {
    uint64_t last_ms;
    uint16_t counter;         /* rand_a: 12 bits, counts within a millisecond */
    uint64_t random_pool[32]; /* from getrandom(2) */
    uint32_t random_left;
};

void uuid_source_init(struct uuid_source *source);
struct uuid uuid_next(struct uuid_source *source, int64_t wall_us);

void uuid_format(char out[UUID_TEXT_BYTES], const struct uuid *uuid);
/* The 8-4-4-4-12 form, upper or lower case; any version. */
MUST_CHECK bool uuid_parse(struct str text, struct uuid *out);

#endif
