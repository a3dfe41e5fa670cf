/* The small types: strings, buffers, arenas, hashes, identifiers, times. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/base/err.h"
#include "common/base/hash.h"
#include "common/base/log.h"
#include "common/base/uuid.h"

Test(err, keeps_its_class_and_context) {
    struct err err = {0};

    cr_assert_eq(err_set(&err, ERR_CONFLICT, "version %d", 3), ERR_CONFLICT);
    cr_assert_eq(err_prefix(&err, "stream %s", "a"), ERR_CONFLICT);
    cr_assert_str_eq(err.message, "stream a: version 3");
    cr_assert(err_retriable(ERR_UNAVAILABLE));
    cr_assert(err_retriable(ERR_TIMEOUT));
    cr_assert_not(err_retriable(ERR_INVALID));
    cr_assert_not(err_retriable(ERR_OUTCOME_UNKNOWN));
    cr_assert_not(err_retriable(ERR_FENCED));
}

Test(str, integers_are_whole_or_refused) {
    int64_t value = 0;

    cr_assert(str_to_i64(STR("-9223372036854775808"), &value) && value == INT64_MIN);
    cr_assert(str_to_i64(STR("9223372036854775807"), &value) && value == INT64_MAX);
    cr_assert_not(str_to_i64(STR("9223372036854775808"), &value));
    cr_assert_not(str_to_i64(STR("1 "), &value));
    cr_assert_not(str_to_i64(STR(""), &value));
    cr_assert_not(str_to_i64(STR("-"), &value));
    cr_assert_not(str_to_i64(STR("+1"), &value));
}

Test(str, utf8_is_rfc_3629) {
    cr_assert(str_is_utf8(STR("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80")));
    cr_assert_not(str_is_utf8(STR("\xc0\x80")));         /* overlong */
    cr_assert_not(str_is_utf8(STR("\xed\xa0\x80")));     /* surrogate */
    cr_assert_not(str_is_utf8(STR("\xf4\x90\x80\x80"))); /* past U+10FFFF */
    cr_assert_not(str_is_utf8(STR("\xc3")));             /* cut */
}

Test(str, copy_that_does_not_fit_is_refused) {
    char out[4];

    cr_assert(str_copy(out, sizeof(out), STR("abc")));
    cr_assert_str_eq(out, "abc");
    cr_assert_not(str_copy(out, sizeof(out), STR("abcd")));
    cr_assert_str_eq(out, "");
}

Test(buf, never_passes_its_maximum_and_stays_failed) {
    struct buf buf;

    buf_init(&buf, 8);
    buf_put_text(&buf, "12345678");
    cr_assert_not(buf_failed(&buf));
    buf_put_char(&buf, '9');
    cr_assert(buf_failed(&buf));
    buf_clear(&buf);
    cr_assert_not(buf_failed(&buf));
    cr_assert_eq(buf.len, 0);
    buf_release(&buf);
}

Test(buf, json_strings_are_escaped) {
    struct buf buf;

    buf_init(&buf, 256);
    buf_put_json_str(&buf, STR("a\"\\\n\x01\xc3\xbc"));
    cr_assert_str_eq(buf.ptr, "\"a\\\"\\\\\\n\\u0001\xc3\xbc\"");
    buf_release(&buf);
}

Test(arena, hands_out_zeroed_memory_up_to_its_limit) {
    struct arena arena;

    arena_init(&arena, 64, 256);
    char *first = arena_alloc(&arena, 100);
    cr_assert_not_null(first);
    cr_assert_eq(first[99], 0);
    cr_assert_null(arena_alloc(&arena, 200));
    arena_clear(&arena);
    cr_assert_not_null(arena_alloc(&arena, 200));
    cr_assert_null(arena_array(&arena, SIZE_MAX / 2, 4));
    arena_release(&arena);
}

/* From Kafka's UtilsTest: the values that its Java client computes. */
Test(hash, murmur2_is_kafkas) {
    cr_assert_eq((int32_t)hash_murmur2(STR("21")), -973932308);
    cr_assert_eq((int32_t)hash_murmur2(STR("foobar")), -790332482);
    cr_assert_eq((int32_t)hash_murmur2(STR("a-little-bit-long-string")), -985981536);
    cr_assert_eq((int32_t)hash_murmur2(STR("a-little-bit-longer-string")), -1486304829);
    cr_assert_eq((int32_t)hash_murmur2(STR("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8")),
                 -58897971);
    cr_assert_eq((int32_t)hash_murmur2(STR("abc")), 479470107);
    cr_assert_eq(hash_kafka_partition(STR("21"), 6),
                 (int32_t)(((uint32_t)-973932308 & 0x7fffffff) % 6));
}

Test(uuid, ascends_also_when_the_clock_steps_back) {
    struct uuid_source source;
    struct uuid last = {{0}};

    uuid_source_init(&source);
    for (int i = 0; i < 20000; i++) {
        const int64_t now_us = INT64_C(1700000000000000) - (i % 7) * 5000;
        const struct uuid next = uuid_next(&source, now_us);
        cr_assert_lt(memcmp(last.bytes, next.bytes, sizeof(last.bytes)), 0);
        cr_assert_eq(next.bytes[6] >> 4, 7);
        cr_assert_eq(next.bytes[8] >> 6, 2);
        last = next;
    }
}

Test(uuid, text_round_trips) {
    char text[UUID_TEXT_BYTES];
    struct uuid uuid;

    cr_assert(uuid_parse(STR("01A1fc19-86b0-7428-98e4-c5f97b1c9be5"), &uuid));
    uuid_format(text, &uuid);
    cr_assert_str_eq(text, "01a1fc19-86b0-7428-98e4-c5f97b1c9be5");
    cr_assert_not(uuid_parse(STR("01a1fc19-86b0-7428-98e4-c5f97b1c9be"), &uuid));
    cr_assert_not(uuid_parse(STR("01a1fc19x86b0-7428-98e4-c5f97b1c9be5"), &uuid));
}

static int64_t parsed(const char *text) {
    int64_t value = -1;

    cr_assert(clock_parse_rfc3339(str_from(text), &value), "%s", text);
    return value;
}

Test(clock, rfc3339_both_ways) {
    char text[CLOCK_RFC3339_BYTES];

    cr_assert_eq(parsed("1970-01-01T00:00:00Z"), 0);
    cr_assert_eq(parsed("2000-02-29T12:00:00.5+01:00"), INT64_C(951822000500000));
    cr_assert_eq(parsed("2026-11-21T03:14:53.7455019Z"), parsed("2026-11-21T03:14:53.745501Z"));
    (void)clock_format_rfc3339(text, parsed("2024-02-29T23:59:59.000001Z"));
    cr_assert_str_eq(text, "2024-02-29T23:59:59.000001Z");
    (void)clock_format_rfc3339(text, -1);
    cr_assert_str_eq(text, "1969-12-31T23:59:59.999999Z");
}

Test(clock, ill_formed_times_are_refused) {
    static const char *const bad[] = {"",
                                      "2026",
                                      "2026-13-01T00:00:00Z",
                                      "2026-02-29T00:00:00Z",
                                      "2026-01-01T24:00:00Z",
                                      "2026-01-01T00:00:00",
                                      "2026-01-01 00:00:00+0100",
                                      "2026-01-01T00:00:00.Z"};
    int64_t value;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        cr_assert_not(clock_parse_rfc3339(str_from(bad[i]), &value), "%s", bad[i]);
    }
}

Test(log, one_line_is_one_json_object) {
    int fds[2];
    char line[4096];

    cr_assert_eq(pipe(fds), 0);
    struct log *log = log_new("test", LOG_LEVEL_INFO, fds[1]);
    log_debug(log, log_event("not.shown"));
    log_info(log, log_event("x.y"), log_cstr("text", "a\"b"), log_i64("n", -5),
             log_bool("yes", true), log_str("bytes", STR("\xff\n")));
    const ssize_t len = read(fds[0], line, sizeof(line) - 1);
    cr_assert_gt(len, 0);
    line[len] = '\0';
    cr_assert_not_null(strstr(line, "\"level\":\"info\",\"service\":\"test\",\"event\":\"x.y\","
                                    "\"text\":\"a\\\"b\",\"n\":-5,\"yes\":true,\"bytes\":\"?"));
    cr_assert_eq(strchr(line, '\n'), line + len - 1, "one line");
    log_free(log);
}
