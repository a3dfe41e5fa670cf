#include "query-api/cursor.h"

#include <criterion/criterion.h>
#include <string.h>

static const struct cursor_kind list = {.purpose = "accounts"};
static const struct cursor_kind of_a = {"transactions", {"a", 1}};
static const struct cursor_kind of_b = {"transactions", {"b", 1}};

static struct arena arena;

static void set_up(void) {
    arena_init(&arena, 1024, 65536);
}

static void tear_down(void) {
    arena_release(&arena);
}

TestSuite(cursor, .init = set_up, .fini = tear_down);

Test(cursor, places_of_every_length_come_back) {
    char place[CURSOR_PLACE_BYTES_MAX];
    char back[CURSOR_PLACE_BYTES_MAX];

    for (size_t len = 0; len <= CURSOR_PLACE_BYTES_MAX; len++) {
        memset(place, (int)(len * 37 + 1), len);
        const struct str text = cursor_encode(&arena, &list, str_of(place, len));
        size_t back_len = 0;
        cr_assert_not_null(text.ptr);
        cr_assert_eq(strspn(text.ptr, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                      "0123456789-_"),
                     text.len, "needs no escaping in a URL");
        cr_assert(cursor_decode(text, &list, back, &back_len));
        cr_assert_eq(back_len, len);
        cr_assert_eq(memcmp(back, place, len), 0);
    }
}

Test(cursor, a_place_that_is_too_long_gives_none) {
    char place[CURSOR_PLACE_BYTES_MAX + 1] = {0};

    cr_expect_null(cursor_encode(&arena, &list, str_of(place, sizeof(place))).ptr);
}

Test(cursor, numbers_come_back_and_must_be_positive) {
    static const int64_t numbers[] = {1, 2, 255, 256, INT64_MAX};
    int64_t back = 0;

    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        const struct str text = cursor_encode_number(&arena, &of_a, numbers[i]);
        cr_expect(cursor_decode_number(text, &of_a, &back));
        cr_expect_eq(back, numbers[i]);
    }
    cr_expect_not(cursor_decode_number(cursor_encode_number(&arena, &of_a, 0), &of_a, &back));
    cr_expect_not(cursor_decode_number(cursor_encode_number(&arena, &of_a, -5), &of_a, &back));
    cr_expect_not(cursor_decode_number(cursor_encode(&arena, &of_a, STR("abc")), &of_a, &back));
}

Test(cursor, one_of_another_scope_or_purpose_is_none_of_mine) {
    const struct str text = cursor_encode_number(&arena, &of_a, 7);
    char place[CURSOR_PLACE_BYTES_MAX];
    size_t len = 0;
    int64_t number = 0;

    cr_expect_not(cursor_decode_number(text, &of_b, &number));
    cr_expect_not(cursor_decode(text, &list, place, &len));
}

Test(cursor, every_changed_character_is_noticed) {
    const struct str text = cursor_encode_number(&arena, &of_a, 123456);
    char changed[64];
    int64_t number = 0;

    memcpy(changed, text.ptr, text.len);
    for (size_t i = 0; i < text.len; i++) {
        for (int c = 0; c < 256; c++) {
            if ((char)c == text.ptr[i]) {
                continue;
            }
            changed[i] = (char)c;
            cr_assert_not(cursor_decode_number(str_of(changed, text.len), &of_a, &number),
                          "character %zu as %d", i, c);
        }
        changed[i] = text.ptr[i];
    }
    for (size_t len = 0; len < text.len; len++) {
        cr_expect_not(cursor_decode_number(str_of(text.ptr, len), &of_a, &number));
    }
}

Test(cursor, overlong_text_is_refused) {
    char text[4096];
    char place[CURSOR_PLACE_BYTES_MAX];
    size_t len = 0;

    memset(text, 'A', sizeof(text));
    for (size_t i = 0; i < sizeof(text); i++) {
        cr_assert_not(cursor_decode(str_of(text, i), &list, place, &len));
    }
}
