/*
 * The plain form, which is what fields_to_json writes for nearly every event: an object of strings
 * without escapes, in ASCII, and of whole numbers; names as in the table. Read without building a
 * document, since whoever replays a log does so millions of times.
 *
 * It takes a text only if fields_from_json would take it to the same struct. Anything else is left
 * to that one, to read or to refuse with a reason.
 */
#include <string.h>

#include "common/domain/field.h"

enum { PLAIN_FIELDS_MAX = 32, PLAIN_DIGITS_MAX = 18 };

struct cursor {
    const char *at, *end;
};

static bool skip(struct cursor *c, char wanted) {
    while (c->at < c->end && *c->at == ' ') {
        c->at++;
    }
    if (c->at == c->end || *c->at != wanted) {
        return false;
    }
    c->at++;
    return true;
}

/* From behind the opening quote to behind the closing one. */
static bool read_string(struct cursor *c, struct str *out) {
    const char *begin = c->at;

    while (c->at < c->end && *c->at >= ' ' && *c->at <= '~' && *c->at != '"' && *c->at != '\\') {
        c->at++;
    }
    *out = str_of(begin, (size_t)(c->at - begin));
    return c->at < c->end && *c->at++ == '"';
}

static bool read_number(struct cursor *c, int64_t *out) {
    const bool negative = *c->at == '-';
    const char *first = c->at + negative;
    int64_t value = 0;

    for (c->at = first; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++) {
        if (c->at - first == PLAIN_DIGITS_MAX) {
            return false;
        }
        value = 10 * value + (*c->at - '0');
    }
    *out = negative ? -value : value;
    /* What follows a number is looked at by the caller: only a comma or the end will do. */
    return c->at > first && (first[0] != '0' || (c->at == first + 1 && !negative));
}

static size_t find_plain(const struct field *fields, size_t count, struct str name) {
    for (size_t i = 0; i < count; i++) {
        if (strncmp(fields[i].name, name.ptr, name.len) == 0 && fields[i].name[name.len] == '\0') {
            return i;
        }
    }
    return count;
}

static bool read_member(struct cursor *c, const struct field *field, char *member) {
    struct str text;
    int64_t number = 0;

    if (field->kind == FIELD_TEXT) {
        return skip(c, '"') && read_string(c, &text) && str_copy(member, field->bytes, text);
    }
    while (c->at < c->end && *c->at == ' ') {
        c->at++;
    }
    if (field->kind != FIELD_I64 || c->at == c->end || !read_number(c, &number)) {
        return false;
    }
    memcpy(member, &number, sizeof(number));
    return true;
}

bool fields_from_plain_json(const struct field *fields, size_t count, struct str text, void *out) {
    struct cursor c = {text.ptr, text.ptr + text.len};
    bool seen[PLAIN_FIELDS_MAX] = {false};
    struct str name;

    if (count == 0 || count > PLAIN_FIELDS_MAX || !skip(&c, '{')) {
        return false;
    }
    do {
        if (!skip(&c, '"') || !read_string(&c, &name) || !skip(&c, ':')) {
            return false;
        }
        const size_t i = find_plain(fields, count, name);
        if (i == count || seen[i] || !read_member(&c, &fields[i], (char *)out + fields[i].offset)) {
            return false;
        }
        seen[i] = true;
    } while (skip(&c, ','));
    if (!skip(&c, '}') || c.at != c.end) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (fields[i].required && !seen[i]) {
            return false;
        }
    }
    return true;
}
