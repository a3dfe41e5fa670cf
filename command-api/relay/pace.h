/*
 * How long the relay gathers before it looks at the feed again. Each look costs wake-ups here, in
 * the sender, in librdkafka and in the broker, however little it brings. With little to do nothing
 * is gathered, and an event goes out at once; from 1,400 changes a second on it gathers: for 4 ms
 * from 1,800 on, never for more, and for less again where more than 16,000 come, as then each look
 * brings much. Pure: the caller tells the time.
 */
#ifndef DAYBOOK_COMMAND_API_RELAY_PACE_H
#define DAYBOOK_COMMAND_API_RELAY_PACE_H

#include <stdint.h>

struct pace {
    int64_t window_ends_at_us;
    uint32_t taken;  /* in this window */
    uint32_t before; /* in the last one */
};

/* So many changes were taken just now. */
void pace_note(struct pace *pace, int64_t now_us, uint32_t taken);
/* After a look that left nothing behind: the milliseconds. */
int pace_gather_ms(const struct pace *pace);

#endif
