#include "common/base/base64url.h"

static int digit(char c) {
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
        return c - '0' + 52;
    }
    if (c == '-') {
        return 62;
    }
    return c == '_' ? 63 : -1;
}

bool base64url_decode(struct str text, uint8_t *out, size_t out_bytes, size_t *len) {
    uint32_t bits = 0;
    unsigned held = 0; /* how many bits */
    size_t written = 0;

    if (text.len % 4 == 1) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        const int value = digit(text.ptr[i]);
        if (value < 0) {
            return false;
        }
        bits = (bits << 6 | (uint32_t)value) & 0xffff;
        held += 6;
        if (held >= 8) {
            if (written == out_bytes) {
                return false;
            }
            held -= 8;
            out[written++] = (uint8_t)(bits >> held);
        }
    }
    /* Bits that mean nothing: one token must have one spelling. */
    if ((bits & ((1U << held) - 1)) != 0) {
        return false;
    }
    *len = written;
    return true;
}
