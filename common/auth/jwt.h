/*
 * JSON Web Tokens (RFC 7519) in JWS compact form, signed with HS256 or RS256.
 *
 *  1. The token's alg only chooses among keys that were made for it: "none", and an RSA key taken
 *     for a secret, have nothing to hold on to.
 *  2. Nothing of the claims is believed before the signature holds.
 *  3. exp, sub and aud must be there; nbf and iss are checked. A header with crit is refused: what
 *     it wants is not understood here (RFC 7515 section 4.1.11).
 *  4. scope lists what the bearer may do, separated by spaces (RFC 8693 section 4.2); words other
 *     than read, write, admin are other services'.
 */
#ifndef DAYBOOK_AUTH_JWT_H
#define DAYBOOK_AUTH_JWT_H

#include <stdint.h>

#include "common/auth/jwt_keys.h"
#include "common/auth/subject.h"

enum { JWT_BYTES_MAX = 4096 };

struct jwt_rules {
    const char *issuer;   /* "": not looked at */
    const char *audience; /* must be among the token's */
    int64_t leeway_s;
};

/* Has it the form of a token: three parts? */
bool jwt_looks_like(struct str text);
/* *out is set on AUTH_OK alone. AUTH_EXPIRED: all is right but exp. */
MUST_CHECK enum auth_verdict jwt_verify(const struct jwt_keys *keys, const struct jwt_rules *rules,
                                        struct str token, int64_t now_s, struct auth_subject *out);

#endif
