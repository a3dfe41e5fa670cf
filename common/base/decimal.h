/*
 * Exact decimal text <-> int64. No floating point anywhere.
 * A decimal is coefficient * 10^-scale, normalised: no trailing zero in the coefficient while scale
 * > 0.
 */
#ifndef DAYBOOK_BASE_DECIMAL_H
#define DAYBOOK_BASE_DECIMAL_H

#include <stdint.h>

#include "common/base/err.h"
#include "common/base/str.h"

enum { DECIMAL_SCALE_MAX = 18, DECIMAL_TEXT_BYTES = 48 };

struct decimal {
    int64_t coefficient;
    int32_t scale; /* 0 … DECIMAL_SCALE_MAX */
};

/*
 * Plain decimal text: -?digits[.digits], no exponent, no '+', no spaces, at least one digit on each
 * side of a point. ERR_INVALID: not that form. ERR_LIMIT: the value needs more than int64 or more
 * than DECIMAL_SCALE_MAX decimals (zeros at the end of the fraction do not count).
 */
MUST_CHECK enum err_code decimal_parse(struct str text, struct decimal *out, struct err *err);
/* The same for a JSON number token (RFC 8259 section 6), which may have an exponent. */
MUST_CHECK enum err_code decimal_parse_json(struct str token, struct decimal *out, struct err *err);

/* To minor units with exactly `digits` decimals. ERR_INVALID: more decimals than that. ERR_LIMIT:
 * over int64. */
MUST_CHECK enum err_code decimal_to_minor(const struct decimal *value, int32_t digits,
                                          int64_t *minor, struct err *err);
/* 35000 with 2 digits is "350.00"; INT64_MIN works. digits 0 … DECIMAL_SCALE_MAX. Returns the
 * length. */
size_t decimal_format_minor(char out[DECIMAL_TEXT_BYTES], int64_t minor, int32_t digits);

#endif
