/*
 * A string slice: bytes that somebody else owns, with their length; not NUL-terminated.
 * A slice with len 0 is "absent" where a field is optional.
 */
#ifndef DAYBOOK_BASE_STR_H
#define DAYBOOK_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/base/attr.h"

struct str {
    const char *ptr;
    size_t len;
};

/* For printf: "%.*s", STR_ARG(s). */
#define STR_ARG(s) (int)(s).len, (s).ptr
/* A slice of a string literal. */
#define STR(literal) ((struct str){"" literal, sizeof(literal) - 1})

static inline struct str str_from(const char *text) {
    return (struct str){text, text ? strlen(text) : 0};
}
static inline struct str str_of(const char *ptr, size_t len) {
    return (struct str){ptr, len};
}
static inline bool str_eq(struct str a, struct str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ASCII only: no locale. */
bool str_eq_nocase(struct str a, struct str b);
bool str_starts_with(struct str text, struct str prefix);
/* memcmp order, shorter first on a tie. */
int str_cmp(struct str a, struct str b);
struct str str_trim(struct str text); /* spaces and tabs at both ends */

/* Copies into a fixed buffer with a NUL behind it. False, and an empty string, when it does not
 * fit. */
MUST_CHECK bool str_copy(char *out, size_t out_bytes, struct str text);

/* Whole-text decimal integers: optional '-', digits, nothing else. False when malformed or out of
 * range. */
MUST_CHECK bool str_to_i64(struct str text, int64_t *out);
MUST_CHECK bool str_to_u64(struct str text, uint64_t *out);

enum { STR_I64_BYTES = 20 }; /* the longest: INT64_MIN */
/* The number in decimal, somewhere in `text`. */
struct str str_of_i64(char text[STR_I64_BYTES], int64_t value);

/* True when the bytes are well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms, up to
 * U+10FFFF). */
bool str_is_utf8(struct str text);
/* Length in bytes (1 to 4) of the well-formed UTF-8 sequence at the start of `text`; 0 when there
 * is none. */
size_t str_utf8_sequence(struct str text);

#endif
