/* What stands in the event log, read straight from the database, and what a test does to it. */
#ifndef DAYBOOK_TESTS_SUPPORT_EVENT_LOG_H
#define DAYBOOK_TESTS_SUPPORT_EVENT_LOG_H

#include <stdbool.h>

/* The first row's first column, "" when there is none or it is NULL; static, eight in turn. `a` and
 * `b` are $1 and $2 of the statement, NULL when it has none. A server that is away is asked again
 * for half a minute. Not for threads. */
const char *log_text(const char *sql, const char *a, const char *b);
long long log_number(const char *sql, const char *a, const char *b);

/* Fails the test unless every stream whose id starts with `prefix` has versions 1, 2, 3, …, its
 * balances are the running sums, its recorded times never step back and its event ids are UUIDs of
 * version 7. Returns how many events there are. */
long long log_expect_sound(const char *prefix);

/* Whoever appends this version of the account, or this key to it (NULL: none), waits until the hold
 * is released; then it is as if nothing had been. Nobody else is concerned. */
struct log_hold;
struct log_hold *log_hold(const char *stream, long long version, const char *key);
void log_release(struct log_hold *hold);
/* Waits until exactly `count` sessions with this application_name wait for a lock. */
void log_expect_waiting(const char *application_name, int count);

/* Any statement, as the superuser. */
void log_execute(const char *sql);

/* An event in the log as another writer would have left it: a deposit of 1.00. `recorded_at` is an
 * SQL expression. */
void log_write_elsewhere(const char *stream, long long version, long long balance_minor,
                         const char *recorded_at);

#endif
