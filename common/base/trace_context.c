#include "common/base/trace_context.h"

enum { TRACE_ID_AT = 3, SPAN_ID_AT = 36, FLAGS_AT = 53, FLAG_SAMPLED = 1 };

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* False: not hexadecimal. */
static bool read_hex(const char *text, uint8_t *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const int high = hex_digit(text[2 * i]);
        const int low = hex_digit(text[2 * i + 1]);
        if (high < 0 || low < 0) {
            return false;
        }
        out[i] = (uint8_t)(high * 16 + low);
    }
    return true;
}

static bool is_zero(const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (bytes[i] != 0) {
            return false;
        }
    }
    return true;
}

bool trace_context_parse(struct str traceparent, struct trace_context *out) {
    struct trace_context read = {.sampled = false};
    const char *text = traceparent.ptr;
    uint8_t flags = 0;

    if (traceparent.len != TRACEPARENT_BYTES - 1 || !str_starts_with(traceparent, STR("00-")) ||
        text[SPAN_ID_AT - 1] != '-' || text[FLAGS_AT - 1] != '-') {
        return false;
    }
    if (!read_hex(text + TRACE_ID_AT, read.trace_id, TRACE_ID_BYTES) ||
        !read_hex(text + SPAN_ID_AT, read.span_id, SPAN_ID_BYTES) ||
        !read_hex(text + FLAGS_AT, &flags, 1) || is_zero(read.trace_id, TRACE_ID_BYTES) ||
        is_zero(read.span_id, SPAN_ID_BYTES)) {
        return false;
    }
    read.sampled = (flags & FLAG_SAMPLED) != 0;
    *out = read;
    return true;
}

void trace_hex(char *out, const uint8_t *bytes, size_t count) {
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < count; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 0x0f];
    }
}

void trace_context_format(char out[TRACEPARENT_BYTES], const struct trace_context *context) {
    memcpy(out, "00-", TRACE_ID_AT);
    trace_hex(out + TRACE_ID_AT, context->trace_id, TRACE_ID_BYTES);
    out[SPAN_ID_AT - 1] = '-';
    trace_hex(out + SPAN_ID_AT, context->span_id, SPAN_ID_BYTES);
    memcpy(out + FLAGS_AT - 1, context->sampled ? "-01" : "-00", 4);
}
