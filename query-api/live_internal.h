/*
 * What the live streams' own files share; nobody else includes this.
 *
 *   live.c        a stream's life, the log's end, heartbeats, the end
 *   live_pages.c  what is sent: frames, and pages for those that are not live
 */
#ifndef DAYBOOK_QUERY_API_LIVE_INTERNAL_H
#define DAYBOOK_QUERY_API_LIVE_INTERNAL_H

#include <sys/queue.h>

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/http/http_stream.h"
#include "query-api/live.h"

enum {
    BUCKETS = 4096,
    BUFFER_BYTES_MAX = 128 * 1024,
    FRAME_BYTES_MAX = BUFFER_BYTES_MAX,
    LOW_BYTES = BUFFER_BYTES_MAX / 4, /* with less than this waiting a stream reads on */
    READS_MAX = 8,                    /* of streams, in flight */
    PUMP_LOOKS_MAX = 256,
    PAGE_EVENTS = 200,
    TAIL_EVENTS_MAX = 1000,
    TAIL_EVENTS_MIN = 20,
    TAIL_COPIES = 200000, /* events times streams of one read of the log's end */
    TAIL_EVERY_US = 25000,
    TAIL_AGAIN_US = 250000, /* after a failure */
    HEARTBEAT_US = 15000000,
    STALL_US = 10000000,
    DRAIN_US = 1000000,
    DECODE_BYTES_MAX = 256 * 1024,
};

enum phase { PHASE_STARTING, PHASE_BEHIND, PHASE_LIVE, PHASE_CLOSED };

struct stream {
    TAILQ_ENTRY(stream) beats;  /* all but closed ones, by the time of their last heartbeat */
    TAILQ_ENTRY(stream) queue;  /* starting and behind */
    LIST_ENTRY(stream) fellows; /* of the account's bucket, or of the log */
    struct live *live;
    struct http_request *request; /* while starting */
    struct http_stream *out;      /* after it */
    enum phase phase;
    bool of_account;
    bool reading; /* a read is in flight: it will free a closed one */
    bool dropped;
    bool again; /* while it reads, something came live that the page may not have */
    char id[STREAM_ID_BYTES_MAX + 1];
    char aggregate_type[LOG_VIEW_NAME_BYTES];
    char event_type[LOG_VIEW_NAME_BYTES];
    int64_t sent; /* a position or a version; -1: from now on */
    int64_t beat_us;
    int64_t moved_us; /* when the client last took something, or had all */
    uint64_t taken;
};

TAILQ_HEAD(stream_queue, stream);
LIST_HEAD(stream_list, stream);

struct live {
    struct live_options options;
    struct stream_queue all;
    struct stream_queue behind;
    struct stream_list log_streams;
    struct stream_list accounts[BUCKETS];
    size_t count, log_count;
    size_t reads; /* of streams, in flight */
    int64_t tail; /* all up to this position was passed on; -1: not known yet */
    bool tail_reading;
    uint64_t timer;
    bool draining;
    struct buf frame;
    struct arena scratch;
    struct metric_gauge *streams;
    struct metric_counter *dropped;
    struct metric_counter *events;
};

/* live.c */

void live_set_phase(struct stream *stream, enum phase phase);
void live_refuse(struct stream *stream, int status, const char *code, const char *title,
                 const char *detail);
/* Lets it through as the beginning of a stream. */
void live_accept(struct stream *stream);
/* Sees to the log's end again, this late at the latest. */
void live_arm(struct live *live, int64_t delay_us);

/* live_pages.c */

/* Has the client taken anything lately, or is there nothing to take? */
bool live_moves(struct stream *stream, int64_t now_us);
/* Cuts it off. */
void live_drop(struct stream *stream);
/* Puts the event's frame into live->frame. False: it can't be shown. */
MUST_CHECK bool live_make_frame(struct live *live, const struct recorded_event *event,
                                bool of_account);
/* The frame made last. False: it does not fit now. */
MUST_CHECK bool live_send_frame(struct stream *stream);
/* Begins reads for those that wait for one, in turn. */
void live_pump(struct live *live);

#endif
