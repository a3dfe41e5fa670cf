#include "common/base/decimal.h"

#include <assert.h>

/*
 * A number token in its parts, before any value is made of it: digits are the integer part and the
 * fraction one after the other, without the point; the value is digits * 10^(exponent -
 * fraction.len).
 */
struct token {
    bool negative;
    struct str integer;
    struct str fraction;
    int64_t exponent;
};

/* No int64 with DECIMAL_SCALE_MAX decimals needs an exponent near this; it keeps sums of exponents
 * within int64. */
enum { EXPONENT_BOUND = 1000000000 };

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static struct str take_digits(struct str *text) {
    struct str digits = {text->ptr, 0};
    while (digits.len < text->len && is_digit(text->ptr[digits.len])) {
        digits.len++;
    }
    text->ptr += digits.len;
    text->len -= digits.len;
    return digits;
}

static bool take(struct str *text, char a, char b) {
    if (text->len == 0 || (text->ptr[0] != a && text->ptr[0] != b)) {
        return false;
    }
    text->ptr++;
    text->len--;
    return true;
}

/* What is left of `text` is for the caller: an exponent, or a mistake. */
static bool take_plain(struct str *text, struct token *out) {
    *out = (struct token){.negative = take(text, '-', '-')};
    out->integer = take_digits(text);
    if (out->integer.len == 0) {
        return false;
    }
    if (take(text, '.', '.')) {
        out->fraction = take_digits(text);
        return out->fraction.len > 0;
    }
    return true;
}

static bool take_exponent(struct str *text, int64_t *exponent) {
    *exponent = 0;
    if (!take(text, 'e', 'E')) {
        return true;
    }
    bool negative = take(text, '-', '-');
    if (!negative) {
        (void)take(text, '+', '+');
    }
    struct str digits = take_digits(text);
    if (digits.len == 0) {
        return false;
    }
    int64_t value = 0;
    for (size_t i = 0; i < digits.len; i++) {
        value = value * 10 + (digits.ptr[i] - '0');
        if (value > EXPONENT_BOUND) {
            value = EXPONENT_BOUND; /* every larger one leads to the same answer */
        }
    }
    *exponent = negative ? -value : value;
    return true;
}

static enum err_code too_large(struct err *err) {
    return err_set(err, ERR_LIMIT, "the number does not fit into 64 bits");
}

/* Appends one decimal digit. Counted downwards: the negative side reaches one further, so INT64_MIN
 * fits. */
static bool append_digit(int64_t *negated, int digit) {
    return !__builtin_mul_overflow(*negated, INT64_C(10), negated) &&
           !__builtin_sub_overflow(*negated, (int64_t)digit, negated);
}

static char digit_at(const struct token *token, size_t i) {
    return i < token->integer.len ? token->integer.ptr[i]
                                  : token->fraction.ptr[i - token->integer.len];
}

static enum err_code evaluate(const struct token *token, struct decimal *out, struct err *err) {
    size_t first = 0;
    size_t end = token->integer.len + token->fraction.len;
    while (first < end && digit_at(token, first) == '0') {
        first++;
    }
    if (first == end) {
        *out = (struct decimal){0, 0}; /* zero whatever its sign, decimals and exponent */
        return ERR_OK;
    }
    /* Zeros at the end move into the power of ten, so that only digits that count are accumulated.
     */
    int64_t power = token->exponent - (int64_t)token->fraction.len;
    while (digit_at(token, end - 1) == '0') {
        end--;
        power++;
    }
    if (power < -DECIMAL_SCALE_MAX) {
        return err_set(err, ERR_LIMIT, "the number has more than %d decimals", DECIMAL_SCALE_MAX);
    }
    int64_t negated = 0;
    for (size_t i = first; i < end; i++) {
        if (!append_digit(&negated, digit_at(token, i) - '0')) {
            return too_large(err);
        }
    }
    for (; power > 0; power--) {
        if (!append_digit(&negated, 0)) { /* fails after 19 turns at the latest */
            return too_large(err);
        }
    }
    if (!token->negative && negated == INT64_MIN) {
        return too_large(err);
    }
    *out = (struct decimal){token->negative ? negated : -negated, (int32_t)-power};
    return ERR_OK;
}

enum err_code decimal_parse(struct str text, struct decimal *out, struct err *err) {
    struct token token;
    if (!take_plain(&text, &token) || text.len > 0) {
        return err_set(err, ERR_INVALID, "not a decimal number such as 12.50");
    }
    return evaluate(&token, out, err);
}

enum err_code decimal_parse_json(struct str token, struct decimal *out, struct err *err) {
    struct token parts;
    bool well_formed =
        take_plain(&token, &parts) && take_exponent(&token, &parts.exponent) && token.len == 0;
    /* JSON allows no leading zero. */
    if (!well_formed || (parts.integer.len > 1 && parts.integer.ptr[0] == '0')) {
        return err_set(err, ERR_INVALID, "not a JSON number");
    }
    return evaluate(&parts, out, err);
}

enum err_code decimal_to_minor(const struct decimal *value, int32_t digits, int64_t *minor,
                               struct err *err) {
    assert(digits >= 0 && digits <= DECIMAL_SCALE_MAX);
    /* Normalised, so a larger scale means a decimal that is not zero. */
    if (value->scale > digits) {
        return err_set(err, ERR_INVALID, "the number has more than %d decimals", (int)digits);
    }
    int64_t result = value->coefficient;
    for (int32_t scale = value->scale; scale < digits; scale++) {
        if (__builtin_mul_overflow(result, INT64_C(10), &result)) {
            return too_large(err);
        }
    }
    *minor = result;
    return ERR_OK;
}

size_t decimal_format_minor(char out[DECIMAL_TEXT_BYTES], int64_t minor, int32_t digits) {
    assert(digits >= 0 && digits <= DECIMAL_SCALE_MAX);
    /* Written from the last digit to the first; 64-bit digits, a point and a sign are well below
     * the buffer. */
    char reversed[DECIMAL_TEXT_BYTES];
    size_t len = 0;
    uint64_t magnitude = minor < 0 ? UINT64_C(0) - (uint64_t)minor : (uint64_t)minor;
    for (int32_t i = 0; i <= digits || magnitude > 0; i++) {
        if (i == digits && digits > 0) {
            reversed[len++] = '.';
        }
        reversed[len++] = (char)('0' + magnitude % 10);
        magnitude /= 10;
    }
    if (minor < 0) {
        reversed[len++] = '-';
    }
    for (size_t i = 0; i < len; i++) {
        out[i] = reversed[len - 1 - i];
    }
    out[len] = '\0';
    return len;
}
