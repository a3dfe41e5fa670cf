/* Who asks for a rebuild while another is at work is refused, and the other goes on. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "../support/environment.h"
#include "../support/shell.h"

static char output[65536];

/* In every store of every projection; the last partition is claimed last. */
static bool is_building(void *arg) {
    (void)arg;
    return atoi(redis_command("EXISTS '{p5}:checkpoint:accounts#build'"
                              " '{p5}:checkpoint:statements#build'")) == 2 &&
           atoi(read_model_sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                               " AND granted")) >= 3;
}

TestSuite(rebuild_twice, .timeout = 120);

Test(rebuild_twice, the_second_is_refused_and_the_first_goes_on) {
    int status = 0;

    /* Without what one that was killed has left. */
    cr_assert_eq(projector_command(output, sizeof(output), NULL, "rebuild all"), 0, "%s", output);
    const pid_t pid = projector_start_rebuild();
    cr_assert(eventually(is_building, NULL, 10000));
    cr_assert_eq(kill(pid, SIGSTOP), 0);
    const int second = projector_command(output, sizeof(output), NULL, "rebuild all");
    (void)kill(pid, SIGCONT);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_neq(second, 0);
    cr_assert_not_null(strstr(output, "by another process"), "%s", output);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the first has failed");
    cr_assert_eq(projector_command(output, sizeof(output), NULL, "verify"), 0, "%s", output);
}
