/* Waits between tries: doubling from first_ms to cap_ms, each with random jitter of half its length
 * ("equal jitter", M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). */
#ifndef DAYBOOK_RUNTIME_BACKOFF_H
#define DAYBOOK_RUNTIME_BACKOFF_H

#include <stdint.h>

struct backoff {
    int64_t first_ms, cap_ms;
    uint32_t tries;
    uint64_t random_state;
};

void backoff_init(struct backoff *backoff, int64_t first_ms, int64_t cap_ms);
int64_t backoff_next_ms(struct backoff *backoff);
void backoff_reset(struct backoff *backoff); /* after a success */

#endif
