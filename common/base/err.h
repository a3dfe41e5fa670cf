/*
 * Errors carry a class; nobody parses their text.
 *
 * A function that can fail returns enum err_code and takes `struct err *` last for the details. The
 * details are untouched on success. `err` may be NULL where the caller only wants the class.
 */
#ifndef DAYBOOK_BASE_ERR_H
#define DAYBOOK_BASE_ERR_H

#include <stdbool.h>

#include "common/base/attr.h"

enum err_code {
    ERR_OK = 0,
    ERR_INVALID,   /* the input is wrong and stays wrong */
    ERR_LIMIT,     /* a named maximum would be exceeded */
    ERR_NOT_FOUND, /* what was asked for does not exist */
    ERR_CONFLICT,  /* somebody else changed it first: load again, decide again */
    ERR_FENCED,    /* this writer has lost its right to write: stop, find out where things stand */
    ERR_UNAVAILABLE,     /* a dependency is down or refuses: nothing was done; retriable */
    ERR_TIMEOUT,         /* a bounded wait ended; retriable */
    ERR_OUTCOME_UNKNOWN, /* the connection died at commit: find out before answering */
    ERR_CORRUPT,         /* stored or received data contradict themselves; never retried blindly */
    ERR_CLOSED,          /* shutting down */
    ERR_INTERNAL,        /* a defect of this program */
};

enum { ERR_MESSAGE_BYTES = 512 };

struct err {
    enum err_code code;
    char message[ERR_MESSAGE_BYTES]; /* one line, NUL-terminated, no secret in it */
};

/* Fills `err` (when not NULL) and returns `code`, so that `return err_set(...)` reads as one step.
 */
enum err_code err_set(struct err *err, enum err_code code, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* Puts "context: " before the message already there. Returns err's code. */
enum err_code err_prefix(struct err *err, const char *format, ...) PRINTF_LIKE(2, 3);

/* True for the classes that may succeed when the same thing is tried again. */
bool err_retriable(enum err_code code);

/* A stable lower-case name such as "unavailable", for logs and metrics. */
const char *err_name(enum err_code code);

#endif
