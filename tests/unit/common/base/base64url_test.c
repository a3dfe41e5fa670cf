#include "common/base/base64url.h"

#include <criterion/criterion.h>

static bool decodes_to(const char *text, const char *expected) {
    uint8_t out[64];
    size_t len = 0;

    return base64url_decode(str_from(text), out, sizeof(out), &len) && len == strlen(expected) &&
           memcmp(out, expected, len) == 0;
}

/* RFC 4648 section 10. */
Test(base64url, known_texts) {
    cr_assert(decodes_to("", ""));
    cr_assert(decodes_to("Zg", "f"));
    cr_assert(decodes_to("Zm8", "fo"));
    cr_assert(decodes_to("Zm9v", "foo"));
    cr_assert(decodes_to("Zm9vYg", "foob"));
    cr_assert(decodes_to("Zm9vYmE", "fooba"));
    cr_assert(decodes_to("Zm9vYmFy", "foobar"));
    cr_assert(decodes_to("-_-_", "\xfb\xff\xbf"));
}

Test(base64url, has_one_spelling) {
    static const char *const wrong[] = {"Zg==", "Zh", "Zm9", "Z", "Zm9vY", "+/+/", "Zm 8", "Zm8\n"};
    uint8_t out[64];
    size_t len = 0;

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        cr_assert_not(base64url_decode(str_from(wrong[i]), out, sizeof(out), &len), "%s", wrong[i]);
    }
    cr_assert_not(base64url_decode(STR("Zm9v"), out, 2, &len), "no room");
    cr_assert(base64url_decode(STR("Zm9v"), out, 3, &len));
}
