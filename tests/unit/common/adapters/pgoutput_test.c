#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "common/adapters/pgoutput.h"

/* Messages as PostgreSQL 15 sent them (proto_version 1), for
 *   CREATE TABLE s.t (id bigint, note text, more text); INSERT INTO s.t VALUES (7, 'grün', NULL).
 */
static const char begin[] = "B"
                            "\x00\x00\x00\x00\x01\xdc\x6c\x30" /* final LSN 0/1DC6C30 */
                            "\x00\x03\x04\x05\x06\x07\x08\x09" /* commit time */
                            "\x00\x00\x02\xe5";
static const char commit[] = "C"
                             "\x00"
                             "\x00\x00\x00\x00\x01\xdc\x6c\x30"
                             "\x00\x00\x00\x00\x01\xdc\x6c\x60"
                             "\x00\x03\x04\x05\x06\x07\x08\x09";
static const char relation[] = "R"
                               "\x00\x00\x40\x01"
                               "s\0t\0"
                               "d"
                               "\x00\x03"
                               "\x01id\0\x00\x00\x00\x14\xff\xff\xff\xff"
                               "\x00note\0\x00\x00\x00\x19\xff\xff\xff\xff"
                               "\x00more\0\x00\x00\x00\x19\xff\xff\xff\xff";
static const char insert[] = "I"
                             "\x00\x00\x40\x01"
                             "N"
                             "\x00\x03"
                             "t\x00\x00\x00\x01"
                             "7"
                             "t\x00\x00\x00\x05gr\xc3\xbcn"
                             "n";

#define BYTES(literal) str_of(literal, sizeof(literal) - 1)

static struct pgoutput_message message;

static enum err_code decode(struct str bytes) {
    return pgoutput_decode(bytes, &message, NULL);
}

Test(pgoutput, begin_and_commit_carry_their_positions) {
    cr_assert_eq(decode(BYTES(begin)), ERR_OK);
    cr_assert_eq(message.kind, PGOUTPUT_BEGIN);
    cr_assert_eq(message.commit_lsn, UINT64_C(0x1dc6c30));
    cr_assert_eq(message.committed_at_us, INT64_C(0x0003040506070809) + INT64_C(946684800000000));
    cr_assert_eq(decode(BYTES(commit)), ERR_OK);
    cr_assert_eq(message.kind, PGOUTPUT_COMMIT);
    cr_assert_eq(message.end_lsn, UINT64_C(0x1dc6c60));
}

Test(pgoutput, relation_names_its_columns) {
    cr_assert_eq(decode(BYTES(relation)), ERR_OK);
    cr_assert_eq(message.kind, PGOUTPUT_RELATION);
    cr_assert_eq(message.relation_id, 0x4001);
    cr_assert(str_eq(message.schema, STR("s")) && str_eq(message.name, STR("t")));
    cr_assert_eq(message.column_count, 3);
    cr_assert(str_eq(message.columns[1], STR("note")));
}

Test(pgoutput, insert_has_values_and_nulls) {
    cr_assert_eq(decode(BYTES(insert)), ERR_OK);
    cr_assert_eq(message.kind, PGOUTPUT_INSERT);
    cr_assert(str_eq(message.values[0].text, STR("7")));
    cr_assert(str_eq(message.values[1].text, STR("gr\xc3\xbcn")));
    cr_assert(message.values[2].is_null);
}

Test(pgoutput, every_cut_is_corrupt) {
    const struct str all[] = {BYTES(begin), BYTES(commit), BYTES(relation), BYTES(insert)};

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        for (size_t len = 0; len < all[i].len; len++) {
            char *exact = malloc(len + 1); /* so that a sanitizer sees a read past the end */
            memcpy(exact, all[i].ptr, len);
            exact = realloc(exact, len > 0 ? len : 1);
            cr_assert_eq(decode(str_of(exact, len)), ERR_CORRUPT, "%zu of %zu", len, all[i].len);
            free(exact);
        }
    }
}

Test(pgoutput, nonsense_is_corrupt) {
    char bytes[sizeof(insert)];

    cr_assert_eq(decode(BYTES("Zxyz")), ERR_CORRUPT);
    memcpy(bytes, begin, sizeof(begin));
    cr_assert_eq(decode(str_of(bytes, sizeof(begin))), ERR_CORRUPT, "one byte too many");
    memcpy(bytes, insert, sizeof(insert));
    bytes[5] = 'X';
    cr_assert_eq(decode(str_of(bytes, sizeof(insert) - 1)), ERR_CORRUPT);
    memcpy(bytes, insert, sizeof(insert));
    bytes[6] = '\x7f'; /* 32,515 columns */
    cr_assert_eq(decode(str_of(bytes, sizeof(insert) - 1)), ERR_CORRUPT);
    memcpy(bytes, insert, sizeof(insert));
    bytes[9] = '\xff'; /* a value of 4 GiB */
    cr_assert_eq(decode(str_of(bytes, sizeof(insert) - 1)), ERR_CORRUPT);
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
