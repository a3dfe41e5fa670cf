/* What an operator has declared void stays void, whatever a rebuild finds: it stands in no log. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "../support/command.h"
#include "../support/environment.h"
#include "../support/held_rebuild.h"
#include "../support/http_client.h"
#include "../support/shell.h"
#include "../support/topic.h"

/* In both stores of accounts and statements, in PostgreSQL for activity. */
static bool is_parked(void *arg) {
    return projector_parked_lines(arg) == 5;
}

static bool is_at(const char *id, int version) {
    struct http_answer a = http_get(
        url_of("DAYBOOK_TEST_GATEWAY", "/accounts/%s?min_version=%d&timeout_ms=5000", id, version));
    const bool is = a.status == 200 && http_answer_number(&a, "version") == version;

    http_answer_release(&a);
    return is;
}

/* Version 4 is there, versions 2 and 3 are missing. */
static void make_gap(char id[96]) {
    (void)snprintf(id, 96, "%s",
                   command_open(stack_environment("DAYBOOK_TEST_COMMAND_API"), "voids"));
    topic_append_event(id, 4, "{\"amount_minor\":100,\"balance_minor\":300,\"currency\":\"USD\"}");
    cr_assert(eventually(is_parked, id, 20000), "%s", projector_output());
}

static void begin(void) {
    projector_expect("rebuild all");
}

static void leave_running(void) {
    (void)stack("start", "projector");
}

TestSuite(rebuild_voids, .timeout = 120, .init = begin, .fini = leave_running);

/* Nobody has filled it again when it is rebuilt: no log tells what is void. */
Test(rebuild_voids, a_store_that_lost_its_data_learns_them_from_the_other) {
    char id[96];

    make_gap(id);
    projector_parked("discard", id);
    cr_assert(is_at(id, 4));
    cr_assert(stack("stop", "projector"));
    (void)redis_command("FLUSHALL");
    projector_expect("rebuild all");
    projector_expect("verify");
    cr_assert(stack("start", "projector"));
    cr_assert(is_at(id, 4));
    topic_append_event(id, 5, "{\"amount_minor\":100,\"balance_minor\":400,\"currency\":\"USD\"}");
    cr_assert(is_at(id, 5), "it is parked once more");
    projector_expect("verify");
}

/* The model that is being built would not have it. */
Test(rebuild_voids, none_is_declared_while_a_rebuild_is_at_work) {
    char id[96];
    char words[256];
    int status = 0;

    make_gap(id);
    struct held_rebuild *held = rebuild_hold(HELD_AT_SWITCHING);
    const pid_t pid = projector_start_rebuild();
    rebuild_await_held(held);
    (void)snprintf(words, sizeof(words), "parked discard accounts '%s'", id);
    cr_assert_neq(projector_command(words), 0, "%s", projector_output());
    cr_assert_not_null(strstr(projector_output(), "being rebuilt"), "%s", projector_output());
    rebuild_let_go(held);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the rebuild has failed");
    cr_assert(eventually(is_parked, id, 20000), "%s", projector_output());
    projector_parked("discard", id);
    cr_assert(is_at(id, 4));
    projector_expect("verify");
}
