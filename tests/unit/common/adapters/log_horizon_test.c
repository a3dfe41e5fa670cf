#include "common/adapters/log_horizon.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct log_look look_begun(const struct log_horizon *horizon) {
    struct log_look look = {0};

    log_horizon_begin(horizon, &look);
    return look;
}

static void see(struct log_horizon *horizon, struct log_look look, int64_t newest,
                const char *holders) {
    look.newest = newest;
    log_look_set_holders(&look, str_from(holders));
    log_horizon_advance(horizon, &look);
}

Test(log_horizon, without_writers_all_that_is_visible_is_settled) {
    struct log_horizon horizon = {0};

    see(&horizon, look_begun(&horizon), 7, "");
    cr_expect_eq(horizon.settled, 7);
}

Test(log_horizon, what_was_visible_is_settled_when_those_who_wrote_then_are_gone) {
    struct log_horizon horizon = {0};

    see(&horizon, look_begun(&horizon), 7, "3/10 4/20");
    cr_expect_eq(horizon.settled, 0);
    see(&horizon, look_begun(&horizon), 9, "4/20 5/1");
    cr_expect_eq(horizon.settled, 0, "4/20 may still take a smaller one's place");
    see(&horizon, look_begun(&horizon), 12, "4/21 5/1");
    cr_expect_eq(horizon.settled, 7);
    see(&horizon, look_begun(&horizon), 13, "6/1");
    cr_expect_eq(horizon.settled, 12);
}

Test(log_horizon, a_look_that_began_earlier_proves_nothing) {
    struct log_horizon horizon = {0};
    const struct log_look early = look_begun(&horizon);

    see(&horizon, look_begun(&horizon), 7, "3/10");
    see(&horizon, early, 6, "2/1"); /* taken before 3/10 came */
    cr_expect_eq(horizon.settled, 0);
}

Test(log_horizon, begins_anew_when_the_log_has_become_shorter) {
    struct log_horizon horizon = {0};

    see(&horizon, look_begun(&horizon), 100, "");
    see(&horizon, look_begun(&horizon), 50, "3/1");
    cr_expect_eq(horizon.settled, 0);
    see(&horizon, look_begun(&horizon), 51, "");
    cr_expect_eq(horizon.settled, 51);
}

Test(log_horizon, more_writers_than_it_can_hold_settle_nothing) {
    struct log_horizon horizon = {0};
    char holders[16 * (LOG_HORIZON_HOLDERS_MAX + 1)] = "";
    size_t len = 0;

    for (int i = 0; i <= LOG_HORIZON_HOLDERS_MAX; i++) {
        len += (size_t)snprintf(holders + len, sizeof(holders) - len, "%s%d/%d", i > 0 ? " " : "",
                                i, i);
    }
    see(&horizon, look_begun(&horizon), 9, holders);
    cr_expect_eq(horizon.settled, 0);
    see(&horizon, look_begun(&horizon), 9, "");
    cr_expect_eq(horizon.settled, 9);
}

/* A model of writers that take positions and commit in any order: whatever is called settled stays
 * as it is for ever after. */
Test(log_horizon, never_calls_settled_what_can_still_change, .timeout = 60) {
    enum { WRITERS = 4, STEPS = 200000, POSITIONS = STEPS * 2 };
    static int state[POSITIONS]; /* 0: not taken, 1: taken, 2: visible, 3: given up */
    struct log_horizon horizon = {0};
    struct {
        int number; /* of its transaction; 0: none */
        int first, last;
    } writers[WRITERS] = {0};
    struct log_look look = {0};
    bool looking = false;
    int numbers = 0;
    int next = 1;
    unsigned random = 42;
    int64_t checked = 0;

    for (int step = 0; step < STEPS; step++) {
        const int who = rand_r(&random) % WRITERS;
        switch (rand_r(&random) % 5) {
        case 0: /* begins, which takes the lock */
            if (writers[who].number == 0) {
                writers[who].number = ++numbers;
                writers[who].first = writers[who].last = 0;
            }
            break;
        case 1: /* takes a position (one each, so that they are known as a range) */
            if (writers[who].number != 0 && writers[who].first == 0) {
                writers[who].first = writers[who].last = next;
                state[next++] = 1;
            }
            break;
        case 2: /* commits or gives up, then lets go of the lock */
            if (writers[who].number != 0) {
                if (writers[who].first > 0) {
                    cr_assert_gt(writers[who].first, horizon.settled);
                    state[writers[who].first] = rand_r(&random) % 4 == 0 ? 3 : 2;
                }
                writers[who].number = 0;
            }
            break;
        case 3: /* a look begins: its snapshot */
            if (!looking) {
                looking = true;
                look = look_begun(&horizon);
                for (int i = next - 1; i > 0 && look.newest == 0; i--) {
                    look.newest = state[i] == 2 ? i : 0;
                }
            }
            break;
        default: /* and ends: the locks */
            if (looking) {
                char holders[256] = "";
                size_t len = 0;
                for (int i = 0; i < WRITERS; i++) {
                    if (writers[i].number != 0) {
                        len += (size_t)snprintf(holders + len, sizeof(holders) - len, "%s%d/%d",
                                                len > 0 ? " " : "", i, writers[i].number);
                    }
                }
                looking = false;
                log_look_set_holders(&look, str_from(holders));
                log_horizon_advance(&horizon, &look);
                checked += horizon.settled > 0;
            }
            break;
        }
    }
    cr_expect_gt(checked, 1000);
    cr_expect_gt(horizon.settled, next / 2, "it does not get on");
}
