#include "command-api/request_headers.h"

#include <criterion/criterion.h>

#include "command-api/command_job.h"
#include "common/http/correlation_id.h"
#include "common/ports/event_store.h"

static bool expects(const char *value, int64_t version) {
    int64_t expected = EXPECT_ANY;

    return if_match_parse(str_from(value), &expected) && expected == version;
}

static bool matches_nothing(const char *value) {
    int64_t expected = EXPECT_ANY;

    return !if_match_parse(str_from(value), &expected);
}

Test(request_headers, a_version_is_expected_as_its_tag_is_written) {
    cr_assert(expects("\"5\"", 5));
    cr_assert(expects("5", 5));
    cr_assert(expects(" \"9223372036854775807\"\t", INT64_MAX));
    cr_assert(expects("*", EXPECT_EXISTS));
    cr_assert(matches_nothing(""));
    cr_assert(matches_nothing("\"\""));
    cr_assert(matches_nothing("\"05\""));
    cr_assert(matches_nothing("0"));
    cr_assert(matches_nothing("-1"));
    cr_assert(matches_nothing("W/\"5\""));
    cr_assert(matches_nothing("\"5\", \"6\""));
    cr_assert(matches_nothing("\"5"));
    cr_assert(matches_nothing("9223372036854775808"));
}

Test(request_headers, a_key_is_a_quoted_string_or_a_bare_token) {
    char longest[IDEMPOTENCY_KEY_BYTES_MAX + 1];
    struct str key = {0};

    cr_assert(idempotency_key_parse(STR("\"8e03978e\""), &key));
    cr_assert(str_eq(key, STR("8e03978e")));
    cr_assert(idempotency_key_parse(STR(" 8e03978e "), &key));
    cr_assert(str_eq(key, STR("8e03978e")));
    memset(longest, 'k', sizeof(longest));
    cr_assert(idempotency_key_parse(str_of(longest, IDEMPOTENCY_KEY_BYTES_MAX), &key));
    cr_assert_not(idempotency_key_parse(str_of(longest, IDEMPOTENCY_KEY_BYTES_MAX + 1), &key));
    cr_assert_not(idempotency_key_parse(STR(""), &key));
    cr_assert_not(idempotency_key_parse(STR("\"\""), &key));
    cr_assert_not(idempotency_key_parse(STR("\""), &key));
    cr_assert_not(idempotency_key_parse(STR("a\"b"), &key));
    cr_assert_not(idempotency_key_parse(STR("a b"), &key));
    cr_assert_not(idempotency_key_parse(STR("a\x7f"), &key));
    cr_assert_not(idempotency_key_parse(STR("\xc3\xa4"), &key));
}

Test(request_headers, metadata_is_short_text_without_control_characters) {
    char long_text[129];

    memset(long_text, 'a', sizeof(long_text));
    cr_assert(metadata_is_acceptable(STR("")));
    cr_assert(metadata_is_acceptable(STR("teller 7, Z\xc3\xbcrich")));
    cr_assert(metadata_is_acceptable(str_of(long_text, 128)));
    cr_assert_not(metadata_is_acceptable(str_of(long_text, 129)));
    cr_assert_not(metadata_is_acceptable(STR("a\x01")));
    cr_assert_not(metadata_is_acceptable(STR("a\tb")));
    cr_assert_not(metadata_is_acceptable(STR("a\x7f")));
    cr_assert_not(metadata_is_acceptable(STR("\xff")));
}

Test(request_headers, a_trace_is_kept_when_it_is_well_formed) {
    cr_assert(traceparent_is_valid(STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")));
    cr_assert_not(traceparent_is_valid(STR("")));
    cr_assert_not(
        traceparent_is_valid(STR("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01")));
    cr_assert_not(
        traceparent_is_valid(STR("00-00000000000000000000000000000000-00f067aa0ba902b7-01")));
    cr_assert_not(
        traceparent_is_valid(STR("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01")));
    cr_assert_not(
        traceparent_is_valid(STR("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")));
    cr_assert_not(
        traceparent_is_valid(STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1")));
}

Test(request_headers, a_correlation_id_is_kept_when_it_is_visible) {
    char text[HTTP_CORRELATION_ID_BYTES_MAX + 1];

    memset(text, '~', sizeof(text));
    cr_assert(correlation_id_is_acceptable(STR("0192f0c1-7c1e-7000-8000-000000000001")));
    cr_assert(correlation_id_is_acceptable(str_of(text, HTTP_CORRELATION_ID_BYTES_MAX)));
    cr_assert_not(correlation_id_is_acceptable(str_of(text, sizeof(text))));
    cr_assert_not(correlation_id_is_acceptable(STR("")));
    cr_assert_not(correlation_id_is_acceptable(STR("a b")));
    cr_assert_not(correlation_id_is_acceptable(STR("a\x7f")));
    cr_assert_not(correlation_id_is_acceptable(STR("\xc3\xa4")));
}

Test(request_headers, bodies_are_json_in_utf_8) {
    cr_assert(content_type_is_json(STR("application/json")));
    cr_assert(content_type_is_json(STR("Application/JSON ; charset=\"UTF-8\"")));
    cr_assert(content_type_is_json(STR("application/json;")));
    cr_assert_not(content_type_is_json(STR("")));
    cr_assert_not(content_type_is_json(STR("text/json")));
    cr_assert_not(content_type_is_json(STR("application/json; charset=latin-1")));
    cr_assert_not(content_type_is_json(STR("application/json, text/plain")));
}
