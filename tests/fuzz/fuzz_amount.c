/*
 * Amounts. The first byte says how many decimals the currency has, the rest is the number's text.
 * The oracle works on digits as text, without arithmetic on the value:
 *  1. Text is accepted exactly when it has the form, fits into 64 bits and has no more decimals
 *     than the currency; otherwise the error's class is the one that the header promises.
 *  2. An accepted value printed is the oracle's text, and read again it is the same value.
 *  3. An account takes it exactly when it is positive and within the limit.
 */
#include <string.h>

#include "common/base/decimal.h"
#include "common/domain/account.h"
#include "tests/fuzz/expect.h"

enum { TEXT_BYTES_MAX = 256, EXPONENT_MAX = 1000, DIGITS_MAX = 2 * EXPONENT_MAX + TEXT_BYTES_MAX };

/* --- the oracle --- */

struct plain {
    bool well_formed;
    bool negative;
    char whole[DIGITS_MAX + 1]; /* without zeros at the start, never empty */
    char part[DIGITS_MAX + 1];  /* without zeros at the end */
};

static size_t digits_at(const char *text) {
    return strspn(text, "0123456789");
}

/* JSON numbers (`json`) or plain decimals: which form, says the header of decimal.h. */
static bool split(const char *text, bool json, bool *negative, char *digits, long *point) {
    *negative = *text == '-';
    text += *negative;
    const size_t whole = digits_at(text);
    if (whole == 0 || (json && whole > 1 && *text == '0')) {
        return false;
    }
    memcpy(digits, text, whole);
    text += whole;
    size_t part = 0;
    if (*text == '.') {
        part = digits_at(++text);
        if (part == 0) {
            return false;
        }
        memcpy(digits + whole, text, part);
        text += part;
    }
    digits[whole + part] = '\0';
    *point = (long)whole;
    if (json && (*text == 'e' || *text == 'E')) {
        const bool down = text[1] == '-';
        text += 1 + (text[1] == '-' || text[1] == '+');
        const size_t len = digits_at(text);
        long exponent = 0;
        for (size_t i = 0; i < len && exponent <= EXPONENT_MAX; i++) {
            exponent = 10 * exponent + (text[i] - '0');
        }
        exponent = exponent > EXPONENT_MAX ? EXPONENT_MAX : exponent;
        *point += down ? -exponent : exponent;
        if (len == 0) {
            return false;
        }
        text += len;
    }
    return *text == '\0';
}

static void plain_from(const char *text, bool json, struct plain *out) {
    char digits[TEXT_BYTES_MAX + 1] = "";
    long point = 0;

    memset(out, 0, sizeof(*out));
    out->well_formed = split(text, json, &out->negative, digits, &point);
    if (!out->well_formed) {
        return;
    }
    const long len = (long)strlen(digits);
    const long first = point < 0 ? point : 0;
    const long end = point > len ? point : len;
    size_t whole = 0;
    size_t part = 0;
    for (long i = first; i < end; i++) {
        const char digit = i >= 0 && i < len ? digits[i] : '0';
        if (i >= point) {
            out->part[part++] = digit;
        } else if (whole > 0 || digit != '0') {
            out->whole[whole++] = digit;
        }
    }
    while (part > 0 && out->part[part - 1] == '0') {
        out->part[--part] = '\0';
    }
    if (whole == 0) {
        out->whole[0] = '0';
    }
    if (out->part[0] == '\0' && strcmp(out->whole, "0") == 0) {
        out->negative = false;
    }
}

/* Is the number that these digits write at most `limit`? */
static bool at_most(const char *digits, const char *limit) {
    digits += strspn(digits, "0");
    const size_t len = strlen(digits);
    const size_t limit_len = strlen(limit);
    return len < limit_len || (len == limit_len && strcmp(digits, limit) <= 0);
}

static bool fits_int64(const char *digits, bool negative) {
    return at_most(digits, negative ? "9223372036854775808" : "9223372036854775807");
}

/* The class that decimal_parse promises: 64 bits are asked of the digits without zeros at the end
 * of the fraction. */
static enum err_code parse_class(const struct plain *value) {
    char all[2 * DIGITS_MAX + 1];

    if (!value->well_formed) {
        return ERR_INVALID;
    }
    (void)snprintf(all, sizeof(all), "%s%s", value->whole, value->part);
    return strlen(value->part) > DECIMAL_SCALE_MAX || !fits_int64(all, value->negative) ? ERR_LIMIT
                                                                                        : ERR_OK;
}

static enum err_code minor_class(const struct plain *value, int32_t digits, char *minor) {
    const size_t part = strlen(value->part);

    if (part > (size_t)digits) {
        return ERR_INVALID;
    }
    (void)snprintf(minor, 2 * DIGITS_MAX, "%s%s%.*s", value->whole, value->part,
                   (int)((size_t)digits - part), "000000000000000000");
    return fits_int64(minor, value->negative) ? ERR_OK : ERR_LIMIT;
}

/* --- the properties --- */

static void check_printed(const struct plain *value, int32_t digits, int64_t minor) {
    char wanted[3 * DIGITS_MAX];
    char text[DECIMAL_TEXT_BYTES];
    struct decimal again;
    int64_t minor_again = 0;
    const size_t part = strlen(value->part);

    (void)snprintf(wanted, sizeof(wanted), "%s%s%s%s%.*s", value->negative ? "-" : "", value->whole,
                   digits > 0 ? "." : "", value->part, (int)((size_t)digits - part),
                   "000000000000000000");
    const size_t len = decimal_format_minor(text, minor, digits);
    EXPECT(len == strlen(text) && strcmp(text, wanted) == 0, "%s, expected %s", text, wanted);
    EXPECT(decimal_parse(str_from(text), &again, NULL) == ERR_OK &&
               decimal_to_minor(&again, digits, &minor_again, NULL) == ERR_OK,
           "%s is refused", text);
    EXPECT(minor_again == minor, "%s is another value", text);
}

static void check_account(const struct decimal *amount, const struct plain *value, int32_t digits) {
    static const struct {
        const char *currency;
        const char *amount_minor_max;
    } samples[] = {{"JPY", "100000000000000"},
                   {NULL, NULL},
                   {"USD", "100000000000000"},
                   {"KWD", "100000000000000"},
                   {"CLF", "100000000000000"}};
    struct account account = {.status = ACCOUNT_OPEN};
    struct command command = {.type = &account_aggregate.commands[ACCOUNT_DEPOSIT]};
    static struct decision decision;
    char minor[2 * DIGITS_MAX] = "";

    if ((size_t)digits >= ARRAY_LEN(samples) || samples[digits].currency == NULL ||
        amount->coefficient <= 0) { /* commands with such are refused before they get here */
        return;
    }
    memcpy(account.currency, samples[digits].currency, sizeof(account.currency));
    memcpy(command.data.bytes, amount, sizeof(*amount));
    memset(&decision, 0, sizeof(decision));
    command.type->decide(&account, &command, &decision);
    const char *wanted = strlen(value->part) > (size_t)digits ? "amount_too_precise"
                         : minor_class(value, digits, minor) != ERR_OK ||
                                 !at_most(minor, samples[digits].amount_minor_max)
                             ? "amount_too_large"
                             : NULL;
    if (wanted != NULL) {
        EXPECT(decision.rejection.kind == REJECTION_INVALID &&
                   strcmp(decision.rejection.code, wanted) == 0,
               "not %s", wanted);
        return;
    }
    EXPECT(decision.rejection.kind == REJECTION_NONE, "%s", decision.rejection.code);
    const struct money_moved *moved = (const void *)decision.events[0].data.bytes;
    char text[32];
    (void)snprintf(text, sizeof(text), "%lld", (long long)moved->amount_minor);
    EXPECT(strcmp(text, minor + strspn(minor, "0")) == 0, "%s deposited, asked %s", text, minor);
}

static void check(const char *text, bool json, int32_t digits) {
    static struct plain value;
    char minor_text[2 * DIGITS_MAX] = "";
    struct decimal parsed = {-1, -1};
    int64_t minor = 0;
    const enum err_code code = json ? decimal_parse_json(str_from(text), &parsed, NULL)
                                    : decimal_parse(str_from(text), &parsed, NULL);

    plain_from(text, json, &value);
    EXPECT(code == parse_class(&value), "%s: %s, expected %s", text, err_name(code),
           err_name(parse_class(&value)));
    if (code != ERR_OK) {
        return;
    }
    EXPECT(parsed.scale >= 0 && parsed.scale <= DECIMAL_SCALE_MAX, "scale %d", (int)parsed.scale);
    EXPECT(parsed.scale == 0 || parsed.coefficient % 10 != 0, "not normalised");
    const enum err_code wanted = minor_class(&value, digits, minor_text);
    const enum err_code minor_code = decimal_to_minor(&parsed, digits, &minor, NULL);
    EXPECT(minor_code == wanted, "%s with %d decimals: %s, expected %s", text, (int)digits,
           err_name(minor_code), err_name(wanted));
    if (minor_code == ERR_OK) {
        check_printed(&value, digits, minor);
    }
    check_account(&parsed, &value, digits);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char text[TEXT_BYTES_MAX + 1];

    if (size == 0 || size > TEXT_BYTES_MAX || memchr(data, '\0', size) != NULL) {
        return 0;
    }
    const int32_t digits = data[0] % (DECIMAL_SCALE_MAX + 1);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    check(text, false, digits);
    check(text, true, digits);
    return 0;
}
