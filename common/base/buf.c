#include "common/base/buf.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/base/mem.h"

enum { BUF_FIRST_BYTES = 256 };

void buf_init(struct buf *buf, size_t max_bytes) {
    *buf = (struct buf){.max_bytes = max_bytes};
}

void buf_clear(struct buf *buf) {
    buf->len = 0;
    buf->failed = false;
    if (buf->ptr) {
        buf->ptr[0] = '\0';
    }
}

void buf_release(struct buf *buf) {
    mem_free(buf->ptr);
    buf_init(buf, buf->max_bytes);
}

/* Makes room for `more` bytes and the NUL. max_bytes bounds len; the NUL comes on top. */
static bool reserve(struct buf *buf, size_t more) {
    if (buf->failed) {
        return false;
    }
    if (more > buf->max_bytes - buf->len) {
        buf->failed = true;
        return false;
    }
    size_t need = buf->len + more + 1;
    if (need <= buf->cap) {
        return true;
    }
    size_t cap = buf->cap ? buf->cap : BUF_FIRST_BYTES;
    while (cap < need) {
        cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    }
    if (cap - 1 > buf->max_bytes) {
        cap = buf->max_bytes + 1;
    }
    buf->ptr = mem_resize(buf->ptr, cap, 1);
    buf->cap = cap;
    return true;
}

char *buf_room(struct buf *buf, size_t bytes) {
    return reserve(buf, bytes) ? buf->ptr + buf->len : NULL;
}

void buf_wrote(struct buf *buf, size_t bytes) {
    assert(!buf->failed && bytes < buf->cap - buf->len);
    buf->len += bytes;
    buf->ptr[buf->len] = '\0';
}

void buf_put(struct buf *buf, const void *bytes, size_t len) {
    if (!reserve(buf, len)) {
        return;
    }
    if (len > 0) {
        memcpy(buf->ptr + buf->len, bytes, len);
    }
    buf->len += len;
    buf->ptr[buf->len] = '\0';
}

void buf_put_str(struct buf *buf, struct str text) {
    buf_put(buf, text.ptr, text.len);
}

void buf_put_text(struct buf *buf, const char *text) {
    buf_put(buf, text, strlen(text));
}

void buf_put_char(struct buf *buf, char c) {
    buf_put(buf, &c, 1);
}

void buf_put_i64(struct buf *buf, int64_t value) {
    char text[STR_I64_BYTES];

    buf_put_str(buf, str_of_i64(text, value));
}

void buf_printf(struct buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len < 0) {
        buf->failed = true;
    } else if (reserve(buf, (size_t)len)) {
        vsnprintf(buf->ptr + buf->len, (size_t)len + 1, format, again);
        buf->len += (size_t)len;
    }
    va_end(again);
}

static void put_big_endian(struct buf *buf, uint64_t value, size_t bytes) {
    unsigned char out[8];
    for (size_t i = 0; i < bytes; i++) {
        out[i] = (unsigned char)(value >> (8 * (bytes - 1 - i)));
    }
    buf_put(buf, out, bytes);
}

void buf_put_be16(struct buf *buf, uint16_t value) {
    put_big_endian(buf, value, 2);
}

void buf_put_be32(struct buf *buf, uint32_t value) {
    put_big_endian(buf, value, 4);
}

void buf_put_be64(struct buf *buf, uint64_t value) {
    put_big_endian(buf, value, 8);
}

static void put_json_escape(struct buf *buf, unsigned char c) {
    switch (c) {
    case '"':
        buf_put(buf, "\\\"", 2);
        break;
    case '\\':
        buf_put(buf, "\\\\", 2);
        break;
    case '\b':
        buf_put(buf, "\\b", 2);
        break;
    case '\f':
        buf_put(buf, "\\f", 2);
        break;
    case '\n':
        buf_put(buf, "\\n", 2);
        break;
    case '\r':
        buf_put(buf, "\\r", 2);
        break;
    case '\t':
        buf_put(buf, "\\t", 2);
        break;
    default:
        buf_printf(buf, "\\u%04x", (unsigned)c);
        break;
    }
}

void buf_put_json_str(struct buf *buf, struct str text) {
    buf_put_char(buf, '"');
    size_t start = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        /* DEL needs no escape by the grammar, but it does harm on terminals. */
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            continue;
        }
        buf_put(buf, text.ptr + start, i - start);
        put_json_escape(buf, c);
        start = i + 1;
    }
    if (text.len > start) {
        buf_put(buf, text.ptr + start, text.len - start);
    }
    buf_put_char(buf, '"');
}
