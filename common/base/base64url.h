/* base64url without padding (RFC 4648 section 5, as JWTs have it), strictly. */
#ifndef DAYBOOK_BASE_BASE64URL_H
#define DAYBOOK_BASE_BASE64URL_H

#include "common/base/str.h"

/* Decodes all of `text` to `out`; *len: how many bytes. False: a foreign character, padding, bits
 * left over, a length that can't be, or no room. */
MUST_CHECK bool base64url_decode(struct str text, uint8_t *out, size_t out_bytes, size_t *len);

#endif
