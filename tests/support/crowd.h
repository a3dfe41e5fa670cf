/* Many clients at once: threads that run one function. They must not use Criterion's assertions:
 * they write down what they saw, and the test judges when they have ended. */
#ifndef DAYBOOK_TESTS_SUPPORT_CROWD_H
#define DAYBOOK_TESTS_SUPPORT_CROWD_H

#include <stddef.h>

enum { CROWD_MAX = 512 };

struct crowd;

/* `index` is 0 … count - 1. */
typedef void crowd_fn(void *context, size_t index);

struct crowd *crowd_start(size_t count, crowd_fn *fn, void *context);
/* Waits for all and frees it. */
void crowd_join(struct crowd *crowd);
/* Both. */
void crowd_run(size_t count, crowd_fn *fn, void *context);

/* Small pseudo-random numbers, reproducible; each client seeds its own. */
unsigned crowd_random(unsigned *state);

#endif
