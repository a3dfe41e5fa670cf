/* What scripts/stack.sh env says of the stack under test, and what tests do to it. */
#ifndef DAYBOOK_TESTS_SUPPORT_ENVIRONMENT_H
#define DAYBOOK_TESTS_SUPPORT_ENVIRONMENT_H

#include <stdbool.h>

/* The variable's value; the test fails when it is not set. */
const char *stack_environment(const char *name);
/* base + path in a static buffer (four in turn). */
const char *url_of(const char *base_variable, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* An id that no other test and no other run uses; static, eight in turn. */
const char *fresh_id(const char *prefix);
/* scripts/stack.sh VERB NAME; true when it exits 0. */
bool stack(const char *verb, const char *name);
/* A signal to a process of the stack. */
void stack_signal(const char *name, int signal);
/* Calls fn until it is true, at most limit_ms. */
bool eventually(bool (*fn)(void *arg), void *arg, int limit_ms);
/* Seconds on the monotonic clock. */
double now_seconds(void);
void pause_ms(long ms);

#endif
