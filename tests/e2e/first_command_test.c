/* The very first command on a stack that was made this moment, and the read right behind it. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "../support/environment.h"
#include "../support/shell.h"

enum { PORTS_FURTHER = 200 };

/* A stack beside the one under test. */
#define FRESH                                                                                               \
    "unset DAYBOOK_STATE_DIR; export DAYBOOK_STACK=$DAYBOOK_TEST_STACK-fresh OBSERVABILITY=0 PROJECTORS=1 " \
    "DAYBOOK_PORT_OFFSET=$((DAYBOOK_PORT_OFFSET + %d)); "

TestSuite(first_command, .timeout = 300);

static char output[16384];

static void reset(void) {
    (void)shell(output, sizeof(output), FRESH "FORCE=1 scripts/stack.sh reset 2>&1", PORTS_FURTHER);
}

Test(first_command, is_read_back_at_once, .init = reset, .fini = reset) {
    cr_assert_eq(shell(output, sizeof(output), FRESH "scripts/stack.sh up 2>&1", PORTS_FURTHER), 0,
                 "%s", output);
    /* Nobody has asked this stack anything before. */
    cr_assert_eq(
        shell(output, sizeof(output),
              FRESH "eval \"$(scripts/stack.sh env)\"; "
                    "curl -sS -m 20 -H 'Content-Type: application/json' -d '{\"id\":\"first\"}' "
                    "\"$DAYBOOK_TEST_GATEWAY/accounts\" && curl -sSi -m 20 "
                    "\"$DAYBOOK_TEST_GATEWAY/accounts/first?min_version=1&timeout_ms=10000\" 2>&1",
              PORTS_FURTHER),
        0, "%s", output);
    cr_expect_not_null(strstr(output, "HTTP/1.1 200 "), "%s", output);
    cr_expect_not_null(strstr(output, "Daybook-Source: redis"), "%s", output);
    cr_expect_not_null(strstr(output, "\"id\":\"first\",\"version\":1,"), "%s", output);
}
