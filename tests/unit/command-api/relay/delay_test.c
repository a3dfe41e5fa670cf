#include "command-api/relay/delay.h"

#include <criterion/criterion.h>

Test(delay, nothing_on_its_way_takes_no_time) {
    struct delay delay = {0};

    cr_assert_eq(delay_us(&delay, 500), 0);
    delay_given(&delay, 1000);
    delay_acknowledged(&delay, 1100);
    cr_assert_eq(delay_us(&delay, 9000), 0);
}

Test(delay, counts_from_when_the_first_was_given) {
    struct delay delay = {0};

    delay_given(&delay, 1000);
    delay_given(&delay, 5000);
    cr_assert_eq(delay_us(&delay, 6000), 5000);
}

/* A publisher that keeps up, with always something on its way, is not late. */
Test(delay, what_is_given_later_counts_from_later) {
    struct delay delay = {0};

    for (int64_t now = 0; now < 100000; now += 10) {
        delay_given(&delay, now);
        if (delay.given > 5) {
            delay_acknowledged(&delay, now);
        }
        cr_assert_leq(delay_us(&delay, now), 200);
    }
}

Test(delay, the_oldest_is_never_older_than_it_says) {
    struct delay delay = {0};

    /* Two are given for each that is acknowledged: record n was given at 10 n. */
    for (int64_t i = 0; i < 1000; i++) {
        const int64_t now = 20 * i;
        delay_given(&delay, now);
        delay_given(&delay, now);
        delay_acknowledged(&delay, now);
        const int64_t oldest_us = now - 10 * (int64_t)delay.acknowledged;
        cr_assert_geq(delay_us(&delay, now) + 20, oldest_us);
    }
}
