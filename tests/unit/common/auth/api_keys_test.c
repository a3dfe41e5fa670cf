#include "common/auth/api_keys.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "../../../support/token.h"
#include "common/base/buf.h"

Test(api_keys, a_known_key_has_its_name_and_scopes) {
    char text[512];
    struct auth_subject subject;
    struct api_keys *keys;
    struct err err;
    char first[80];

    (void)snprintf(first, sizeof(first), "%s", api_key_hash("k-first"));
    (void)snprintf(text, sizeof(text),
                   "# name scopes key\r\n\n  billing\tread,write  %s\r\nops admin %s", first,
                   api_key_hash("k-second"));
    cr_assert_eq(api_keys_parse(str_from(text), &keys, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(api_keys_count(keys), 2);
    cr_assert(api_keys_find(keys, STR("k-first"), &subject));
    cr_assert_str_eq(subject.name, "billing");
    cr_assert_eq(subject.scopes, AUTH_READ | AUTH_WRITE);
    cr_assert(api_keys_find(keys, STR("k-second"), &subject));
    cr_assert_str_eq(subject.name, "ops");
    cr_assert_eq(subject.scopes, AUTH_ADMIN);
    cr_assert_not(api_keys_find(keys, STR("k-third"), &subject));
    cr_assert_not(api_keys_find(keys, STR(""), &subject));
    cr_assert_not(api_keys_find(keys, str_from(first), &subject), "a hash is no key");
    api_keys_free(keys);
}

Test(api_keys, an_empty_file_knows_nobody) {
    struct auth_subject subject;
    struct api_keys *keys;
    struct err err;

    cr_assert_eq(api_keys_parse(STR("# nobody\n"), &keys, &err), ERR_OK);
    cr_assert_not(api_keys_find(keys, STR("x"), &subject));
    api_keys_free(keys);
}

Test(api_keys, each_line_is_whole_or_refused_by_its_number) {
#define HASH "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    static const char *const wrong[] = {
        "name",
        "name read",
        "name " HASH,
        "name read,fly " HASH,
        "name read, " HASH,
        "name , " HASH,
        "name read sha256:0123",
        "name read md5:0123456789abcdef0123456789abcdef",
        "name read " HASH "0",
        "name read " HASH " more",
        "n\xc3\xa4me read " HASH,
        "a read " HASH "\nb read " HASH,
        "name read sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdeg",
    };
    struct api_keys *keys = NULL;
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        cr_assert_eq(api_keys_parse(str_from(wrong[i]), &keys, &err), ERR_INVALID, "%s", wrong[i]);
        cr_assert_not_null(strstr(err.message, "line "), "%s", err.message);
        cr_assert_null(strstr(err.message, "0123"), "no hash in it");
    }
    cr_assert_null(keys);
}

Test(api_keys, are_bounded) {
    struct api_keys *keys = NULL;
    struct buf text;
    struct err err;

    buf_init(&text, 1024 * 1024);
    for (int i = 0; i <= API_KEYS_MAX; i++) {
        buf_printf(&text, "n%d read sha256:%064x\n", i, i);
    }
    cr_assert_eq(api_keys_parse(buf_str(&text), &keys, &err), ERR_LIMIT);
    buf_release(&text);
}
