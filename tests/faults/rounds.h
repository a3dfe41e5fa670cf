/* How long the tests of this folder take: DAYBOOK_FAULT_ROUNDS, 1 unless set (`make test`). */
#ifndef DAYBOOK_TESTS_FAULTS_ROUNDS_H
#define DAYBOOK_TESTS_FAULTS_ROUNDS_H

#include <stdlib.h>

/* 1 … 1000. */
static inline int fault_rounds(void) {
    const char *text = getenv("DAYBOOK_FAULT_ROUNDS");
    const long rounds = text != NULL ? strtol(text, NULL, 10) : 1;

    return rounds < 1 ? 1 : rounds > 1000 ? 1000 : (int)rounds;
}

/* For .timeout of a test: no test of any number of rounds runs into it by being slow. */
enum { FAULT_TIMEOUT_S = 7200 };

#endif
