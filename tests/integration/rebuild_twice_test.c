/* Who asks for a rebuild while another is at work is refused, and the other goes on. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/wait.h>

#include "../support/held_rebuild.h"
#include "../support/shell.h"

TestSuite(rebuild_twice, .timeout = 120);

static void begin_a_second(enum held_at point) {
    int status = 0;

    /* Without what one that was killed has left. */
    projector_expect("rebuild all");
    struct held_rebuild *held = rebuild_hold(point);
    const pid_t pid = projector_start_rebuild();
    rebuild_await_held(held);
    const int second = projector_command("rebuild all");
    rebuild_let_go(held);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_neq(second, 0);
    cr_assert_not_null(strstr(projector_output(), "by another process"), "%s", projector_output());
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the first has failed");
    projector_expect("verify");
}

Test(rebuild_twice, the_second_is_refused_and_the_first_goes_on) {
    begin_a_second(HELD_WITH_PLACES);
}

Test(rebuild_twice, the_second_is_refused_while_the_first_switches) {
    begin_a_second(HELD_AT_SWITCHING);
}
