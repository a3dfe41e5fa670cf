#include <criterion/criterion.h>

#include "common/base/json_doc.h"

static struct arena arena;

static enum err_code parse(struct str text, struct json_doc *doc) {
    arena_init(&arena, 1024, 1024 * 1024);
    return json_doc_parse(text, &arena, doc, NULL);
}

static void done(struct json_doc *doc) {
    json_doc_release(doc);
    arena_release(&arena);
}

Test(json_doc, numbers_keep_their_text) {
    struct json_doc doc;

    cr_assert_eq(parse(STR("{\"a\": 500.00, \"b\": [-0.1e+400, 7], \"c\": \"12\\\"3\"}"), &doc),
                 ERR_OK);
    const struct str a = json_doc_number(&doc, json_object_get(doc.root, "a"));
    cr_assert(str_eq(a, STR("500.00")));
    const json_t *b = json_object_get(doc.root, "b");
    cr_assert(str_eq(json_doc_number(&doc, json_array_get(b, 0)), STR("-0.1e+400")));
    cr_assert(str_eq(json_doc_number(&doc, json_array_get(b, 1)), STR("7")));
    cr_assert_str_eq(json_string_value(json_object_get(doc.root, "c")), "12\"3");
    cr_assert_eq(json_doc_number(&doc, json_object_get(doc.root, "c")).len, 0);
    done(&doc);
}

Test(json_doc, what_is_not_json_is_refused) {
    static const char *const bad[] = {"",
                                      "{",
                                      "{\"a\":1,}",
                                      "{\"a\":01}",
                                      "{\"a\":1.}",
                                      "{\"a\":-}",
                                      "{\"a\":+1}",
                                      "{\"a\":.5}",
                                      "{\"a\":NaN}",
                                      "{\"a\":Infinity}",
                                      "{\"a\":1}x",
                                      "{\"a\":1}{}",
                                      "{'a':1}",
                                      "{\"a\":1,\"a\":2}",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\":\"\\u0000\"}",
                                      "{\"a\":\"\\ud800\"}",
                                      "{a:1}",
                                      "{\"a\":1e}",
                                      "{\"a\":1.2.3}",
                                      "{\"a\":\"x",
                                      "{\"a\":12-3}",
                                      "{\"a\":1,\"b\":5-3}",
                                      "[1,2,3,4,5,6,7,8,9,10,11,12,13,1-1]",
                                      "{\"a\":1e5e5}",
                                      "{\"a\":1E5e-5}"};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct json_doc doc;
        cr_assert_eq(parse(str_from(bad[i]), &doc), ERR_INVALID, "%s", bad[i]);
        done(&doc);
    }
}

Test(json_doc, a_raw_nul_is_refused) {
    struct json_doc doc;

    cr_assert_eq(parse(str_of("{\"a\":\"x\0y\"}", 11), &doc), ERR_INVALID);
    done(&doc);
}

Test(json_doc, depth_and_count_are_bounded) {
    char deep[2 * JSON_DOC_DEPTH_MAX + 2];
    static char many[2 * JSON_DOC_NUMBERS_MAX + 8];
    struct json_doc doc;

    for (size_t i = 0; i <= JSON_DOC_DEPTH_MAX; i++) {
        deep[i] = '[';
        deep[JSON_DOC_DEPTH_MAX + 1 + i] = ']';
    }
    cr_assert_eq(parse(str_of(deep, 2 * (JSON_DOC_DEPTH_MAX + 1)), &doc), ERR_LIMIT);
    done(&doc);
    many[0] = '[';
    for (size_t i = 0; i <= JSON_DOC_NUMBERS_MAX; i++) {
        many[1 + 2 * i] = '1';
        many[2 + 2 * i] = i < JSON_DOC_NUMBERS_MAX ? ',' : ']';
    }
    cr_assert_eq(parse(str_of(many, 2 * JSON_DOC_NUMBERS_MAX + 3), &doc), ERR_LIMIT);
    done(&doc);
}
