#include "common/base/str.h"

static unsigned char ascii_lower(char c) {
    unsigned char u = (unsigned char)c;
    return u >= 'A' && u <= 'Z' ? (unsigned char)(u + ('a' - 'A')) : u;
}

bool str_eq_nocase(struct str a, struct str b) {
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (ascii_lower(a.ptr[i]) != ascii_lower(b.ptr[i])) {
            return false;
        }
    }
    return true;
}

bool str_starts_with(struct str text, struct str prefix) {
    return text.len >= prefix.len &&
           (prefix.len == 0 || memcmp(text.ptr, prefix.ptr, prefix.len) == 0);
}

int str_cmp(struct str a, struct str b) {
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter == 0 ? 0 : memcmp(a.ptr, b.ptr, shorter);
    if (order != 0) {
        return order;
    }
    return (a.len > b.len) - (a.len < b.len);
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

struct str str_trim(struct str text) {
    while (text.len > 0 && is_blank(text.ptr[0])) {
        text.ptr++;
        text.len--;
    }
    while (text.len > 0 && is_blank(text.ptr[text.len - 1])) {
        text.len--;
    }
    return text;
}

bool str_copy(char *out, size_t out_bytes, struct str text) {
    if (out_bytes == 0) {
        return false;
    }
    if (text.len >= out_bytes) {
        out[0] = '\0';
        return false;
    }
    if (text.len > 0) {
        memcpy(out, text.ptr, text.len);
    }
    out[text.len] = '\0';
    return true;
}

bool str_to_u64(struct str text, uint64_t *out) {
    if (text.len == 0) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c < '0' || c > '9') {
            return false;
        }
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, (uint64_t)(c - '0'), &value)) {
            return false;
        }
    }
    *out = value;
    return true;
}

bool str_to_i64(struct str text, int64_t *out) {
    bool negative = text.len > 0 && text.ptr[0] == '-';
    struct str digits = negative ? str_of(text.ptr + 1, text.len - 1) : text;
    uint64_t magnitude;
    if (!str_to_u64(digits, &magnitude)) {
        return false;
    }
    if (negative) {
        if (magnitude > (uint64_t)INT64_MAX + 1) {
            return false;
        }
        /* -(m - 1) - 1 reaches INT64_MIN without ever leaving int64. */
        *out = magnitude == 0 ? 0 : -(int64_t)(magnitude - 1) - 1;
        return true;
    }
    if (magnitude > (uint64_t)INT64_MAX) {
        return false;
    }
    *out = (int64_t)magnitude;
    return true;
}

struct str str_of_i64(char text[STR_I64_BYTES], int64_t value) {
    char *const end = text + STR_I64_BYTES;
    char *at = end;
    /* The magnitude as unsigned: -INT64_MIN does not exist in int64. */
    uint64_t magnitude = value < 0 ? UINT64_C(0) - (uint64_t)value : (uint64_t)value;

    do {
        *--at = (char)('0' + magnitude % 10);
        magnitude /= 10;
    } while (magnitude > 0);
    if (value < 0) {
        *--at = '-';
    }
    return str_of(at, (size_t)(end - at));
}

/*
 * Length of the well-formed sequence at p, 0 when there is none: the table of well-formed byte
 * sequences in the Unicode Standard, section 3.9 (table 3-7). Only the second byte's range depends
 * on the lead byte.
 */
static size_t utf8_sequence(const unsigned char *p, size_t left) {
    unsigned char lead = p[0];
    if (lead < 0x80) {
        return 1;
    }
    size_t len;
    unsigned char low = 0x80;
    unsigned char high = 0xbf;
    if (lead >= 0xc2 && lead <= 0xdf) {
        len = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        len = 3;
        low = lead == 0xe0 ? 0xa0 : low;   /* no overlong forms */
        high = lead == 0xed ? 0x9f : high; /* no surrogates */
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        len = 4;
        low = lead == 0xf0 ? 0x90 : low;   /* no overlong forms */
        high = lead == 0xf4 ? 0x8f : high; /* nothing above U+10FFFF */
    } else {
        return 0;
    }
    if (left < len || p[1] < low || p[1] > high) {
        return 0;
    }
    for (size_t i = 2; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    return len;
}

size_t str_utf8_sequence(struct str text) {
    return text.len == 0 ? 0 : utf8_sequence((const unsigned char *)text.ptr, text.len);
}

bool str_is_utf8(struct str text) {
    while (text.len > 0) {
        size_t len = str_utf8_sequence(text);
        if (len == 0) {
            return false;
        }
        text.ptr += len;
        text.len -= len;
    }
    return true;
}
