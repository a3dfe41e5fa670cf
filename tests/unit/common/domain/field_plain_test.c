/* The quick reader of stored payloads takes nothing that the thorough one does not take alike. */
#include <criterion/criterion.h>
#include <string.h>

#include "common/base/json_doc.h"
#include "common/domain/field.h"

struct thing {
    int64_t amount_minor;
    int64_t balance_minor;
    char currency[4];
    char owner[8];
};

/* Without the padding at its end. */
enum { THING_BYTES = offsetof(struct thing, owner) + sizeof(((struct thing *)0)->owner) };

static const struct field fields[] = {
    FIELD_OF(struct thing, amount_minor, "amount_minor", FIELD_I64, true),
    FIELD_OF(struct thing, balance_minor, "balance_minor", FIELD_I64, true),
    FIELD_OF(struct thing, currency, "currency", FIELD_TEXT, true),
    FIELD_OF(struct thing, owner, "owner", FIELD_TEXT, false),
};
enum { FIELD_COUNT = sizeof(fields) / sizeof(fields[0]) };

static bool read_plainly(struct str text, struct thing *out) {
    memset(out, 0, sizeof(*out));
    return fields_from_plain_json(fields, FIELD_COUNT, text, out);
}

static bool read_thoroughly(struct str text, struct thing *out) {
    struct field_problem problem;
    struct json_doc doc;
    struct arena arena;

    memset(out, 0, sizeof(*out));
    arena_init(&arena, 4096, 65536);
    bool taken = json_doc_parse(text, &arena, &doc, NULL) == ERR_OK;
    if (taken) {
        taken = fields_from_json(fields, FIELD_COUNT, &doc, false, out, &problem) == ERR_OK;
        json_doc_release(&doc);
    }
    arena_release(&arena);
    return taken;
}

static void expect_alike(struct str text) {
    struct thing quick;
    struct thing thorough;

    if (read_plainly(text, &quick)) {
        cr_assert(read_thoroughly(text, &thorough), "only the quick one takes %.*s", STR_ARG(text));
        cr_assert_eq(memcmp(&quick, &thorough, THING_BYTES), 0, "%.*s", STR_ARG(text));
    }
}

static const char *const texts[] = {
    "{\"amount_minor\":100,\"balance_minor\":-7,\"currency\":\"USD\"}",
    "{\"currency\":\"USD\",\"owner\":\"Ann\",\"amount_minor\":0,\"balance_minor\":1}",
    "{ \"amount_minor\" : 12 , \"balance_minor\" : 34 , \"currency\" : \"EUR\" }",
    "{\"amount_minor\":999999999999999999,\"balance_minor\":1,\"currency\":\"\"}",
};

Test(field_plain, what_is_written_is_read) {
    struct thing in = {100, -250, "USD", "Ann"};
    struct thing out;
    struct buf text;

    buf_init(&text, 1024);
    fields_to_json(fields, FIELD_COUNT, &in, &text);
    cr_assert(read_plainly(buf_str(&text), &out));
    cr_assert_eq(memcmp(&in, &out, THING_BYTES), 0);
    buf_release(&text);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        cr_assert(read_plainly(str_from(texts[i]), &out), "%s", texts[i]);
        expect_alike(str_from(texts[i]));
    }
}

Test(field_plain, every_byte_changed_inserted_or_left_out_is_read_alike_or_not_at_all) {
    static const char with[] = "\"\\{}[]:,-+.0123456789eE \t\n\x01\x7f\xc3\xa9tfnullusdUSD";
    char text[256];

    for (size_t t = 0; t < sizeof(texts) / sizeof(texts[0]); t++) {
        const size_t len = strlen(texts[t]);
        for (size_t at = 0; at <= len; at++) {
            expect_alike(str_of(texts[t], at)); /* cut off */
            memcpy(text, texts[t], at);
            memcpy(text + at, texts[t] + at + 1, len - at);
            expect_alike(str_of(text, at < len ? len - 1 : len));
            for (size_t w = 0; w < sizeof(with); w++) { /* NUL too */
                memcpy(text, texts[t], len + 1);
                text[at] = with[w];
                expect_alike(str_of(text, at < len ? len : len + 1));
                memcpy(text, texts[t], at);
                text[at] = with[w];
                memcpy(text + at + 1, texts[t] + at, len - at);
                expect_alike(str_of(text, len + 1));
            }
        }
    }
}

Test(field_plain, what_is_not_plain_is_left_to_the_other) {
    static const char *const others[] = {
        "",
        "{}",
        "[]",
        "{\"amount_minor\":1,\"balance_minor\":1}",
        "{\"amount_minor\":1,\"balance_minor\":1,\"currency\":\"U\\u0053D\"}",
        "{\"amount_minor\":1,\"balance_minor\":1,\"currency\":\"\xc3\xa9\"}",
        "{\"amount_minor\":01,\"balance_minor\":1,\"currency\":\"USD\"}",
        "{\"amount_minor\":-0,\"balance_minor\":1,\"currency\":\"USD\"}",
        "{\"amount_minor\":1.0,\"balance_minor\":1,\"currency\":\"USD\"}",
        "{\"amount_minor\":1e3,\"balance_minor\":1,\"currency\":\"USD\"}",
        "{\"amount_minor\":9223372036854775808,\"balance_minor\":1,\"currency\":\"USD\"}",
        "{\"amount_minor\":1,\"amount_minor\":2,\"balance_minor\":1,\"currency\":\"USD\"}",
        "{\"Amount_minor\":1,\"balance_minor\":1,\"currency\":\"USD\"}",
        "{\"amount_minor\":1,\"balance_minor\":1,\"currency\":\"USDX\"}",
        "{\"amount_minor\":1,\"balance_minor\":1,\"currency\":null}",
        "{\"amount_minor\":1,\"balance_minor\":1,\"currency\":\"USD\",\"new\":1}",
        "{\"amount_minor\":1,\"balance_minor\":1,\"currency\":\"USD\"} x",
    };
    struct thing out;

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        cr_assert_not(read_plainly(str_from(others[i]), &out), "%s", others[i]);
    }
}
