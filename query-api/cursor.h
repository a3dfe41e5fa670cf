/*
 * Cursors: where the next page begins, as opaque text. Base64url (RFC 4648 section 5, no padding)
 * of the place and a check over it, its purpose and its scope, so that garbage, a cursor of another
 * list or of another account is recognised. It guards against mistakes, not against forgers: a
 * cursor grants nothing.
 */
#ifndef DAYBOOK_QUERY_API_CURSOR_H
#define DAYBOOK_QUERY_API_CURSOR_H

#include "common/base/arena.h"

enum { CURSOR_PLACE_BYTES_MAX = 144 };

struct cursor_kind {
    const char *purpose; /* "transactions" */
    struct str scope;    /* the account's id, or empty */
};

/* `ptr` is NULL when the arena's limit would be exceeded. */
MUST_CHECK struct str cursor_encode(struct arena *arena, const struct cursor_kind *kind,
                                    struct str place);
/* False when `text` is not a cursor of this kind. */
MUST_CHECK bool cursor_decode(struct str text, const struct cursor_kind *kind,
                              char place[CURSOR_PLACE_BYTES_MAX], size_t *place_len);

/* The same for a place that is a positive number. */
MUST_CHECK struct str cursor_encode_number(struct arena *arena, const struct cursor_kind *kind,
                                           int64_t number);
MUST_CHECK bool cursor_decode_number(struct str text, const struct cursor_kind *kind,
                                     int64_t *number);

#endif
