/* Commands on accounts and their answers as flat structs: for threads and for tests that compare
 * many of them. */
#ifndef DAYBOOK_TESTS_SUPPORT_COMMAND_H
#define DAYBOOK_TESTS_SUPPORT_COMMAND_H

#include <stdbool.h>

struct command {
    const char *base;   /* "http://127.0.0.1:8081" */
    const char *stream; /* the account's id */
    const char *action; /* "deposit", "withdraw", "close"; NULL opens the account */
    long long amount_minor;
    const char *key; /* NULL: none; so with all below */
    const char *correlation_id;
    const char *causation_id;
    const char *actor;
    const char *traceparent;
    const char *condition; /* "If-Match: \"3\"", "If-None-Match: *" */
    long timeout_ms;       /* 0: 20 s */
    bool own_connection;   /* see http_client.h */
};

struct reply {
    int status;              /* 0: none */
    long long version;       /* as the body says; 0: it doesn't */
    long long etag;          /* as the header says */
    long long balance_minor; /* -1: none */
    bool replayed;
    bool retry_after;
    char code[48]; /* of a problem */
    char body[1024];
    double seconds;
};

/* Safe in threads: no assertion inside. */
struct reply command_send(const struct command *command);
/* For the test's own thread: fails unless the status is that one. */
struct reply command_expect(const struct command *command, int status);
/* Opens an account with a fresh id at `base`; static, eight in turn. Waits out a database that is
 * just coming back. */
const char *command_open(const char *base, const char *prefix);

#endif
