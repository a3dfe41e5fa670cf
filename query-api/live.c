#include "query-api/live.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/queue.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/domain/account.h"
#include "common/http/http_stream.h"
#include "common/http/problem.h"
#include "query-api/event_text.h"

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

static void pump(struct live *live);
static void arm(struct live *live, int64_t delay_us);

/* --- life of a stream --- */

static struct stream_list *fellows_of(struct live *live, const struct stream *stream) {
    return stream->of_account
               ? &live->accounts[hash_fnv1a(HASH_FNV1A_START, str_from(stream->id)) % BUCKETS]
               : &live->log_streams;
}

static void set_phase(struct stream *stream, enum phase phase) {
    struct live *live = stream->live;
    const bool was_queued = stream->phase == PHASE_STARTING || stream->phase == PHASE_BEHIND;
    const bool is_queued = phase == PHASE_STARTING || phase == PHASE_BEHIND;

    if (was_queued && !is_queued) {
        TAILQ_REMOVE(&live->behind, stream, queue);
    } else if (!was_queued && is_queued) {
        TAILQ_INSERT_TAIL(&live->behind, stream, queue);
    }
    stream->phase = phase;
}

/* It is over for the client; the memory goes when no read will call back any more. */
static void close_stream(struct stream *stream) {
    struct live *live = stream->live;

    set_phase(stream, PHASE_CLOSED);
    TAILQ_REMOVE(&live->all, stream, beats);
    LIST_REMOVE(stream, fellows);
    live->count--;
    live->log_count -= !stream->of_account;
    metric_set(live->streams, (int64_t)live->count);
    if (live->count == 0) {
        live->tail = -1; /* nobody follows: the next one begins anew */
    }
    stream->request = NULL;
    stream->out = NULL;
    if (!stream->reading) {
        mem_free(stream);
    }
}

static void on_closed(void *arg) {
    close_stream(arg);
}

static struct stream *stream_new(struct live *live, struct http_request *request, int64_t after) {
    struct stream *stream = mem_zalloc(sizeof(*stream));

    stream->live = live;
    stream->request = request;
    stream->sent = after;
    stream->beat_us = clock_monotonic_us();
    stream->moved_us = stream->beat_us;
    stream->phase = PHASE_LIVE; /* in no queue yet */
    return stream;
}

static void refuse(struct stream *stream, int status, const char *code, const char *title,
                   const char *detail) {
    struct http_request *request = stream->request;

    (void)problem_respond(request, status, code, title, "%s", detail);
    close_stream(stream);
    http_complete(request);
}

/* Lets it through as the beginning of a stream. */
static void accept_stream(struct stream *stream) {
    struct http_request *request = stream->request;

    http_respond_header(request, "X-Accel-Buffering", STR("no"));
    stream->out =
        http_respond_stream(request, "text/event-stream", BUFFER_BYTES_MAX, on_closed, stream);
    if (!http_stream_write(stream->out, STR("retry: 2000\n\n"))) {
        assert(false); /* an empty buffer takes it */
    }
    stream->request = NULL;
    set_phase(stream, PHASE_BEHIND);
    http_complete(request);
}

static void drop(struct stream *stream) {
    if (!stream->dropped) { /* it takes a moment until it is closed */
        stream->dropped = true;
        metric_add(stream->live->dropped, 1);
        http_stream_cut(stream->out);
    }
}

/* --- sending --- */

/* Has the client taken anything lately, or is there nothing to take? */
static bool moves(struct stream *stream, int64_t now_us) {
    const uint64_t taken = http_stream_taken(stream->out);
    const int64_t stall_us =
        stream->live->options.stall_us > 0 ? stream->live->options.stall_us : STALL_US;

    if (taken != stream->taken || http_stream_pending(stream->out) == 0) {
        stream->taken = taken;
        stream->moved_us = now_us;
    }
    return now_us - stream->moved_us < stall_us;
}

static bool matches(const struct stream *stream, const struct recorded_event *event) {
    return (stream->aggregate_type[0] == '\0' ||
            str_eq(str_from(stream->aggregate_type), event->aggregate_type)) &&
           (stream->event_type[0] == '\0' ||
            str_eq(str_from(stream->event_type), event->event_type));
}

/* Puts the event's frame into live->frame. False: it can't be shown. */
static bool make_frame(struct live *live, const struct recorded_event *event, bool of_account) {
    bool made = true;

    buf_clear(&live->frame);
    if (of_account) {
        arena_clear(&live->scratch);
        made = event_put_entry_frame(&live->frame, event, &live->scratch);
    } else {
        event_put_frame(&live->frame, event);
    }
    if (!made || buf_failed(&live->frame)) {
        log_error(live->options.log, log_event("stream.event_unreadable"),
                  log_str("stream", event->stream_id), log_i64("version", event->version),
                  log_i64("position", event->position));
        return false;
    }
    return true;
}

/* The frame made last. False: it does not fit now. */
static bool send_frame(struct stream *stream) {
    if (!http_stream_write(stream->out, buf_str(&stream->live->frame))) {
        return false;
    }
    metric_add(stream->live->events, 1);
    return true;
}

/* --- pages, for those that are not live --- */

/* Writes the page as far as it fits. True: all of it, so `result->last` is reached. */
static bool send_page(struct stream *stream, const struct log_result *result) {
    for (size_t i = 0; i < result->count; i++) {
        const struct recorded_event *event = &result->events[i];
        const int64_t place = stream->of_account ? event->version : event->position;
        if (place <= stream->sent) {
            continue;
        }
        if (make_frame(stream->live, event, stream->of_account) && !send_frame(stream)) {
            return false;
        }
        stream->sent = place;
    }
    return true;
}

static void on_page(struct stream *stream, const struct log_result *result) {
    struct live *live = stream->live;

    if (!send_page(stream, result)) {
        return;
    }
    if (!stream->of_account && result->last > stream->sent) {
        stream->sent = result->last;
    }
    if (!result->more && !stream->again && (stream->of_account || stream->sent >= live->tail)) {
        set_phase(stream, PHASE_LIVE);
    }
}

/* The first answer: whether there is such a thing, and where it ends. */
static void on_first(struct stream *stream, const struct log_result *result) {
    if (result->code == ERR_NOT_FOUND) {
        char detail[STREAM_ID_BYTES_MAX + 40];
        (void)snprintf(detail, sizeof(detail), "there is no account \"%s\"", stream->id);
        refuse(stream, 404, "account_not_found", "Account not found", detail);
        return;
    }
    accept_stream(stream);
    if (stream->of_account && stream->sent < 0) {
        stream->sent = result->head_version - 1;
        if (result->count > 0 && result->events[0].version == result->head_version) {
            on_page(stream, &(struct log_result){.events = result->events, .count = 1});
        }
    } else if (!stream->of_account) {
        stream->sent = stream->sent < 0 ? result->settled : stream->sent;
        if (stream->sent >= result->settled && stream->sent >= stream->live->tail) {
            set_phase(stream, PHASE_LIVE);
        }
    }
}

static void on_read(void *arg, const struct log_result *result) {
    struct stream *stream = arg;
    struct live *live = stream->live;
    const bool failed = result->code != ERR_OK && result->code != ERR_NOT_FOUND;

    live->reads--;
    stream->reading = false;
    switch (stream->phase) {
    case PHASE_CLOSED:
        mem_free(stream);
        break;
    case PHASE_STARTING:
        if (failed) {
            refuse(stream, 503, "log_unavailable", "Log unavailable",
                   "the event log can't be read now: try again soon");
        } else {
            on_first(stream, result);
        }
        break;
    case PHASE_BEHIND:
        if (!failed) {
            on_page(stream, result);
        }
        break;
    case PHASE_LIVE:
        assert(false);
        break;
    }
    if (failed) {
        arm(live, TAIL_AGAIN_US);
    } else {
        pump(live);
    }
}

static struct log_query query_of(const struct stream *stream) {
    struct log_query query = {.limit = PAGE_EVENTS, .from_us = INT64_MIN, .to_us = INT64_MAX};

    query.aggregate_type = str_from(stream->aggregate_type);
    query.place = stream->sent > 0 ? stream->sent : 0;
    if (stream->of_account) {
        query.read = LOG_READ_AGGREGATE;
        query.id = str_from(stream->id);
        if (stream->phase == PHASE_STARTING) {
            query.place = 0;
            query.backwards = true;
            query.limit = 1;
        }
    } else {
        query.read = stream->phase == PHASE_STARTING ? LOG_READ_SETTLED : LOG_READ_EVENTS;
        query.event_type = str_from(stream->event_type);
    }
    return query;
}

/* False: no further read can begin now. */
static bool start_read(struct stream *stream) {
    struct live *live = stream->live;
    const struct log_query query = query_of(stream);

    stream->again = false;
    const enum err_code code =
        live->options.view.read(live->options.view.self, &query, on_read, stream);
    if (code == ERR_OK) {
        stream->reading = true;
        live->reads++;
    }
    return code == ERR_OK;
}

/* Begins reads for those that wait for one, in turn. */
static void pump(struct live *live) {
    const int64_t now_us = clock_monotonic_us();

    for (size_t looks = 0; looks < PUMP_LOOKS_MAX && live->tail >= 0; looks++) {
        struct stream *stream = TAILQ_FIRST(&live->behind);
        if (stream == NULL || live->reads == READS_MAX) {
            return;
        }
        TAILQ_REMOVE(&live->behind, stream, queue);
        TAILQ_INSERT_TAIL(&live->behind, stream, queue);
        if (stream->reading) {
            continue;
        }
        if (stream->out != NULL && http_stream_pending(stream->out) > LOW_BYTES) {
            if (!moves(stream, now_us)) {
                drop(stream);
            }
            continue;
        }
        if (!start_read(stream)) {
            return;
        }
    }
}

/* --- the log's end --- */

static void fall_behind(struct stream *stream) {
    set_phase(stream, PHASE_BEHIND);
}

static void pass_to_account(struct live *live, const struct recorded_event *event) {
    struct stream *stream = NULL;
    bool made = false;
    const uint64_t bucket = hash_fnv1a(HASH_FNV1A_START, event->stream_id) % BUCKETS;

    LIST_FOREACH(stream, &live->accounts[bucket], fellows) {
        if (!str_eq(str_from(stream->id), event->stream_id) || event->version <= stream->sent) {
            continue;
        }
        if (stream->phase != PHASE_LIVE) {
            stream->again = true;
            continue;
        }
        if (event->version != stream->sent + 1) {
            fall_behind(stream);
            continue;
        }
        made = made || make_frame(live, event, true);
        if (made && !send_frame(stream)) {
            fall_behind(stream);
            continue;
        }
        stream->sent = event->version;
    }
}

static void pass_to_log(struct live *live, const struct recorded_event *event) {
    struct stream *stream = NULL;

    if (LIST_EMPTY(&live->log_streams) || !make_frame(live, event, false)) {
        return;
    }
    LIST_FOREACH(stream, &live->log_streams, fellows) {
        if (stream->phase != PHASE_LIVE || event->position <= stream->sent) {
            continue;
        }
        if (matches(stream, event) && !send_frame(stream)) {
            fall_behind(stream);
            continue;
        }
        stream->sent = event->position;
    }
}

static void pass_on(struct live *live, const struct log_result *result) {
    struct stream *stream = NULL;

    for (size_t i = 0; i < result->count; i++) {
        if (str_eq(result->events[i].aggregate_type, str_from(account_aggregate.name))) {
            pass_to_account(live, &result->events[i]);
        }
        pass_to_log(live, &result->events[i]);
    }
    live->tail = result->last > live->tail ? result->last : live->tail;
    LIST_FOREACH(stream, &live->log_streams, fellows) {
        if (stream->phase == PHASE_LIVE && stream->sent < live->tail) {
            stream->sent = live->tail;
        }
    }
}

/* Nobody knows where the log ends, so those who wait to begin can't. */
static void refuse_starting(struct live *live) {
    struct stream *stream = TAILQ_FIRST(&live->behind);

    while (stream != NULL) {
        struct stream *next = TAILQ_NEXT(stream, queue);
        if (stream->phase == PHASE_STARTING && !stream->reading) {
            refuse(stream, 503, "log_unavailable", "Log unavailable",
                   "the event log can't be read now: try again soon");
        }
        stream = next;
    }
}

static void on_tail(void *arg, const struct log_result *result) {
    struct live *live = arg;

    live->tail_reading = false;
    if (live->count == 0) {
        return;
    }
    if (result->code != ERR_OK) {
        refuse_starting(live);
        arm(live, TAIL_AGAIN_US);
        return;
    }
    if (live->tail < 0) {
        live->tail = result->settled;
    } else {
        pass_on(live, result);
    }
    pump(live);
    arm(live, result->more ? 0 : TAIL_EVERY_US);
}

static void read_tail(struct live *live) {
    struct log_query query = {.from_us = INT64_MIN, .to_us = INT64_MAX};
    const size_t fair = TAIL_COPIES / (live->log_count + 1);

    if (live->tail_reading || live->count == 0) {
        return;
    }
    query.read = live->tail < 0 ? LOG_READ_SETTLED : LOG_READ_EVENTS;
    query.place = live->tail;
    query.limit = fair < TAIL_EVENTS_MIN   ? TAIL_EVENTS_MIN
                  : fair > TAIL_EVENTS_MAX ? TAIL_EVENTS_MAX
                                           : fair;
    const enum err_code code =
        live->options.view.read(live->options.view.self, &query, on_tail, live);
    live->tail_reading = code == ERR_OK;
    if (code != ERR_OK) {
        refuse_starting(live);
        arm(live, TAIL_AGAIN_US);
    }
}

/* --- heartbeats --- */

static void beat(struct live *live, int64_t now_us) {
    const int64_t every_us =
        live->options.heartbeat_us > 0 ? live->options.heartbeat_us : HEARTBEAT_US;
    struct stream *stream = NULL;

    while ((stream = TAILQ_FIRST(&live->all)) != NULL && stream->beat_us + every_us <= now_us) {
        TAILQ_REMOVE(&live->all, stream, beats);
        TAILQ_INSERT_TAIL(&live->all, stream, beats);
        stream->beat_us = now_us;
        if (stream->out == NULL) {
            continue;
        }
        if (!moves(stream, now_us)) {
            drop(stream);
        } else if (!http_stream_write(stream->out, STR(": still here\n\n"))) {
            /* Full: no silence to break. */
            continue;
        }
    }
}

static void on_timer(void *arg) {
    struct live *live = arg;

    live->timer = 0;
    beat(live, clock_monotonic_us());
    read_tail(live);
    pump(live);
    if (live->count > 0 && live->timer == 0 && !live->tail_reading) {
        arm(live, TAIL_EVERY_US);
    }
}

static void arm(struct live *live, int64_t delay_us) {
    if (live->timer == 0 && live->count > 0) {
        live->timer = loop_after(live->options.loop, delay_us, on_timer, live);
        assert(live->timer != 0);
    }
}

/* --- starting --- */

static enum http_result start(struct live *live, struct stream *stream) {
    struct http_request *request = stream->request;

    if (live->draining || live->count >= live->options.streams_max) {
        (void)problem_respond(request, 503, live->draining ? "draining" : "too_many_streams",
                              live->draining ? "Shutting down" : "Too many streams", "%s",
                              live->draining ? "this process is shutting down: try again"
                                             : "all streams are in use: try again later");
        mem_free(stream);
        return HTTP_DONE;
    }
    TAILQ_INSERT_TAIL(&live->all, stream, beats);
    LIST_INSERT_HEAD(fellows_of(live, stream), stream, fellows);
    live->count++;
    live->log_count += !stream->of_account;
    metric_set(live->streams, (int64_t)live->count);
    set_phase(stream, PHASE_STARTING);
    if (live->tail >= 0) {
        pump(live);
        arm(live, TAIL_EVERY_US);
    } else {
        arm(live, 0); /* not at once: the request must have been kept first */
    }
    return HTTP_LATER;
}

enum http_result live_start_log(struct live *live, struct http_request *request,
                                struct str aggregate_type, struct str event_type, int64_t after) {
    struct stream *stream = stream_new(live, request, after);

    if (!str_copy(stream->aggregate_type, sizeof(stream->aggregate_type), aggregate_type) ||
        !str_copy(stream->event_type, sizeof(stream->event_type), event_type)) {
        assert(false); /* the queries have checked them */
    }
    return start(live, stream);
}

enum http_result live_start_account(struct live *live, struct http_request *request, struct str id,
                                    int64_t after) {
    struct stream *stream = stream_new(live, request, after);

    stream->of_account = true;
    if (!str_copy(stream->id, sizeof(stream->id), id) ||
        !str_copy(stream->aggregate_type, sizeof(stream->aggregate_type),
                  str_from(account_aggregate.name))) {
        assert(false);
    }
    return start(live, stream);
}

/* --- life --- */

static void cut_all(void *arg) {
    struct live *live = arg;
    struct stream *stream = NULL;

    TAILQ_FOREACH(stream, &live->all, beats) {
        if (stream->out != NULL) {
            http_stream_cut(stream->out);
        }
    }
}

void live_drain(void *arg) {
    struct live *live = arg;
    struct stream *stream = TAILQ_FIRST(&live->all);

    live->draining = true;
    while (stream != NULL) {
        struct stream *next = TAILQ_NEXT(stream, beats);
        if (stream->out != NULL) {
            http_stream_end(stream->out);
        } else {
            refuse(stream, 503, "draining", "Shutting down",
                   "this process is shutting down: try again");
        }
        stream = next;
    }
    if (loop_after(live->options.loop, DRAIN_US, cut_all, live) == 0) {
        cut_all(live);
    }
}

struct live *live_new(const struct live_options *options) {
    struct live *live = mem_zalloc(sizeof(*live));

    live->options = *options;
    TAILQ_INIT(&live->all);
    TAILQ_INIT(&live->behind);
    LIST_INIT(&live->log_streams);
    live->tail = -1;
    buf_init(&live->frame, FRAME_BYTES_MAX);
    arena_init(&live->scratch, 16 * 1024, DECODE_BYTES_MAX);
    live->streams =
        metrics_gauge(options->metrics, "daybook_query_streams", "", "Live streams that are open.");
    live->dropped = metrics_counter(options->metrics, "daybook_query_streams_dropped_total", "",
                                    "Live streams cut off because their client took nothing.");
    live->events = metrics_counter(options->metrics, "daybook_query_stream_events_total", "",
                                   "Events written to live streams.");
    return live;
}

void live_free(struct live *live) {
    if (live == NULL) {
        return;
    }
    while (!TAILQ_EMPTY(&live->all)) {
        struct stream *stream = TAILQ_FIRST(&live->all);
        stream->reading = false;
        close_stream(stream);
    }
    buf_release(&live->frame);
    arena_release(&live->scratch);
    mem_free(live);
}
