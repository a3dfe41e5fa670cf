/* Whoever calls, once known, and what they may do. */
#ifndef DAYBOOK_AUTH_SUBJECT_H
#define DAYBOOK_AUTH_SUBJECT_H

#include "common/base/str.h"

enum { AUTH_SUBJECT_BYTES = 129 }; /* 128 and the NUL: what an event's actor may have */

enum auth_scope { AUTH_READ = 1, AUTH_WRITE = 2, AUTH_ADMIN = 4 };

struct auth_subject {
    char name[AUTH_SUBJECT_BYTES];
    unsigned scopes; /* of enum auth_scope */
};

enum auth_verdict {
    AUTH_OK,
    AUTH_MISSING, /* no credentials */
    AUTH_INVALID,
    AUTH_EXPIRED, /* valid but for its time */
    AUTH_VERDICTS,
};

/* "read", "write" or "admin"; 0: none of them. */
unsigned auth_scope_parse(struct str word);
const char *auth_scope_name(enum auth_scope scope);

#endif
