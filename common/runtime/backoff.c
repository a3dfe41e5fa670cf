#include "common/runtime/backoff.h"

#include <sys/random.h>

#include "common/base/clock.h"

void backoff_init(struct backoff *backoff, int64_t first_ms, int64_t cap_ms) {
    *backoff = (struct backoff){.first_ms = first_ms, .cap_ms = cap_ms};
    if (getrandom(&backoff->random_state, sizeof(backoff->random_state), GRND_NONBLOCK) < 0) {
        backoff->random_state = (uint64_t)clock_monotonic_us();
    }
    backoff->random_state |= 1;
}

/* xorshift64 (G. Marsaglia, "Xorshift RNGs", 2003). */
static uint64_t next_random(struct backoff *backoff) {
    uint64_t x = backoff->random_state;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    backoff->random_state = x;
    return x;
}

int64_t backoff_next_ms(struct backoff *backoff) {
    int64_t full = backoff->first_ms;

    for (uint32_t i = 0; i < backoff->tries && full < backoff->cap_ms; i++) {
        full *= 2;
    }
    if (full > backoff->cap_ms) {
        full = backoff->cap_ms;
    }
    backoff->tries++;
    const uint64_t half = (uint64_t)(full / 2);
    return full - (int64_t)half + (int64_t)(next_random(backoff) % (half + 1));
}

void backoff_reset(struct backoff *backoff) {
    backoff->tries = 0;
}
