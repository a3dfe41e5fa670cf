#include "command-api/relay/pace.h"

/* What is taken in a window without gathering; what each millisecond of gathering needs; its limit;
 * and how many changes a look is to bring: more need no gathering, and a backlog is not slowed
 * down. */
enum { WINDOW_MS = 16, AT_ONCE = 20, PER_MS = 2, MOST_MS = 4, ENOUGH = 64 };

void pace_note(struct pace *pace, int64_t now_us, uint32_t taken) {
    if (now_us >= pace->window_ends_at_us) {
        /* After a pause of a whole window nothing was taken in the last one. */
        pace->before =
            now_us < pace->window_ends_at_us + WINDOW_MS * INT64_C(1000) ? pace->taken : 0;
        pace->taken = 0;
        pace->window_ends_at_us = now_us + WINDOW_MS * INT64_C(1000);
    }
    pace->taken += taken;
}

int pace_gather_ms(const struct pace *pace) {
    const uint32_t most = pace->taken > pace->before ? pace->taken : pace->before;

    if (most < AT_ONCE + PER_MS) {
        return 0;
    }
    const uint32_t afforded_ms = (most - AT_ONCE) / PER_MS;
    const uint32_t needed_ms = ENOUGH * WINDOW_MS / most;
    const uint32_t gather_ms = afforded_ms < needed_ms ? afforded_ms : needed_ms;
    return (int)(gather_ms < MOST_MS ? gather_ms : MOST_MS);
}
