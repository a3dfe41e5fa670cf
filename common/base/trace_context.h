/* W3C Trace Context, version 00: which trace, which span in it, and whether it is recorded. */
#ifndef DAYBOOK_BASE_TRACE_CONTEXT_H
#define DAYBOOK_BASE_TRACE_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/str.h"

enum { TRACE_ID_BYTES = 16, SPAN_ID_BYTES = 8, TRACEPARENT_BYTES = 56 /* 55 and the NUL */ };

struct trace_context {
    uint8_t trace_id[TRACE_ID_BYTES];
    uint8_t span_id[SPAN_ID_BYTES]; /* all zero: there is no span, nothing else is set either */
    bool sampled;
};

static inline bool trace_context_is_set(const struct trace_context *context) {
    static const uint8_t none[SPAN_ID_BYTES];

    return memcmp(context->span_id, none, sizeof(none)) != 0;
}

/* "00-<32 hex>-<16 hex>-<2 hex>", lower case, ids not all zero. False: ill-formed, *out untouched.
 */
MUST_CHECK bool trace_context_parse(struct str traceparent, struct trace_context *out);
/* Flags: 01 when sampled, else 00. */
void trace_context_format(char out[TRACEPARENT_BYTES], const struct trace_context *context);

/* Lower-case hexadecimal digits, without a NUL. */
void trace_hex(char *out, const uint8_t *bytes, size_t count);

#endif
