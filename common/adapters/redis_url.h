/*
 * redis://[user][:password]@host[:port][/database]: what a Redis client needs, out of its URL.
 * rediss:// is the same over TLS; then "?cacert=PATH&cert=PATH&key=PATH" may name PEM files: the CA
 * that vouches for the server (else the system's), our certificate and its key.
 */
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
    bool tls;
    char ca_path[REDIS_URL_PART_BYTES]; /* "": none; so with the two below */
    char certificate_path[REDIS_URL_PART_BYTES];
    char key_path[REDIS_URL_PART_BYTES];
};

/* User, password and paths may be percent-encoded; an IPv6 host stands in brackets. ERR_INVALID
 * says what is wrong without repeating the password. */
MUST_CHECK enum err_code redis_url_parse(struct str url, struct redis_url *out, struct err *err);

#endif
