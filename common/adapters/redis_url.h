/* redis://[user][:password]@host[:port][/database]: what a Redis client needs, out of its URL. */
#ifndef DAYBOOK_ADAPTERS_REDIS_URL_H
#define DAYBOOK_ADAPTERS_REDIS_URL_H

#include <stdint.h>

#include "common/base/err.h"
#include "common/base/str.h"

enum { REDIS_URL_PART_BYTES = 256, REDIS_URL_DATABASE_MAX = 1023 };

struct redis_url {
    char host[REDIS_URL_PART_BYTES];
    char user[REDIS_URL_PART_BYTES];     /* "": none */
    char password[REDIS_URL_PART_BYTES]; /* "": none */
    uint16_t port;                       /* 6379 when absent */
    int64_t database;                    /* 0 when absent */
};

/* User and password may be percent-encoded; an IPv6 host stands in brackets. ERR_INVALID says what
 * is wrong without repeating the password. */
MUST_CHECK enum err_code redis_url_parse(struct str url, struct redis_url *out, struct err *err);

#endif
