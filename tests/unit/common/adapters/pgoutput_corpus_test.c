/* Whole sequences of messages as PostgreSQL sent them (the fuzzer's corpus, each message behind its
 * length in two bytes): what they come to when decoded as the relay does. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/event_row.h"

enum { FILE_BYTES = 65536 };

static const struct {
    const char *name;
    int events;
    int transactions;
    int64_t last_version;
    size_t last_payload_len;
    size_t last_actor_len;
    const char *last_stream; /* NULL: not looked at */
} cases[] = {
    {"null-metadata", 1, 1, 1, 2, 0, "a"},
    {"all-metadata", 1, 1, 1, 18, 2, "a"},
    {"utf8", 1, 1, 1, 24, 0, "gr\xc3\xbcn-\xe2\x82\xac-\xf0\x9f\x98\x80"},
    {"many-in-one", 8, 1, 8, 2, 0, "m"},
    {"two-transactions", 2, 2, 2, 2, 0, "a"},
    {"rolled-back", 2, 1, 2, 2, 0, "a"},
    {"other-table", 1, 2, 1, 2, 0, "a"},
    {"toasted", 1, 1, 1, 9610, 0, "a"},
    {"update-delete-truncate", 1, 4, 1, 2, 0, "a"},
    {"added-column", 2, 2, 2, 2, 0, "a"},
    {"dropped-column", 1, 1, 3, 2, 0, "a"},
    {"domain-type", 0, 1, 0, 0, 0, NULL},
};

struct outcome {
    int events;
    int transactions;
    struct recorded_event last;
};

static struct outcome decode_all(const char *bytes, size_t size) {
    static struct pgoutput_message message;
    struct event_row_layout layout;
    struct outcome outcome = {0};
    uint32_t relation = 0;
    struct err err = {0};

    while (size >= 2) {
        const size_t len = (size_t)(unsigned char)bytes[0] << 8 | (unsigned char)bytes[1];
        cr_assert_leq(len + 2, size);
        cr_assert_eq(pgoutput_decode(str_of(bytes + 2, len), &message, &err), ERR_OK, "%s",
                     err.message);
        if (message.kind == PGOUTPUT_RELATION && str_eq(message.name, STR("events"))) {
            cr_assert_eq(event_row_layout(&message, &layout, &err), ERR_OK, "%s", err.message);
            relation = message.relation_id;
        } else if (message.kind == PGOUTPUT_INSERT && message.relation_id == relation) {
            cr_assert_eq(event_row_of_insert(&layout, &message, &outcome.last, &err), ERR_OK, "%s",
                         err.message);
            outcome.events++;
        } else if (message.kind == PGOUTPUT_COMMIT) {
            outcome.transactions++;
        }
        bytes += 2 + len;
        size -= 2 + len;
    }
    return outcome;
}

Test(pgoutput_corpus, recorded_messages_come_to_the_events_that_were_written) {
    static char bytes[FILE_BYTES];
    char path[128];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        (void)snprintf(path, sizeof(path), "tests/fuzz/corpus/pgoutput/%s", cases[i].name);
        FILE *file = fopen(path, "re");
        cr_assert_not_null(file, "%s", path);
        const size_t size = fread(bytes, 1, sizeof(bytes), file);
        (void)fclose(file);
        const struct outcome outcome = decode_all(bytes, size);
        cr_expect_eq(outcome.events, cases[i].events, "%s: %d", cases[i].name, outcome.events);
        cr_expect_eq(outcome.transactions, cases[i].transactions, "%s: %d", cases[i].name,
                     outcome.transactions);
        cr_expect_eq(outcome.last.version, cases[i].last_version, "%s", cases[i].name);
        cr_expect_eq(outcome.last.payload.len, cases[i].last_payload_len, "%s: %zu", cases[i].name,
                     outcome.last.payload.len);
        cr_expect_eq(outcome.last.actor.len, cases[i].last_actor_len, "%s", cases[i].name);
        if (cases[i].last_stream != NULL) {
            cr_expect(str_eq(outcome.last.stream_id, str_from(cases[i].last_stream)), "%s: %.*s",
                      cases[i].name, STR_ARG(outcome.last.stream_id));
        }
    }
}
