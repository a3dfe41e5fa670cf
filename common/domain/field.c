#include "common/domain/field.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/json_doc.h"

enum { FIELDS_MAX = 32 };

static enum err_code complain(struct field_problem *problem, const char *code, struct str field,
                              const char *format, ...) PRINTF_LIKE(4, 5);
static enum err_code complain(struct field_problem *problem, const char *code, struct str field,
                              const char *format, ...) {
    size_t len = field.len < sizeof(problem->field) ? field.len : sizeof(problem->field) - 1;
    va_list args;

    problem->code = code;
    for (size_t i = 0; i < len; i++) {
        const char c = field.ptr[i];
        problem->field[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    problem->field[len] = '\0';
    va_start(args, format);
    (void)vsnprintf(problem->detail, sizeof(problem->detail), format, args);
    va_end(args);
    return ERR_INVALID;
}

static enum err_code read_text(const struct field *field, const json_t *value, char *out,
                               struct field_problem *problem) {
    const struct str name = str_from(field->name);

    if (!json_is_string(value)) {
        return complain(problem, "wrong_type", name, "%s must be a string", field->name);
    }
    const struct str text = str_of(json_string_value(value), json_string_length(value));
    if (!str_copy(out, field->bytes, text)) {
        return complain(problem, "text_too_long", name, "%s may have at most %zu bytes, has %zu",
                        field->name, field->bytes - 1, text.len);
    }
    return ERR_OK;
}

static enum err_code read_i64(const struct field *field, const struct json_doc *doc,
                              const json_t *value, void *out, struct field_problem *problem) {
    const struct str token = json_doc_number(doc, value);
    const struct str name = str_from(field->name);
    int64_t number = 0;

    if (token.len == 0) {
        return complain(problem, "wrong_type", name, "%s must be a whole number", field->name);
    }
    if (!str_to_i64(token, &number)) {
        return complain(problem, "number_invalid", name, "%s must be a whole number of 64 bits",
                        field->name);
    }
    memcpy(out, &number, sizeof(number));
    return ERR_OK;
}

static enum err_code read_amount(const struct field *field, const struct json_doc *doc,
                                 const json_t *value, void *out, struct field_problem *problem) {
    const struct str token = json_doc_number(doc, value);
    const struct str name = str_from(field->name);
    struct decimal amount = {0};
    enum err_code code;

    if (token.len > 0) {
        code = decimal_parse_json(token, &amount, NULL);
    } else if (json_is_string(value)) {
        code = decimal_parse(str_of(json_string_value(value), json_string_length(value)), &amount,
                             NULL);
    } else {
        return complain(problem, "wrong_type", name, "%s must be a number or a decimal string",
                        field->name);
    }
    if (code == ERR_LIMIT) {
        return complain(problem, "amount_too_large", name, "%s has more digits than any amount may",
                        field->name);
    }
    if (code != ERR_OK) {
        return complain(problem, "amount_invalid", name,
                        "%s must be a decimal number such as 12.50", field->name);
    }
    if (amount.coefficient <= 0) {
        return complain(problem, "amount_not_positive", name, "%s must be greater than zero",
                        field->name);
    }
    /* By member: structs are compared and fingerprinted as bytes, and a copy of the whole might
     * bring whatever stands in its padding. */
    memcpy((char *)out + offsetof(struct decimal, coefficient), &amount.coefficient,
           sizeof(amount.coefficient));
    memcpy((char *)out + offsetof(struct decimal, scale), &amount.scale, sizeof(amount.scale));
    return ERR_OK;
}

static enum err_code read_field(const struct field *field, const struct json_doc *doc,
                                const json_t *value, void *out, struct field_problem *problem) {
    char *member = (char *)out + field->offset;

    if (json_is_null(value) && !field->required) {
        return ERR_OK;
    }
    switch (field->kind) {
    case FIELD_TEXT:
        return read_text(field, value, member, problem);
    case FIELD_I64:
        return read_i64(field, doc, value, member, problem);
    case FIELD_AMOUNT:
        return read_amount(field, doc, value, member, problem);
    }
    return ERR_INTERNAL;
}

static size_t find_field(const struct field *fields, size_t count, struct str name) {
    for (size_t i = 0; i < count; i++) {
        if (str_eq_nocase(name, str_from(fields[i].name))) {
            return i;
        }
    }
    return count;
}

enum err_code fields_from_json(const struct field *fields, size_t count, const struct json_doc *doc,
                               bool strict, void *out, struct field_problem *problem) {
    bool seen[FIELDS_MAX] = {false};
    const char *key;
    json_t *value;

    assert(count <= FIELDS_MAX);
    if (!json_is_object(doc->root)) {
        return complain(problem, "not_an_object", (struct str){0}, "the body must be an object");
    }
    json_object_foreach(doc->root, key, value) {
        const struct str name = str_from(key);
        const size_t i = find_field(fields, count, name);
        if (i == count) {
            if (strict) {
                (void)complain(problem, "unknown_field", name, "unknown field");
                (void)snprintf(problem->detail, sizeof(problem->detail), "unknown field \"%s\"",
                               problem->field);
                return ERR_INVALID;
            }
            continue;
        }
        if (seen[i]) {
            return complain(problem, "duplicate_field", str_from(fields[i].name),
                            "%s appears more than once", fields[i].name);
        }
        seen[i] = true;
        const enum err_code code = read_field(&fields[i], doc, value, out, problem);
        if (code != ERR_OK) {
            return code;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (fields[i].required && !seen[i]) {
            return complain(problem, "missing_field", str_from(fields[i].name), "%s is required",
                            fields[i].name);
        }
    }
    return ERR_OK;
}

static void put_amount(struct buf *out, const struct decimal *amount) {
    char text[DECIMAL_TEXT_BYTES];
    const size_t len = decimal_format_minor(text, amount->coefficient, amount->scale);

    buf_put_json_str(out, str_of(text, len));
}

void fields_to_json(const struct field *fields, size_t count, const void *in, struct buf *out) {
    const char *separator = "{";

    for (size_t i = 0; i < count; i++) {
        const char *member = (const char *)in + fields[i].offset;
        struct decimal amount;
        int64_t number = 0;
        if (fields[i].kind == FIELD_TEXT && member[0] == '\0' && !fields[i].required) {
            continue;
        }
        buf_put_text(out, separator);
        separator = ",";
        buf_put_json_str(out, str_from(fields[i].name));
        buf_put_char(out, ':');
        switch (fields[i].kind) {
        case FIELD_TEXT:
            buf_put_json_str(out, str_from(member));
            break;
        case FIELD_I64:
            memcpy(&number, member, sizeof(number));
            buf_put_i64(out, number);
            break;
        case FIELD_AMOUNT:
            memcpy(&amount, member, sizeof(amount));
            put_amount(out, &amount);
            break;
        }
    }
    buf_put_text(out, separator[0] == '{' ? "{}" : "}");
}

uint64_t fields_fingerprint(const struct field *fields, size_t count) {
    uint64_t hash = HASH_FNV1A_START;

    for (size_t i = 0; i < count; i++) {
        char line[128];
        const int len = snprintf(line, sizeof(line), "%s:%d:%zu:%zu;", fields[i].name,
                                 (int)fields[i].kind, fields[i].offset, fields[i].bytes);
        hash = hash_fnv1a(hash, str_of(line, (size_t)len));
    }
    return hash;
}
