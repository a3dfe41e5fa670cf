/*
 * Messages of PostgreSQL's logical replication. An input is a sequence of messages, each behind its
 * length (two bytes, big-endian): relations seen are remembered, inserts are decoded with the last
 * one, as the relay does.
 *  1. Every message is decoded or refused as ERR_CORRUPT, with a reason; nothing else happens.
 *  2. What a decoded message points to lies within its bytes; its columns are within the limit.
 *  3. A message cut off anywhere is refused: none can be mistaken for a shorter one.
 *  4. An event made from an insert has the fields that every event has.
 */
#include "common/adapters/event_row.h"
#include "tests/fuzz/expect.h"

static void check_within(struct str part, struct str whole) {
    EXPECT(part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len),
           "%zu bytes lie outside", part.len);
}

static void check_slices(const struct pgoutput_message *message, struct str bytes) {
    EXPECT(message->column_count <= PGOUTPUT_COLUMNS_MAX, "%zu columns", message->column_count);
    if (message->kind == PGOUTPUT_RELATION) {
        check_within(message->schema, bytes);
        check_within(message->name, bytes);
        for (size_t i = 0; i < message->column_count; i++) {
            check_within(message->columns[i], bytes);
        }
    }
    for (size_t i = 0; message->kind == PGOUTPUT_INSERT && i < message->column_count; i++) {
        check_within(message->values[i].text, bytes);
    }
}

static void check_truncation(struct str bytes) {
    static struct pgoutput_message cut;

    for (size_t len = 1; len < bytes.len; len++) {
        const enum err_code code = pgoutput_decode(str_of(bytes.ptr, len), &cut, NULL);
        EXPECT(code == ERR_CORRUPT, "%zu of %zu bytes are %s", len, bytes.len, err_name(code));
    }
}

static void check_event(const struct event_row_layout *layout,
                        const struct pgoutput_message *insert, struct str bytes) {
    struct recorded_event event;
    struct err err = {0};

    const enum err_code code = event_row_of_insert(layout, insert, &event, &err);
    if (code != ERR_OK) {
        EXPECT(code == ERR_CORRUPT && err.message[0] != '\0', "%s", err_name(code));
        return;
    }
    EXPECT(event.stream_id.len > 0 && event.event_type.len > 0 && event.payload.len > 0 &&
               event.aggregate_type.len > 0 && event.version > 0 && event.schema_version > 0,
           "an event without its fields");
    check_within(event.payload, bytes);
    check_within(event.traceparent, bytes);
}

static void check_message(struct str bytes, struct event_row_layout *layout, bool *has_layout) {
    static struct pgoutput_message message;
    struct err err = {0};
    const enum err_code code = pgoutput_decode(bytes, &message, &err);

    if (code != ERR_OK) {
        EXPECT(code == ERR_CORRUPT && err.message[0] != '\0', "%s", err_name(code));
        return;
    }
    check_slices(&message, bytes);
    if (message.kind != PGOUTPUT_OTHER) {
        check_truncation(bytes);
    }
    if (message.kind == PGOUTPUT_RELATION) {
        *has_layout = event_row_layout(&message, layout, NULL) == ERR_OK;
    } else if (message.kind == PGOUTPUT_INSERT && *has_layout) {
        check_event(layout, &message, bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct event_row_layout layout;
    bool has_layout = false;

    while (size >= 2) {
        const size_t wanted = (size_t)data[0] << 8 | data[1];
        const size_t len = wanted < size - 2 ? wanted : size - 2;
        /* A copy of its own: reading past its end is seen. */
        char *copy = malloc(len > 0 ? len : 1);
        EXPECT(copy != NULL, "no memory");
        for (size_t i = 0; i < len; i++) {
            copy[i] = (char)data[2 + i];
        }
        check_message(str_of(copy, len), &layout, &has_layout);
        free(copy);
        data += 2 + len;
        size -= 2 + len;
    }
    return 0;
}
