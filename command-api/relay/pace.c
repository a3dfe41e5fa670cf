#include "command-api/relay/pace.h"

/* What is taken in a window without gathering, and what each further millisecond needs: from 2,000
 * changes a second on, the longest from 4,500. */
enum { WINDOW_US = 16000, AT_ONCE = 32, PER_MS = 10 };

void pace_note(struct pace *pace, int64_t now_us, uint32_t taken) {
    if (now_us >= pace->window_ends_at_us) {
        /* After a pause of a whole window nothing was taken in the last one. */
        pace->before = now_us < pace->window_ends_at_us + WINDOW_US ? pace->taken : 0;
        pace->taken = 0;
        pace->window_ends_at_us = now_us + WINDOW_US;
    }
    pace->taken += taken;
}

int pace_gather_ms(const struct pace *pace) {
    const uint32_t most = pace->taken > pace->before ? pace->taken : pace->before;

    if (most < AT_ONCE + PER_MS) {
        return 0;
    }
    const uint32_t ms = (most - AT_ONCE) / PER_MS;
    return ms < PACE_GATHER_MS_MAX ? (int)ms : PACE_GATHER_MS_MAX;
}
