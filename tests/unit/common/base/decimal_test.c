#include <criterion/criterion.h>

#include "common/base/decimal.h"

static enum err_code parse(const char *text, struct decimal *out) {
    return decimal_parse(str_from(text), out, NULL);
}

static enum err_code parse_json(const char *text, struct decimal *out) {
    return decimal_parse_json(str_from(text), out, NULL);
}

static void check(enum err_code code, const struct decimal *value, int64_t coefficient,
                  int32_t scale, const char *text) {
    cr_assert_eq(code, ERR_OK, "%s", text);
    cr_assert_eq(value->coefficient, coefficient, "%s", text);
    cr_assert_eq(value->scale, scale, "%s", text);
}

Test(decimal, values_are_normalised) {
    struct decimal d;

    check(parse("500.00", &d), &d, 500, 0, "500.00");
    check(parse("0.10", &d), &d, 1, 1, "0.10");
    check(parse("-0", &d), &d, 0, 0, "-0");
    check(parse("007", &d), &d, 7, 0, "007");
    check(parse("9223372036854775807", &d), &d, INT64_MAX, 0, "max");
    check(parse_json("1e2", &d), &d, 100, 0, "1e2");
    check(parse_json("12.5E-1", &d), &d, 125, 2, "12.5E-1");
    check(parse_json("0e999999999999", &d), &d, 0, 0, "0e…");
}

Test(decimal, other_forms_are_refused) {
    static const char *const bad[] = {"",    ".",   "1.",  ".5",  "+1",  " 1",  "1 ",
                                      "1e2", "0x1", "NaN", "inf", "1,5", "--1", "1.2.3"};
    struct decimal d;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        cr_assert_eq(parse(bad[i], &d), ERR_INVALID, "\"%s\"", bad[i]);
    }
}

Test(decimal, what_does_not_fit_is_a_limit) {
    struct decimal d;

    cr_assert_eq(parse("9223372036854775808", &d), ERR_LIMIT);
    cr_assert_eq(parse_json("1e400", &d), ERR_LIMIT);
    cr_assert_eq(parse_json("1e-400", &d), ERR_LIMIT);
    cr_assert_eq(parse("0.1234567890123456789", &d), ERR_LIMIT);
    check(parse("1.1000000000000000000000000000", &d), &d, 11, 1, "zeros don't count");
}

Test(decimal, minor_units_are_exact_or_refused) {
    int64_t minor = 0;

    cr_assert_eq(decimal_to_minor(&(struct decimal){5, 1}, 2, &minor, NULL), ERR_OK);
    cr_assert_eq(minor, 50);
    cr_assert_eq(decimal_to_minor(&(struct decimal){5, 3}, 2, &minor, NULL), ERR_INVALID);
    cr_assert_eq(decimal_to_minor(&(struct decimal){INT64_MAX, 0}, 2, &minor, NULL), ERR_LIMIT);
    cr_assert_eq(decimal_to_minor(&(struct decimal){INT64_MAX, 0}, 0, &minor, NULL), ERR_OK);
}

static const char *format(int64_t minor, int32_t digits) {
    static char text[DECIMAL_TEXT_BYTES];

    (void)decimal_format_minor(text, minor, digits);
    return text;
}

Test(decimal, minor_units_print_with_their_decimals) {
    cr_assert_str_eq(format(35000, 2), "350.00");
    cr_assert_str_eq(format(5, 2), "0.05");
    cr_assert_str_eq(format(-5, 3), "-0.005");
    cr_assert_str_eq(format(7, 0), "7");
    cr_assert_str_eq(format(INT64_MIN, 2), "-92233720368547758.08");
    cr_assert_str_eq(format(0, 4), "0.0000");
}
