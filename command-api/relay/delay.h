/*
 * How long a partition takes, told from the numbers of records given and acknowledged alone, since
 * a partition acknowledges in the order of giving: the time since a moment before which all that
 * had been given is acknowledged. The oldest record on its way is at most that old. Pure.
 */
#ifndef DAYBOOK_COMMAND_API_RELAY_DELAY_H
#define DAYBOOK_COMMAND_API_RELAY_DELAY_H

#include <stdint.h>

/* All zero: nothing was given. */
struct delay {
    uint64_t given;
    uint64_t acknowledged;
    uint64_t marked; /* what had been given at marked_at_us */
    int64_t marked_at_us;
    int64_t marked_before_at_us; /* the first mark */
};

void delay_given(struct delay *delay, int64_t now_us);
void delay_acknowledged(struct delay *delay, int64_t now_us);
/* What the oldest record on its way has waited at most; 0 when there is none. */
int64_t delay_us(const struct delay *delay, int64_t now_us);

#endif
