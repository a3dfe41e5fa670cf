#include "common/adapters/pgoutput.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "pgoutput_messages.h"

static struct pgoutput_message message;

static enum err_code decode(struct str bytes) {
    return pgoutput_decode(bytes, &message, NULL);
}

/* Decodes a copy that ends where the memory ends, so that a sanitizer sees a read past it. */
static enum err_code decode_exactly(struct str bytes) {
    char *copy = malloc(bytes.len > 0 ? bytes.len : 1);

    cr_assert_not_null(copy);
    memcpy(copy, bytes.ptr, bytes.len);
    const enum err_code code = decode(str_of(copy, bytes.len));
    free(copy);
    return code;
}

Test(pgoutput, begin_and_commit_carry_their_positions) {
    cr_assert_eq(decode(recorded(RECORDED_BEGIN)), ERR_OK);
    cr_assert_eq(message.kind, PGOUTPUT_BEGIN);
    cr_assert_eq(message.commit_lsn, UINT64_C(0x1dc61c0));
    const int64_t committed_at_us = message.committed_at_us;
    cr_assert_eq(committed_at_us, INT64_C(0x000303c01ca9a097) + INT64_C(946684800000000));

    cr_assert_eq(decode(recorded(RECORDED_COMMIT)), ERR_OK);
    cr_assert_eq(message.kind, PGOUTPUT_COMMIT);
    cr_assert_eq(message.commit_lsn, UINT64_C(0x1dc61c0));
    cr_assert_eq(message.end_lsn, UINT64_C(0x1dc61f0));
    cr_assert_eq(message.committed_at_us, committed_at_us);
}

Test(pgoutput, relation_names_its_columns) {
    cr_assert_eq(decode(recorded(RECORDED_RELATION)), ERR_OK);
    cr_assert_eq(message.kind, PGOUTPUT_RELATION);
    cr_assert_eq(message.relation_id, 0x4012);
    cr_assert(str_eq(message.schema, STR("daybook")) && str_eq(message.name, STR("events")));
    cr_assert_eq(message.column_count, 15);
    cr_assert(str_eq(message.columns[0], STR("position")));
    cr_assert(str_eq(message.columns[14], STR("recorded_at")));
}

Test(pgoutput, insert_has_values_and_nulls) {
    cr_assert_eq(decode(recorded(RECORDED_INSERT)), ERR_OK);
    cr_assert_eq(message.kind, PGOUTPUT_INSERT);
    cr_assert_eq(message.relation_id, 0x4012);
    cr_assert_eq(message.column_count, 15);
    cr_assert(str_eq(message.values[4].text, STR("rec-2")));
    cr_assert(str_eq(message.values[8].text, STR("{\"owner\":\"Gr\xc3\xbcn\"}")));
    cr_assert_not(message.values[9].is_null);
    cr_assert(message.values[10].is_null);
    cr_assert_eq(message.values[10].text.len, 0);
}

Test(pgoutput, relations_are_told_apart) {
    cr_assert_eq(decode(recorded(RECORDED_OTHER_RELATION)), ERR_OK);
    cr_assert(str_eq(message.name, STR("other")));
    cr_assert_eq(message.relation_id, 0x4066);
    cr_assert_eq(message.column_count, 2);
    cr_assert_eq(decode(recorded(RECORDED_OTHER_INSERT)), ERR_OK);
    cr_assert_eq(message.relation_id, 0x4066);
    cr_assert_eq(message.column_count, 2);
    cr_assert(message.values[1].is_null);
}

Test(pgoutput, an_unchanged_toasted_value_is_not_a_null) {
    static const char bytes[] = "I\x00\x00\x40\x66N\x00\x02t\x00\x00\x00\x01"
                                "7u";

    cr_assert_eq(decode(str_of(bytes, sizeof(bytes) - 1)), ERR_OK);
    cr_assert(message.values[1].is_unchanged);
    cr_assert_not(message.values[1].is_null);
}

static const char *const all[] = {RECORDED_BEGIN,  RECORDED_COMMIT,         RECORDED_RELATION,
                                  RECORDED_INSERT, RECORDED_OTHER_RELATION, RECORDED_OTHER_INSERT};

Test(pgoutput, every_cut_is_corrupt) {
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        const struct str whole = recorded(all[i]);
        cr_assert_eq(decode_exactly(whole), ERR_OK);
        for (size_t len = 0; len < whole.len; len++) {
            cr_assert_eq(decode_exactly(str_of(whole.ptr, len)), ERR_CORRUPT, "%zu of %zu", len,
                         whole.len);
        }
    }
}

Test(pgoutput, one_byte_too_many_is_corrupt) {
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        char bytes[1024] = {0};
        const struct str whole = recorded(all[i]);
        memcpy(bytes, whole.ptr, whole.len);
        cr_assert_eq(decode(str_of(bytes, whole.len + 1)), ERR_CORRUPT, "message %zu", i);
    }
}

/* Whatever the bytes are: an answer, and nothing outside them is read. */
Test(pgoutput, every_changed_byte_gets_an_answer) {
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        char bytes[1024];
        const struct str whole = recorded(all[i]);
        memcpy(bytes, whole.ptr, whole.len);
        for (size_t at = 0; at < whole.len; at++) {
            for (unsigned value = 0; value < 256; value++) {
                bytes[at] = (char)value;
                const enum err_code code = decode_exactly(str_of(bytes, whole.len));
                cr_assert(code == ERR_OK || code == ERR_CORRUPT);
            }
            bytes[at] = whole.ptr[at];
        }
    }
}

static enum err_code decode_with(struct str whole, size_t at, char value) {
    char bytes[1024];

    memcpy(bytes, whole.ptr, whole.len);
    bytes[at] = value;
    return decode(str_of(bytes, whole.len));
}

Test(pgoutput, nonsense_is_corrupt) {
    const struct str insert = recorded(RECORDED_INSERT);

    cr_assert_eq(decode(STR("Zxyz")), ERR_CORRUPT);
    cr_assert_eq(decode_with(insert, 5, 'O'), ERR_CORRUPT, "not a new tuple");
    cr_assert_eq(decode_with(insert, 6, '\x7f'), ERR_CORRUPT, "32,527 columns");
    cr_assert_eq(decode_with(insert, 8, 'b'), ERR_CORRUPT, "binary was not asked for");
    cr_assert_eq(decode_with(insert, 9, '\xff'), ERR_CORRUPT, "a value of 4 GiB");
}

Test(pgoutput, what_is_of_no_interest_is_passed_over) {
    cr_assert_eq(decode(STR("M\x01")), ERR_OK);
    cr_assert_eq(message.kind, PGOUTPUT_OTHER);
}

Test(pgoutput, times_are_read_as_printed) {
    int64_t us = 0;

    cr_assert(pgoutput_parse_time(STR("1970-01-01 00:00:01.5+00"), &us));
    cr_assert_eq(us, 1500000);
    cr_assert(pgoutput_parse_time(STR("2026-11-21 03:14:53+00"), &us));
    cr_assert_not(pgoutput_parse_time(STR("2026-11-21 03:14:53+01"), &us));
    cr_assert_not(pgoutput_parse_time(STR("infinity"), &us));
    cr_assert_not(pgoutput_parse_time(STR(""), &us));
}
