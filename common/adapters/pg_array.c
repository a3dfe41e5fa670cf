#include "common/adapters/pg_array.h"

#include <assert.h>
#include <endian.h>

enum { HEADER_BYTES = 20 };

void pg_array_init(struct pg_array *array) {
    buf_init(&array->buf, PG_ARRAY_BYTES_MAX);
    array->type = PG_TEXT;
    array->count = 0;
    array->nulls = 0;
}

void pg_array_release(struct pg_array *array) {
    buf_release(&array->buf);
}

void pg_array_begin(struct pg_array *array, enum pg_type type) {
    static const char zeros[HEADER_BYTES];

    buf_clear(&array->buf);
    buf_put(&array->buf, zeros, sizeof(zeros));
    array->type = type;
    array->count = 0;
    array->nulls = 0;
}

static void put_element(struct pg_array *array, const void *bytes, size_t len) {
    buf_put_be32(&array->buf, (uint32_t)len);
    buf_put(&array->buf, bytes, len);
    array->count++;
}

void pg_array_text(struct pg_array *array, struct str value) {
    assert(array->type == PG_TEXT || array->type == PG_JSON || array->type == PG_BYTEA);
    put_element(array, value.len > 0 ? value.ptr : "", value.len);
}

void pg_array_text_or_null(struct pg_array *array, struct str value) {
    if (value.len == 0) {
        pg_array_null(array);
    } else {
        pg_array_text(array, value);
    }
}

void pg_array_i16(struct pg_array *array, int16_t value) {
    assert(array->type == PG_INT2);
    buf_put_be32(&array->buf, 2);
    buf_put_be16(&array->buf, (uint16_t)value);
    array->count++;
}

void pg_array_i32(struct pg_array *array, int32_t value) {
    assert(array->type == PG_INT4 || array->type == PG_DATE);
    buf_put_be32(&array->buf, 4);
    buf_put_be32(&array->buf, (uint32_t)value);
    array->count++;
}

static void put_i64(struct pg_array *array, int64_t value) {
    buf_put_be32(&array->buf, 8);
    buf_put_be64(&array->buf, (uint64_t)value);
    array->count++;
}

void pg_array_i64(struct pg_array *array, int64_t value) {
    assert(array->type == PG_INT8);
    put_i64(array, value);
}

void pg_array_time(struct pg_array *array, int64_t wall_us) {
    assert(array->type == PG_TIMESTAMPTZ);
    put_i64(array, wall_us - PG_EPOCH_US);
}

void pg_array_uuid(struct pg_array *array, const struct uuid *value) {
    assert(array->type == PG_UUID);
    put_element(array, value->bytes, sizeof(value->bytes));
}

void pg_array_null(struct pg_array *array) {
    buf_put_be32(&array->buf, UINT32_MAX);
    array->count++;
    array->nulls++;
}

void pg_array_end(struct pg_array *array) {
    const uint32_t header[5] = {
        htobe32(1),
        htobe32(array->nulls > 0 ? 1 : 0),
        htobe32((uint32_t)array->type),
        htobe32(array->count),
        htobe32(1),
    };

    if (buf_failed(&array->buf)) {
        return;
    }
    memcpy(array->buf.ptr, header, sizeof(header));
    if (array->count == 0) {
        /* An empty array has no dimensions. */
        memset(array->buf.ptr, 0, 4);
        array->buf.len = 12;
    }
}

bool pg_array_has_values(const struct pg_array *array) {
    return array->count > array->nulls;
}
