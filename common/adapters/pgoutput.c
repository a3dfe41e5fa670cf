#include "common/adapters/pgoutput.h"

#include <string.h>

#include "common/base/clock.h"

#define POSTGRES_EPOCH_US INT64_C(946684800000000)

struct reader {
    struct str rest;
    bool failed;
};

static uint64_t read_be(struct reader *reader, size_t bytes) {
    uint64_t value = 0;

    if (reader->failed || reader->rest.len < bytes) {
        reader->failed = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++) {
        value = value << 8 | (unsigned char)reader->rest.ptr[i];
    }
    reader->rest = str_of(reader->rest.ptr + bytes, reader->rest.len - bytes);
    return value;
}

static struct str read_bytes(struct reader *reader, size_t len) {
    if (reader->failed || reader->rest.len < len) {
        reader->failed = true;
        return (struct str){0};
    }
    const struct str bytes = str_of(reader->rest.ptr, len);
    reader->rest = str_of(reader->rest.ptr + len, reader->rest.len - len);
    return bytes;
}

static struct str read_cstring(struct reader *reader) {
    const char *end = reader->failed ? NULL : memchr(reader->rest.ptr, '\0', reader->rest.len);

    if (end == NULL) {
        reader->failed = true;
        return (struct str){0};
    }
    const struct str text = read_bytes(reader, (size_t)(end - reader->rest.ptr));
    (void)read_be(reader, 1);
    return text;
}

static int64_t read_time(struct reader *reader) {
    const uint64_t raw = read_be(reader, 8);

    return (int64_t)(raw + (uint64_t)POSTGRES_EPOCH_US);
}

static size_t read_count(struct reader *reader) {
    const size_t count = (size_t)read_be(reader, 2);

    if (count > PGOUTPUT_COLUMNS_MAX) {
        reader->failed = true;
        return 0;
    }
    return count;
}

static void read_begin(struct reader *reader, struct pgoutput_message *out) {
    out->kind = PGOUTPUT_BEGIN;
    out->commit_lsn = read_be(reader, 8);
    out->committed_at_us = read_time(reader);
    (void)read_be(reader, 4); /* transaction id */
}

static void read_commit(struct reader *reader, struct pgoutput_message *out) {
    out->kind = PGOUTPUT_COMMIT;
    (void)read_be(reader, 1); /* flags, unused */
    out->commit_lsn = read_be(reader, 8);
    out->end_lsn = read_be(reader, 8);
    out->committed_at_us = read_time(reader);
}

static void read_relation(struct reader *reader, struct pgoutput_message *out) {
    out->kind = PGOUTPUT_RELATION;
    out->relation_id = (uint32_t)read_be(reader, 4);
    out->schema = read_cstring(reader);
    out->name = read_cstring(reader);
    (void)read_be(reader, 1); /* replica identity */
    out->column_count = read_count(reader);
    for (size_t i = 0; i < out->column_count; i++) {
        (void)read_be(reader, 1); /* flags */
        out->columns[i] = read_cstring(reader);
        (void)read_be(reader, 4); /* type */
        (void)read_be(reader, 4); /* type modifier */
    }
}

static void read_insert(struct reader *reader, struct pgoutput_message *out) {
    out->kind = PGOUTPUT_INSERT;
    out->relation_id = (uint32_t)read_be(reader, 4);
    reader->failed = reader->failed || read_be(reader, 1) != 'N';
    out->column_count = read_count(reader);
    for (size_t i = 0; i < out->column_count; i++) {
        struct pgoutput_value *value = &out->values[i];
        *value = (struct pgoutput_value){0};
        switch ((char)read_be(reader, 1)) {
        case 'n':
            value->is_null = true;
            break;
        case 'u':
            value->is_unchanged = true;
            break;
        case 't':
            value->text = read_bytes(reader, (size_t)read_be(reader, 4));
            break;
        default:
            reader->failed = true;
            break;
        }
    }
}

enum err_code pgoutput_decode(struct str bytes, struct pgoutput_message *out, struct err *err) {
    struct reader reader = {.rest = bytes};
    const char kind = (char)read_be(&reader, 1);

    out->column_count = 0;
    switch (kind) {
    case 'B':
        read_begin(&reader, out);
        break;
    case 'C':
        read_commit(&reader, out);
        break;
    case 'R':
        read_relation(&reader, out);
        break;
    case 'I':
        read_insert(&reader, out);
        break;
    case 'Y':
    case 'O':
    case 'M':
    case 'T':
    case 'U':
    case 'D':
        out->kind = PGOUTPUT_OTHER;
        return ERR_OK;
    default:
        return err_set(err, ERR_CORRUPT, "pgoutput: unknown message type 0x%02x",
                       (unsigned)(unsigned char)kind);
    }
    if (reader.failed || reader.rest.len > 0) {
        return err_set(err, ERR_CORRUPT, "pgoutput: malformed message of type %c, %zu bytes", kind,
                       bytes.len);
    }
    return ERR_OK;
}

bool pgoutput_parse_time(struct str text, int64_t *wall_us) {
    char rfc[CLOCK_RFC3339_BYTES + 8];

    /* The offset is printed as +HH, +HH:MM or +HH:MM:SS; ours is always UTC, +00. */
    if (text.len < 12 || text.len > CLOCK_RFC3339_BYTES || text.ptr[10] != ' ' ||
        !str_eq(str_of(text.ptr + text.len - 3, 3), STR("+00"))) {
        return false;
    }
    memcpy(rfc, text.ptr, text.len - 3);
    rfc[10] = 'T';
    rfc[text.len - 3] = 'Z';
    return clock_parse_rfc3339(str_of(rfc, text.len - 2), wall_us);
}
