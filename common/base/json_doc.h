/*
 * Strict JSON from untrusted bytes, with numbers kept as text.
 *
 * jansson turns 0.1 into a double; money must not pass through one. So each number token is checked
 * against RFC 8259 section 6 and set aside as text, and jansson reads the document with the token's
 * index in its place. Everything else is jansson's judgement: duplicate keys, trailing bytes, bad
 * UTF-8, NUL, depth are refused.
 */
#ifndef DAYBOOK_BASE_JSON_DOC_H
#define DAYBOOK_BASE_JSON_DOC_H

#include <jansson.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/str.h"

enum { JSON_DOC_NUMBERS_MAX = 4096, JSON_DOC_DEPTH_MAX = 32 };

struct json_doc {
    json_t *root;        /* owned; integers in it are indexes into `numbers` */
    struct str *numbers; /* the tokens, pointing into the text that was parsed (borrowed); array in
                            the arena */
    size_t number_count;
};

/* ERR_INVALID with a message fit for a client ("line 1, column 14: ..."); ERR_LIMIT: too many
 * numbers or too deep. */
MUST_CHECK enum err_code json_doc_parse(struct str text, struct arena *arena, struct json_doc *out,
                                        struct err *err);
void json_doc_release(struct json_doc *doc);

/* The number's text when `value` is a number of this document; otherwise len 0. */
struct str json_doc_number(const struct json_doc *doc, const json_t *value);

#endif
