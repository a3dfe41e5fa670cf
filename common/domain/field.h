/*
 * Fields of plain structs, as tables: one table says how a struct is read from JSON, written as
 * JSON and what its layout is. Structs described here hold no pointers, so they can be copied,
 * cached and compared as bytes.
 */
#ifndef DAYBOOK_DOMAIN_FIELD_H
#define DAYBOOK_DOMAIN_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/decimal.h"
#include "common/base/err.h"

enum field_kind {
    FIELD_TEXT,   /* char[bytes], NUL-terminated UTF-8; "" is absent */
    FIELD_I64,    /* int64_t, a JSON integer */
    FIELD_AMOUNT, /* struct decimal: a JSON number or a decimal string, greater than zero */
};

struct field {
    const char *name; /* in JSON */
    enum field_kind kind;
    size_t offset;
    size_t bytes; /* of the member */
    bool required;
};

#define FIELD_OF(type, member, json_name, field_kind, is_required) \
    { json_name, field_kind, offsetof(type, member), sizeof(((type *)0)->member), is_required }

struct field_problem {
    const char
        *code; /* "missing_field" "unknown_field" "duplicate_field" "wrong_type" "text_too_long"
                  "amount_not_positive" "amount_too_large" "amount_invalid" "number_invalid" */
    char field[64];   /* the field's name; for an unknown one as the client wrote it, cut and made
                         printable */
    char detail[256]; /* names the field and the limit */
};

/*
 * Reads a JSON object into a zeroed struct. Field names match without regard to (ASCII) case; two
 * that differ only by case are duplicates. Unknown fields are refused when `strict`. ERR_INVALID
 * fills `problem`.
 */
struct json_doc;
MUST_CHECK enum err_code fields_from_json(const struct field *fields, size_t count,
                                          const struct json_doc *doc, bool strict, void *out,
                                          struct field_problem *problem);
/* The same for the form in which fields_to_json writes, many times quicker. False, with whatever in
 * `out`: not that form, ask fields_from_json. */
MUST_CHECK bool fields_from_plain_json(const struct field *fields, size_t count, struct str text,
                                       void *out);
/* Writes {"name":value,…} in table order; absent optional texts are left out. */
void fields_to_json(const struct field *fields, size_t count, const void *in, struct buf *out);
/* Changes whenever a name, kind, offset or size does. */
uint64_t fields_fingerprint(const struct field *fields, size_t count);

#endif
