/*
 * Live streams: the log, or the entries of one account, as server-sent events, for the clients of
 * one HTTP thread, on its loop.
 *
 *      starting ──first read──▶ behind ──caught up──▶ live ──▶ closed
 *         │                       ▲                    │
 *         └─▶ refused             └──buffer full, gap──┘
 *
 *  1. One reader follows the log's end for all streams of the thread: a read every 25 ms while
 *     there are any. So what an open stream costs while nothing happens is a heartbeat every 15
 *     seconds.
 *  2. A stream knows what it has sent: a position of the log, or a version of the account. Live
 *     events at or below are passed over; one that does not follow sends the stream back to
 *     reading pages from where it is. So nothing is lost and nothing comes twice, whatever the
 *     order in which pages and live events arrive.
 *  3. What a client does not take waits in a buffer of fixed size. When that is full the stream
 *     falls behind: it reads pages, as fast as the client does. A client that takes nothing for
 *     ten seconds is cut off; it can resume with Last-Event-ID.
 *  4. Bounded: streams, reads in flight, pages, buffers.
 */
#ifndef DAYBOOK_QUERY_API_LIVE_H
#define DAYBOOK_QUERY_API_LIVE_H

#include "common/http/http_server.h"
#include "common/ports/log_view.h"

struct live;

struct live_options {
    struct loop *loop;
    struct log_view view;
    size_t streams_max;
    struct log *log;
    struct metrics *metrics;
    int64_t heartbeat_us; /* 0: the default */
    int64_t stall_us;     /* 0: the default */
};

struct live *live_new(const struct live_options *options);
/* After the loop has stopped and the HTTP server was freed. */
void live_free(struct live *live);

/* All of the log, or some. `after`: the position of the last event the client has; -1: only what
 * comes. Texts are copied. */
enum http_result live_start_log(struct live *live, struct http_request *request,
                                struct str aggregate_type, struct str event_type, int64_t after);
/* The entries of an account. `after`: the version of the last entry the client has; -1: the newest
 * one, then what comes. */
enum http_result live_start_account(struct live *live, struct http_request *request, struct str id,
                                    int64_t after);

/* On the loop's thread: ends all streams, after what they hold; cuts off who does not take it
 * within a second. New ones are refused. */
void live_drain(void *live);

#endif
