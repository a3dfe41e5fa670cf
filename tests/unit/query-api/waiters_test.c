#include "query-api/waiters.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { COUNT = 500 };

static struct waiters waiters;
static struct waiter all[COUNT];

static void set_up(void) {
    waiters_init(&waiters, COUNT);
}

static void tear_down(void) {
    waiters_release(&waiters);
}

TestSuite(waiters, .init = set_up, .fini = tear_down);

static uint32_t random_state = 12345;

static int64_t random_due(void) {
    random_state = random_state * 1103515245u + 12345u;
    return (random_state >> 8) % 1000;
}

/* Takes all out; each must be due no earlier than the one before. */
static size_t take_all_in_order(void) {
    struct waiter *first = NULL;
    int64_t last_us = INT64_MIN;
    size_t taken = 0;

    while ((first = waiters_first(&waiters)) != NULL) {
        cr_assert_geq(first->due_us, last_us);
        last_us = first->due_us;
        waiters_remove(&waiters, first);
        cr_assert_eq(first->place, 0);
        taken++;
    }
    return taken;
}

Test(waiters, come_out_in_the_order_they_are_due) {
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert(waiters_add(&waiters, &all[i], random_due()));
    }
    cr_expect_eq(take_all_in_order(), COUNT);
}

Test(waiters, keep_their_order_when_moved_and_removed_at_random) {
    size_t left = COUNT;

    for (size_t i = 0; i < COUNT; i++) {
        cr_assert(waiters_add(&waiters, &all[i], random_due()));
    }
    for (size_t i = 0; i < COUNT; i++) {
        if (i % 3 == 0) {
            waiters_remove(&waiters, &all[i]);
            left--;
        } else {
            waiters_move(&waiters, &all[i], random_due());
        }
    }
    cr_expect_eq(take_all_in_order(), left);
}

Test(waiters, are_not_more_than_the_maximum) {
    struct waiter one_more = {0};

    for (size_t i = 0; i < COUNT; i++) {
        cr_assert(waiters_add(&waiters, &all[i], 1));
    }
    cr_expect_not(waiters_add(&waiters, &one_more, 0));
    waiters_remove(&waiters, &all[7]);
    cr_expect(waiters_add(&waiters, &one_more, 0));
    cr_expect_eq(waiters_first(&waiters), &one_more);
}

Test(waiters, removing_one_that_does_not_wait_does_nothing) {
    struct waiter stranger = {0};

    cr_assert(waiters_add(&waiters, &all[0], 1));
    waiters_remove(&waiters, &stranger);
    cr_expect_eq(waiters_first(&waiters), &all[0]);
}

Test(waiters, all_can_be_made_due_at_once) {
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert(waiters_add(&waiters, &all[i], random_due()));
    }
    waiters_all_due(&waiters, 5);
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert_eq(all[i].due_us, 5);
    }
    cr_expect_eq(take_all_in_order(), COUNT);
}

Test(waiters, look_often_at_first_and_seldom_later) {
    cr_expect_eq(waiters_interval_us(0, 1), 2000);
    cr_expect_eq(waiters_interval_us(4000, 1), 2000);
    cr_expect_eq(waiters_interval_us(40000, 1), 20000);
    cr_expect_eq(waiters_interval_us(10000000, 0), 50000);
    cr_expect_eq(waiters_interval_us(100000000, 5000), 5050000);
}
