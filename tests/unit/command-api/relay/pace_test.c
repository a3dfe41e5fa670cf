#include "command-api/relay/pace.h"

#include <criterion/criterion.h>

/* Milliseconds of gathering after a second of looks each millisecond that bring so many. */
static int gather_at(uint32_t changes_per_ms) {
    struct pace pace = {0};

    for (int64_t ms = 1; ms <= 1000; ms++) {
        pace_note(&pace, ms * 1000, changes_per_ms);
    }
    return pace_gather_ms(&pace);
}

Test(pace, with_little_to_do_nothing_is_gathered) {
    cr_assert_eq(gather_at(0), 0);
    cr_assert_eq(gather_at(1), 0);
}

Test(pace, much_is_gathered_and_never_for_long) {
    cr_assert_eq(gather_at(2), 4);
    cr_assert_eq(gather_at(10), 4);
    for (uint32_t changes_per_ms = 1; changes_per_ms < 1000; changes_per_ms++) {
        cr_assert_leq(gather_at(changes_per_ms), 4, "%u", changes_per_ms);
    }
}

Test(pace, a_backlog_is_not_slowed_down) {
    cr_assert_eq(gather_at(100), 0);
    cr_assert_eq(gather_at(1000), 0);
}

Test(pace, what_was_long_ago_is_forgotten) {
    struct pace pace = {0};

    pace_note(&pace, 1000, 160);
    cr_assert_gt(pace_gather_ms(&pace), 0);
    pace_note(&pace, 1000000, 1);
    cr_assert_eq(pace_gather_ms(&pace), 0);
}
