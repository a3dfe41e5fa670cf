#include "common/base/json_doc.h"

#include <inttypes.h>
#include <string.h>

enum { INDEX_DIGITS = 4 }; /* JSON_DOC_NUMBERS_MAX - 1 has four */

struct rewriter {
    struct str text;
    size_t at;
    struct buf *out;
    struct str *numbers;
    size_t number_count;
};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* Length of the number at the start of `text` by RFC 8259 section 6; 0 when it isn't one. */
static size_t number_length(struct str text) {
    size_t i = 0;

    if (i < text.len && text.ptr[i] == '-') {
        i++;
    }
    if (i == text.len || !is_digit(text.ptr[i])) {
        return 0;
    }
    if (text.ptr[i] == '0') {
        i++;
    } else {
        while (i < text.len && is_digit(text.ptr[i])) {
            i++;
        }
    }
    if (i < text.len && text.ptr[i] == '.') {
        const size_t first = ++i;
        while (i < text.len && is_digit(text.ptr[i])) {
            i++;
        }
        if (i == first) {
            return 0;
        }
    }
    if (i < text.len && (text.ptr[i] == 'e' || text.ptr[i] == 'E')) {
        i++;
        if (i < text.len && (text.ptr[i] == '+' || text.ptr[i] == '-')) {
            i++;
        }
        const size_t first = i;
        while (i < text.len && is_digit(text.ptr[i])) {
            i++;
        }
        if (i == first) {
            return 0;
        }
    }
    return i;
}

/* A character that would make one number of an index and what follows it: 5-3, 1e5e5. */
static bool goes_on(char c) {
    return is_digit(c) || c == '.' || c == '-' || c == '+' || c == 'e' || c == 'E';
}

static size_t string_length(struct str text) {
    size_t i = 1;

    while (i < text.len && text.ptr[i] != '"') {
        i += text.ptr[i] == '\\' ? 2 : 1;
    }
    return i < text.len ? i + 1 : text.len;
}

static enum err_code bad_number(const struct rewriter *rewriter, struct err *err) {
    size_t line = 1;
    size_t column = 1;

    for (size_t i = 0; i < rewriter->at; i++) {
        const bool newline = rewriter->text.ptr[i] == '\n';
        line += newline;
        column = newline ? 1 : column + 1;
    }
    return err_set(err, ERR_INVALID, "line %zu, column %zu: malformed number", line, column);
}

/* Copies the text, each number outside of strings replaced by its index. */
static enum err_code rewrite(struct rewriter *r, struct err *err) {
    int depth = 0;

    while (r->at < r->text.len) {
        const struct str rest = str_of(r->text.ptr + r->at, r->text.len - r->at);
        const char c = rest.ptr[0];
        size_t len = 1;

        if (c == '"') {
            len = string_length(rest);
            buf_put(r->out, rest.ptr, len);
        } else if (c == '-' || is_digit(c)) {
            len = number_length(rest);
            if (len == 0 || (len < rest.len && goes_on(rest.ptr[len]))) {
                return bad_number(r, err);
            }
            if (r->number_count == JSON_DOC_NUMBERS_MAX) {
                return err_set(err, ERR_LIMIT, "more than %d numbers", JSON_DOC_NUMBERS_MAX);
            }
            buf_put_i64(r->out, (int64_t)r->number_count);
            r->numbers[r->number_count++] = str_of(rest.ptr, len);
        } else {
            depth += (c == '{' || c == '[') - (c == '}' || c == ']');
            if (depth > JSON_DOC_DEPTH_MAX) {
                return err_set(err, ERR_LIMIT, "nested deeper than %d", JSON_DOC_DEPTH_MAX);
            }
            buf_put_char(r->out, c);
        }
        r->at += len;
    }
    return ERR_OK;
}

/* At least as many as there are number tokens: each starts with a digit or a minus sign that
 * doesn't follow another character of a number. */
static size_t count_numbers(struct str text) {
    size_t count = 0;
    bool inside = false;

    for (size_t i = 0; i < text.len; i++) {
        const bool part = is_digit(text.ptr[i]) || text.ptr[i] == '-';
        count += part && !inside;
        inside = part;
    }
    return count < JSON_DOC_NUMBERS_MAX ? count : JSON_DOC_NUMBERS_MAX;
}

enum err_code json_doc_parse(struct str text, struct arena *arena, struct json_doc *out,
                             struct err *err) {
    const size_t numbers_max = count_numbers(text);
    struct buf copy;
    json_error_t why;

    *out = (struct json_doc){0};
    buf_init(&copy, text.len + numbers_max * INDEX_DIGITS + 1);
    struct rewriter rewriter = {.text = text, .out = &copy};
    rewriter.numbers = arena_array(arena, numbers_max + 1, sizeof(struct str));
    if (rewriter.numbers == NULL) {
        return err_set(err, ERR_LIMIT, "document too large");
    }
    enum err_code code = rewrite(&rewriter, err);
    if (code == ERR_OK && buf_failed(&copy)) {
        code = err_set(err, ERR_LIMIT, "document too large");
    }
    if (code == ERR_OK) {
        const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY;
        const struct str rewritten = buf_str(&copy);
        out->root = json_loadb(rewritten.ptr, rewritten.len, flags, &why);
        out->numbers = rewriter.numbers;
        out->number_count = rewriter.number_count;
        if (out->root == NULL) {
            code =
                err_set(err, ERR_INVALID, "line %d, column %d: %s", why.line, why.column, why.text);
        }
    }
    buf_release(&copy);
    return code;
}

void json_doc_release(struct json_doc *doc) {
    json_decref(doc->root);
    *doc = (struct json_doc){0};
}

struct str json_doc_number(const struct json_doc *doc, const json_t *value) {
    if (!json_is_integer(value)) {
        return (struct str){0};
    }
    const json_int_t index = json_integer_value(value);
    return index >= 0 && (size_t)index < doc->number_count ? doc->numbers[index] : (struct str){0};
}
