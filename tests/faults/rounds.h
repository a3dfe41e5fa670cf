/* How long the tests of this folder take: DAYBOOK_FAULT_ROUNDS, 1 unless set (`make test`). */
#ifndef DAYBOOK_TESTS_FAULTS_ROUNDS_H
#define DAYBOOK_TESTS_FAULTS_ROUNDS_H

#include <stdlib.h>
#include <unistd.h>

#include "../support/event_log.h"

/* 1 … 1000. */
static inline int fault_rounds(void) {
    const char *text = getenv("DAYBOOK_FAULT_ROUNDS");
    const long rounds = text != NULL ? strtol(text, NULL, 10) : 1;

    return rounds < 1 ? 1 : rounds > 1000 ? 1000 : (int)rounds;
}

/* For .timeout of a suite: no test of any number of rounds runs into it by being slow. */
enum { FAULT_TIMEOUT_S = 86400, FAULT_ROUND_LIMIT_S = 90 };

/* Each suite begins with it: a test that hangs is ended by SIGALRM after a time that grows with the
 * rounds. The log is searched by correlation id for each answer, and holds what other tests left.
 */
static inline void fault_begin(void) {
    log_execute("DO $$ BEGIN IF to_regclass('daybook.events_correlation') IS NULL THEN"
                " CREATE INDEX events_correlation ON daybook.events (correlation_id);"
                " END IF; END $$");
    (void)alarm((unsigned)(FAULT_ROUND_LIMIT_S * fault_rounds()));
}

#endif
