#include "common/base/key_values.h"

#include <criterion/criterion.h>

Test(key_values, are_cut_off_one_by_one) {
    struct str list = STR(" a = 1 ,,b=x%20y%3D,c=");
    struct key_value pair;

    cr_assert_eq(key_values_next(&list, &pair), 1);
    cr_assert(str_eq(pair.key, STR("a")));
    cr_assert_str_eq(pair.value, "1");
    cr_assert_eq(key_values_next(&list, &pair), 1);
    cr_assert(str_eq(pair.key, STR("b")));
    cr_assert_str_eq(pair.value, "x y=");
    cr_assert_eq(key_values_next(&list, &pair), 1);
    cr_assert(str_eq(pair.key, STR("c")));
    cr_assert_eq(pair.value_len, 0);
    cr_assert_eq(key_values_next(&list, &pair), 0);
}

Test(key_values, what_is_no_pair_is_refused) {
    static const char *const wrong[] = {"a", "=1", "a=%2", "a=%zz", "a=%00"};
    struct key_value pair;

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct str list = str_from(wrong[i]);
        cr_assert_eq(key_values_next(&list, &pair), -1, "%s", wrong[i]);
    }
}

Test(key_values, a_value_has_its_limit) {
    char text[KEY_VALUE_BYTES_MAX + 4] = "k=";
    struct key_value pair;

    memset(text + 2, 'x', KEY_VALUE_BYTES_MAX);
    struct str fits = str_of(text, 2 + KEY_VALUE_BYTES_MAX - 1);
    cr_assert_eq(key_values_next(&fits, &pair), 1);
    struct str longer = str_of(text, 2 + KEY_VALUE_BYTES_MAX);
    cr_assert_eq(key_values_next(&longer, &pair), -1);
}
