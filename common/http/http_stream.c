#include "common/http/http_stream.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/http/http_internal.h"

struct http_stream *http_respond_stream(struct http_request *request, const char *content_type,
                                        size_t buffer_bytes_max, http_stream_closed_fn *closed,
                                        void *arg) {
    struct exchange *exchange = request->internal;
    struct http_stream *stream = mem_zalloc(sizeof(*stream));

    stream->exchange = exchange;
    stream->closed = closed;
    stream->arg = arg;
    buf_init(&stream->buffer, buffer_bytes_max);
    exchange->stream = stream;
    http_respond(request, 200, content_type, (struct str){0});
    return stream;
}

/* Has it continued at the end of this turn, if it sleeps. */
static void wake(struct http_stream *stream) {
    struct server_thread *thread = stream->exchange->thread;

    if (stream->suspended && !stream->due) {
        stream->due = true;
        stream->next_due = thread->streams_due;
        thread->streams_due = stream;
    }
}

bool http_stream_write(struct http_stream *stream, struct str bytes) {
    struct buf *buffer = &stream->buffer;

    if (stream->state != HTTP_STREAM_OPEN ||
        http_stream_pending(stream) + bytes.len > buffer->max_bytes) {
        return false;
    }
    if (stream->exchange->public.head_only) {
        return true;
    }
    if (buffer->len + bytes.len > buffer->max_bytes) {
        memmove(buffer->ptr, buffer->ptr + stream->read, buffer->len - stream->read);
        buffer->len -= stream->read;
        stream->read = 0;
    }
    buf_put_str(buffer, bytes);
    wake(stream);
    return true;
}

size_t http_stream_pending(const struct http_stream *stream) {
    return stream->buffer.len - stream->read;
}

uint64_t http_stream_taken(const struct http_stream *stream) {
    return stream->taken;
}

void http_stream_end(struct http_stream *stream) {
    if (stream->state == HTTP_STREAM_OPEN) {
        stream->state = HTTP_STREAM_ENDED;
        wake(stream);
    }
}

void http_stream_cut(struct http_stream *stream) {
    if (stream->state != HTTP_STREAM_CUT) {
        stream->state = HTTP_STREAM_CUT;
        if (stream->exchange->peer != NULL) {
            http_peer_cut_off(stream->exchange->thread, stream->exchange->peer, HTTP_CLOSED_SLOW);
        }
        wake(stream);
    }
}

size_t http_stream_read(struct http_stream *stream, char *out, size_t max) {
    const size_t pending = http_stream_pending(stream);
    const size_t count = pending < max ? pending : max;

    if (count > 0) {
        memcpy(out, stream->buffer.ptr + stream->read, count);
        stream->read += count;
        stream->taken += count;
    }
    if (stream->read == stream->buffer.len) {
        stream->read = 0;
        /* An idle stream keeps no memory but a little. */
        if (stream->buffer.cap > HTTP_STREAM_KEEP_BYTES) {
            const size_t max_bytes = stream->buffer.max_bytes;
            buf_release(&stream->buffer);
            buf_init(&stream->buffer, max_bytes);
        } else {
            buf_clear(&stream->buffer);
        }
    }
    return count;
}

void http_stream_over(struct exchange *exchange) {
    struct http_stream *stream = exchange->stream;

    if (stream == NULL) {
        return;
    }
    exchange->stream = NULL;
    for (struct http_stream **at = &exchange->thread->streams_due; *at != NULL;
         at = &(*at)->next_due) {
        if (*at == stream) {
            *at = stream->next_due;
            break;
        }
    }
    if (stream->closed != NULL) {
        stream->closed(stream->arg);
    }
    buf_release(&stream->buffer);
    mem_free(stream);
}
