/*
 * One-dimensional PostgreSQL arrays in the binary format (src/backend/utils/adt/arrayfuncs.c,
 * array_recv): dimensions, null flag, element type, length, lower bound, then length-prefixed
 * elements. Cheaper to send and to read than text, and nothing needs escaping.
 *
 *   pg_array_begin(&a, PG_TEXT); pg_array_text(&a, s); …; pg_array_end(&a);
 */
#ifndef DAYBOOK_ADAPTERS_PG_ARRAY_H
#define DAYBOOK_ADAPTERS_PG_ARRAY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/buf.h"
#include "common/base/uuid.h"

/* Element type oids (src/include/catalog/pg_type.dat). */
enum pg_type {
    PG_BYTEA = 17,
    PG_INT8 = 20,
    PG_INT2 = 21,
    PG_INT4 = 23,
    PG_TEXT = 25,
    PG_JSON = 114,
    PG_TIMESTAMPTZ = 1184,
    PG_DATE = 1082,
    PG_UUID = 2950,
};

enum { PG_ARRAY_BYTES_MAX = 64 * 1024 * 1024 };

/* Microseconds from 1970-01-01 to 2000-01-01, PostgreSQL's epoch. */
#define PG_EPOCH_US INT64_C(946684800000000)

struct pg_array {
    struct buf buf;
    enum pg_type type;
    uint32_t count;
    uint32_t nulls; /* of these */
};

void pg_array_init(struct pg_array *array);
void pg_array_release(struct pg_array *array);

/* Starts anew, keeping the memory. */
void pg_array_begin(struct pg_array *array, enum pg_type type);
void pg_array_text(struct pg_array *array, struct str value);         /* TEXT, JSON, BYTEA */
void pg_array_text_or_null(struct pg_array *array, struct str value); /* len 0: NULL */
void pg_array_i16(struct pg_array *array, int16_t value);
void pg_array_i32(struct pg_array *array, int32_t value);
void pg_array_i64(struct pg_array *array, int64_t value);
void pg_array_uuid(struct pg_array *array, const struct uuid *value);
void pg_array_time(struct pg_array *array, int64_t wall_us);
void pg_array_null(struct pg_array *array);
/* Is anything in it but NULLs? */
bool pg_array_has_values(const struct pg_array *array);
/* Writes the header; buf.ptr and buf.len are the parameter then. */
void pg_array_end(struct pg_array *array);

#endif
