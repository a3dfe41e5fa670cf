/*
 * A growable byte buffer that never grows past its maximum. After the first failed append it stays
 * failed: callers may append many times and check `buf_failed` once.
 */
#ifndef DAYBOOK_BASE_BUF_H
#define DAYBOOK_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/str.h"

struct buf {
    char *ptr; /* owned; always NUL-terminated once something was appended */
    size_t len;
    size_t cap;
    size_t max_bytes;
    bool failed;
};

void buf_init(struct buf *buf, size_t max_bytes);
void buf_clear(struct buf *buf); /* empty, not failed, memory kept */
void buf_release(struct buf *buf);

void buf_put(struct buf *buf, const void *bytes, size_t len);
void buf_put_str(struct buf *buf, struct str text);
void buf_put_text(struct buf *buf, const char *text);
void buf_put_char(struct buf *buf, char c);
void buf_put_i64(struct buf *buf, int64_t value);
void buf_printf(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
/* Big-endian integers, as PostgreSQL's binary formats want them. */
void buf_put_be16(struct buf *buf, uint16_t value);
void buf_put_be32(struct buf *buf, uint32_t value);
void buf_put_be64(struct buf *buf, uint64_t value);
/* Where the caller may write up to `bytes` more; NULL: failed. What was written is then added by
 * buf_wrote, before anything else is. */
char *buf_room(struct buf *buf, size_t bytes);
void buf_wrote(struct buf *buf, size_t bytes);
/* A JSON string with its quotes (RFC 8259 section 7); `text` must be UTF-8. */
void buf_put_json_str(struct buf *buf, struct str text);

static inline bool buf_failed(const struct buf *buf) {
    return buf->failed;
}
static inline struct str buf_str(const struct buf *buf) {
    return (struct str){buf->ptr ? buf->ptr : "", buf->len};
}

#endif
