/*
 * Keys that sign tokens: a JSON Web Key Set (RFC 7517). Each has its algorithm, and signs with no
 * other: {"kty":"oct","alg":"HS256","k":…} of at least 32 bytes, {"kty":"RSA","alg":"RS256","n":…,
 * "e":…} of 2048 to 8192 bits. "kid" tells them apart; "use", where given, must be "sig". Keys for
 * other algorithms are passed over.
 */
#ifndef DAYBOOK_AUTH_JWT_KEYS_H
#define DAYBOOK_AUTH_JWT_KEYS_H

#include "common/base/err.h"
#include "common/base/str.h"

enum { JWT_KEYS_MAX = 64 };

enum jwt_algorithm { JWT_HS256, JWT_RS256 };

struct jwt_keys;

/* ERR_INVALID: not a key set, an ill-formed or weak key, or none that is of use. */
MUST_CHECK enum err_code jwt_keys_parse(struct str text, struct jwt_keys **out, struct err *err);
void jwt_keys_free(struct jwt_keys *keys);
size_t jwt_keys_count(const struct jwt_keys *keys);
/* Is it the signature of a key of that algorithm? `kid` len 0: of any; a key without kid is asked
 * for every kid. */
MUST_CHECK bool jwt_keys_verify(const struct jwt_keys *keys, enum jwt_algorithm algorithm,
                                struct str kid, struct str signed_text, struct str signature);

#endif
