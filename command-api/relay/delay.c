#include "command-api/relay/delay.h"

static void mark(struct delay *delay, int64_t now_us) {
    delay->marked = delay->given;
    delay->marked_at_us = now_us;
}

void delay_given(struct delay *delay, int64_t now_us) {
    if (delay->given++ == delay->acknowledged) {
        mark(delay, now_us);
        delay->marked_before_at_us = now_us;
    }
}

void delay_acknowledged(struct delay *delay, int64_t now_us) {
    if (++delay->acknowledged >= delay->marked) {
        delay->marked_before_at_us = delay->marked_at_us;
        mark(delay, now_us);
    }
}

int64_t delay_us(const struct delay *delay, int64_t now_us) {
    return delay->given > delay->acknowledged ? now_us - delay->marked_before_at_us : 0;
}
