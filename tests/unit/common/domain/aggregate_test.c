#include <criterion/criterion.h>
#include <string.h>

#include "common/base/json_doc.h"
#include "common/domain/account.h"
#include "common/domain/currency.h"
#include "common/domain/registry.h"

static enum err_code decode(const char *type, int32_t schema_version, const char *payload) {
    struct arena arena;
    struct event event = {0};
    struct err err;

    arena_init(&arena, 1024, 65536);
    const enum err_code code = event_decode(&account_aggregate, str_from(type), schema_version,
                                            str_from(payload), &arena, &event, &err);
    arena_release(&arena);
    return code;
}

Test(event_codec, what_a_later_version_added_is_ignored) {
    cr_assert_eq(decode("MoneyDeposited", 1,
                        "{\"amount_minor\":1,\"balance_minor\":1,\"currency\":\"USD\",\"x\":[1]}"),
                 ERR_OK);
}

Test(event_codec, contradictions_are_corrupt) {
    cr_assert_eq(decode("MoneyDeposited", 1, "{\"amount_minor\":1,\"currency\":\"USD\"}"),
                 ERR_CORRUPT);
    cr_assert_eq(decode("MoneyDeposited", 1,
                        "{\"amount_minor\":\"1\",\"balance_minor\":1,\"currency\":\"USD\"}"),
                 ERR_CORRUPT);
    cr_assert_eq(decode("MoneyDeposited", 1,
                        "{\"amount_minor\":1.5,\"balance_minor\":1,\"currency\":\"USD\"}"),
                 ERR_CORRUPT);
    cr_assert_eq(decode("MoneyDeposited", 2, "{}"), ERR_CORRUPT);
    cr_assert_eq(decode("MoneyPrinted", 1, "{}"), ERR_CORRUPT);
    cr_assert_eq(decode("AccountCreated", 1, "[]"), ERR_CORRUPT);
    cr_assert_eq(decode("AccountCreated", 1, "{"), ERR_CORRUPT);
}

Test(stream_id, may_have_only_what_urls_and_keys_bear) {
    static const char *const good[] = {"a", "account123", "A-b_c.d~e:f@g",
                                       "0192f0c1-0000-7000-8000-000000000000"};
    static const char *const bad[] = {"", ".a", "a b", "a/b", "a%", "\xc3\xa4", "a\n", "{a}"};
    char longest[STREAM_ID_BYTES_MAX + 2];
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        cr_assert_eq(stream_id_check(str_from(good[i]), &err), ERR_OK, "%s", good[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        cr_assert_eq(stream_id_check(str_from(bad[i]), &err), ERR_INVALID, "%s", bad[i]);
    }
    memset(longest, 'x', sizeof(longest));
    cr_assert_eq(stream_id_check(str_of(longest, STREAM_ID_BYTES_MAX), &err), ERR_OK);
    cr_assert_eq(stream_id_check(str_of(longest, STREAM_ID_BYTES_MAX + 1), &err), ERR_INVALID);
}

Test(currency, digits_are_those_of_iso_4217) {
    cr_assert_eq(currency_digits(STR("USD")), 2);
    cr_assert_eq(currency_digits(STR("JPY")), 0);
    cr_assert_eq(currency_digits(STR("BHD")), 3);
    cr_assert_eq(currency_digits(STR("CLF")), 4);
    cr_assert_eq(currency_digits(STR("usd")), -1);
    cr_assert_eq(currency_digits(STR("ZZZ")), -1);
    cr_assert_eq(currency_digits(STR("")), -1);
}

Test(registry, finds_by_name) {
    cr_assert_eq(registry_find(STR("account")), &account_aggregate);
    cr_assert_null(registry_find(STR("order")));
}

static const char *read_move(const char *json) {
    static const struct field fields[] = {
        FIELD_OF(struct move_money, amount, "amount", FIELD_AMOUNT, true)};
    struct arena arena;
    struct json_doc doc;
    struct field_problem problem = {.code = "accepted"};
    struct move_money out = {0};

    arena_init(&arena, 1024, 65536);
    cr_assert_eq(json_doc_parse(str_from(json), &arena, &doc, NULL), ERR_OK, "%s", json);
    (void)(fields_from_json(fields, 1, &doc, true, &out, &problem) == ERR_OK);
    json_doc_release(&doc);
    arena_release(&arena);
    return problem.code;
}

Test(fields, each_defect_has_its_code) {
    cr_assert_str_eq(read_move("{\"amount\":1}"), "accepted");
    cr_assert_str_eq(read_move("{\"AMOUNT\":\"1.50\"}"), "accepted");
    cr_assert_str_eq(read_move("[]"), "not_an_object");
    cr_assert_str_eq(read_move("{}"), "missing_field");
    cr_assert_str_eq(read_move("{\"amount\":1,\"other\":2}"), "unknown_field");
    cr_assert_str_eq(read_move("{\"amount\":1,\"Amount\":2}"), "duplicate_field");
    cr_assert_str_eq(read_move("{\"amount\":true}"), "wrong_type");
    cr_assert_str_eq(read_move("{\"amount\":null}"), "wrong_type");
    cr_assert_str_eq(read_move("{\"amount\":[1]}"), "wrong_type");
    cr_assert_str_eq(read_move("{\"amount\":0}"), "amount_not_positive");
    cr_assert_str_eq(read_move("{\"amount\":-1}"), "amount_not_positive");
    cr_assert_str_eq(read_move("{\"amount\":1e400}"), "amount_too_large");
    cr_assert_str_eq(read_move("{\"amount\":99999999999999999999}"), "amount_too_large");
    cr_assert_str_eq(read_move("{\"amount\":\"NaN\"}"), "amount_invalid");
    cr_assert_str_eq(read_move("{\"amount\":\"\"}"), "amount_invalid");
    cr_assert_str_eq(read_move("{\"amount\":\"1e2\"}"), "amount_invalid");
}

Test(fields, fingerprint_changes_with_the_layout) {
    static const struct field one[] = {
        FIELD_OF(struct move_money, amount, "amount", FIELD_AMOUNT, true)};
    static const struct field renamed[] = {
        FIELD_OF(struct move_money, amount, "sum", FIELD_AMOUNT, true)};

    cr_assert_eq(fields_fingerprint(one, 1), fields_fingerprint(one, 1));
    cr_assert_neq(fields_fingerprint(one, 1), fields_fingerprint(renamed, 1));
}
