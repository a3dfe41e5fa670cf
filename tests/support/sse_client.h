/* Live streams as a client sees them, byte by byte: many at once, read by one thread. */
#ifndef DAYBOOK_TESTS_SUPPORT_SSE_CLIENT_H
#define DAYBOOK_TESTS_SUPPORT_SSE_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SSE_TEXT_BYTES = 64 * 1024 };

enum sse_end { SSE_OPEN, SSE_CLOSED, SSE_BROKEN }; /* closed in order; reset */

struct sse {
    int fd;
    enum sse_end end;
    size_t len;
    char text[SSE_TEXT_BYTES]; /* the answer as it came, NUL-terminated; the test fails if longer */
};

/* GET path at "http://127.0.0.1:port", Last-Event-ID where it is not negative. */
void sse_open(struct sse *sse, const char *base, const char *path, int64_t last_event_id);
void sse_close(struct sse *sse);

/* Reads from all of them until `fn` is true; false: it was not within limit_ms. */
bool sse_read_until(struct sse *all, size_t count, bool (*fn)(void *arg), void *arg, int limit_ms);

/* Takes HTTP's chunks apart in `text`, which must have ended or pause between two of them; true:
 * it is a 200 whose last chunk has come. */
bool sse_unwrap(struct sse *sse);
/* The test fails unless the events' ids count up by one from `first`; the last one, or first - 1
 * when there is none. */
int64_t sse_last_id(const struct sse *sse, int64_t first);

#endif
