/*
 * Answers without an end: a body that is written piece by piece, for as long as both sides like.
 *
 *  1. Everything here happens on the thread that owns the request, on its loop.
 *  2. What is written waits in a buffer of fixed maximum until the client takes it. Who writes
 *     decides what becomes of a client that doesn't: write less, or cut it off.
 *  3. `closed` is called exactly once, whoever ended it: the client, http_stream_end or
 *     http_stream_cut. After it the stream is gone. A client that leaves is noticed at the next
 *     writes only: write something now and then.
 *  4. The connection counts as one of the server's and its request as one in hand: at a stop the
 *     writer has to end its streams.
 */
#ifndef DAYBOOK_HTTP_HTTP_STREAM_H
#define DAYBOOK_HTTP_HTTP_STREAM_H

#include "common/http/http_server.h"

struct http_stream;

typedef void http_stream_closed_fn(void *arg);

/*
 * Makes the answer of a request a stream: 200, this content type (static), the headers that the
 * response has. Instead of http_respond; then HTTP_DONE or http_complete as ever. May be written
 * to at once. A HEAD request gets the head alone, and what is written goes nowhere.
 */
struct http_stream *http_respond_stream(struct http_request *request, const char *content_type,
                                        size_t buffer_bytes_max, http_stream_closed_fn *closed,
                                        void *arg);

/* False, and nothing is written, when the buffer can't take all of it, or after end or cut. */
MUST_CHECK bool http_stream_write(struct http_stream *stream, struct str bytes);
/* Bytes that wait for the client. */
size_t http_stream_pending(const struct http_stream *stream);
/* Bytes that were handed on to the client's connection so far. */
uint64_t http_stream_taken(const struct http_stream *stream);
/* The end, after what was written. */
void http_stream_end(struct http_stream *stream);
/* The end at once: the connection is closed. */
void http_stream_cut(struct http_stream *stream);

#endif
