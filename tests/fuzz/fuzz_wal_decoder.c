/*
 * What the relay makes of a stream of replication messages. An input is a sequence of messages,
 * each behind its length (two bytes, big-endian), as in fuzz_pgoutput.c; what a message says is
 * taken from pgoutput_decode, which that one tests.
 *  1. Every message is taken or refused as ERR_CORRUPT, with a reason; after a refusal the feed
 *     begins anew, as the relay does.
 *  2. A change comes from an insert into the relation that was last told to be daybook.events, and
 *     from nothing else; its slices lie within the message.
 *  3. It carries the LSN of the transaction that was begun last, and numbers without a gap.
 *  4. A commit, and nothing else, is a commit, at the position behind it.
 */
#include <string.h>

#include "common/adapters/wal_decoder.h"
#include "tests/fuzz/expect.h"

enum { INCARNATION = 7 };

/* What the decoder should know. */
struct oracle {
    struct pgoutput_message message;
    uint32_t events_id; /* 0: not told */
    uint64_t commit_lsn;
    int64_t committed_at_us;
    uint32_t seq;
};

static void begin_anew(struct wal_decoder *decoder, struct oracle *oracle) {
    *decoder = (struct wal_decoder){.incarnation = INCARNATION};
    *oracle = (struct oracle){0};
}

static void check_within(struct str part, struct str whole) {
    EXPECT(part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len),
           "%zu bytes lie outside", part.len);
}

static void note_relation(struct oracle *oracle) {
    const struct pgoutput_message *m = &oracle->message;

    if (str_eq(m->schema, STR("daybook")) && str_eq(m->name, STR("events"))) {
        oracle->events_id = m->relation_id;
    } else if (m->relation_id == oracle->events_id) {
        oracle->events_id = 0;
    }
}

static void check_change(struct oracle *oracle, const struct change *change, struct str bytes) {
    EXPECT(change->incarnation == INCARNATION, "of another incarnation");
    EXPECT(change->commit_lsn == oracle->commit_lsn, "of another transaction");
    EXPECT(change->committed_at_us == oracle->committed_at_us, "of another time");
    EXPECT(change->seq == oracle->seq, "number %u after %u", change->seq, oracle->seq);
    EXPECT(change->event.stream_id.len > 0 && change->event.version > 0, "no event");
    check_within(change->event.stream_id, bytes);
    check_within(change->event.payload, bytes);
    check_within(change->event.command, bytes);
    oracle->seq++;
}

static void check_item(struct oracle *oracle, const struct feed_item *item, struct str bytes) {
    const struct pgoutput_message *m = &oracle->message;
    enum feed_item_kind wanted = FEED_NOTHING;

    EXPECT(pgoutput_decode(bytes, &oracle->message, NULL) == ERR_OK, "taken, and can't be decoded");
    if (m->kind == PGOUTPUT_BEGIN) {
        oracle->commit_lsn = m->commit_lsn;
        oracle->committed_at_us = m->committed_at_us;
        oracle->seq = 0;
    } else if (m->kind == PGOUTPUT_RELATION) {
        note_relation(oracle);
    } else if (m->kind == PGOUTPUT_COMMIT) {
        wanted = FEED_COMMIT;
    } else if (m->kind == PGOUTPUT_INSERT && oracle->events_id != 0 &&
               m->relation_id == oracle->events_id) {
        wanted = FEED_CHANGE;
    }
    EXPECT(item->kind == wanted, "kind %d, not %d", (int)item->kind, (int)wanted);
    if (wanted == FEED_CHANGE) {
        check_change(oracle, &item->change, bytes);
    } else if (wanted == FEED_COMMIT) {
        EXPECT(item->position == m->end_lsn, "another position");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct wal_decoder decoder;
    static struct oracle oracle;

    begin_anew(&decoder, &oracle);
    while (size >= 2) {
        const size_t wanted = (size_t)data[0] << 8 | data[1];
        const size_t len = wanted < size - 2 ? wanted : size - 2;
        struct feed_item item = {.kind = FEED_NOTHING};
        struct err err = {0};
        /* A copy of its own: reading past its end is seen. */
        char *copy = malloc(len > 0 ? len : 1);
        EXPECT(copy != NULL, "no memory");
        memcpy(copy, data + 2, len);
        const enum err_code code = wal_decoder_take(&decoder, str_of(copy, len), &item, &err);
        if (code == ERR_OK) {
            check_item(&oracle, &item, str_of(copy, len));
        } else {
            EXPECT(code == ERR_CORRUPT && err.message[0] != '\0', "%s", err_name(code));
            begin_anew(&decoder, &oracle);
        }
        free(copy);
        data += 2 + len;
        size -= 2 + len;
    }
    return 0;
}
