/*
 * API keys, of which only hashes are kept. A line each:
 *
 *   # name   scopes      key
 *   billing  read,write  sha256:6f0b…64 digits
 *
 * Keys are random and long, so a plain SHA-256 protects them: there is nothing to guess.
 */
#ifndef DAYBOOK_AUTH_API_KEYS_H
#define DAYBOOK_AUTH_API_KEYS_H

#include "common/auth/subject.h"
#include "common/base/err.h"

enum { API_KEYS_MAX = 1024 };

struct api_keys;

/* ERR_INVALID names the line that is wrong, ERR_LIMIT: more than API_KEYS_MAX. */
MUST_CHECK enum err_code api_keys_parse(struct str text, struct api_keys **out, struct err *err);
void api_keys_free(struct api_keys *keys);
size_t api_keys_count(const struct api_keys *keys);
/* Takes as long for a known key as for an unknown one. False: unknown. */
MUST_CHECK bool api_keys_find(const struct api_keys *keys, struct str key,
                              struct auth_subject *out);

#endif
