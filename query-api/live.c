#include "query-api/live.h"

#include <assert.h>
#include <inttypes.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/domain/account.h"
#include "common/http/problem.h"
#include "query-api/live_internal.h"

/* --- life of a stream --- */

static struct stream_list *fellows_of(struct live *live, const struct stream *stream) {
    return stream->of_account
               ? &live->accounts[hash_fnv1a(HASH_FNV1A_START, str_from(stream->id)) % BUCKETS]
               : &live->log_streams;
}

void live_set_phase(struct stream *stream, enum phase phase) {
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

    live_set_phase(stream, PHASE_CLOSED);
    TAILQ_REMOVE(&live->all, stream, beats);
    LIST_REMOVE(stream, fellows);
    live->count--;
    live->log_count -= !stream->of_account;
    metric_move(live->streams, -1);
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

void live_refuse(struct stream *stream, int status, const char *code, const char *title,
                 const char *detail) {
    struct http_request *request = stream->request;

    (void)problem_respond(request, status, code, title, "%s", detail);
    close_stream(stream);
    http_complete(request);
}

void live_accept(struct stream *stream) {
    struct http_request *request = stream->request;

    http_respond_header(request, "X-Accel-Buffering", STR("no"));
    stream->out =
        http_respond_stream(request, "text/event-stream", BUFFER_BYTES_MAX, on_closed, stream);
    if (!http_stream_write(stream->out, STR("retry: 2000\n\n"))) {
        assert(false); /* an empty buffer takes it */
    }
    stream->request = NULL;
    live_set_phase(stream, PHASE_BEHIND);
    http_complete(request);
}

/* --- the log's end --- */

static void fall_behind(struct stream *stream) {
    live_set_phase(stream, PHASE_BEHIND);
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
        made = made || live_make_frame(live, event, true);
        if (made && !live_send_frame(stream)) {
            fall_behind(stream);
            continue;
        }
        stream->sent = event->version;
    }
}

static bool matches(const struct stream *stream, const struct recorded_event *event) {
    return (stream->aggregate_type[0] == '\0' ||
            str_eq(str_from(stream->aggregate_type), event->aggregate_type)) &&
           (stream->event_type[0] == '\0' ||
            str_eq(str_from(stream->event_type), event->event_type));
}

static void pass_to_log(struct live *live, const struct recorded_event *event) {
    struct stream *stream = NULL;

    if (LIST_EMPTY(&live->log_streams) || !live_make_frame(live, event, false)) {
        return;
    }
    LIST_FOREACH(stream, &live->log_streams, fellows) {
        if (stream->phase != PHASE_LIVE || event->position <= stream->sent) {
            continue;
        }
        if (matches(stream, event) && !live_send_frame(stream)) {
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
            live_refuse(stream, 503, "log_unavailable", "Log unavailable",
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
        live_arm(live, TAIL_AGAIN_US);
        return;
    }
    if (live->tail < 0) {
        live->tail = result->settled;
    } else {
        pass_on(live, result);
    }
    live_pump(live);
    live_arm(live, result->more ? 0 : TAIL_EVERY_US);
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
        live_arm(live, TAIL_AGAIN_US);
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
        if (!live_moves(stream, now_us)) {
            live_drop(stream);
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
    live_pump(live);
    if (live->count > 0 && live->timer == 0 && !live->tail_reading) {
        live_arm(live, TAIL_EVERY_US);
    }
}

void live_arm(struct live *live, int64_t delay_us) {
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
    metric_move(live->streams, 1);
    live_set_phase(stream, PHASE_STARTING);
    if (live->tail >= 0) {
        live_pump(live);
        live_arm(live, TAIL_EVERY_US);
    } else {
        live_arm(live, 0); /* not at once: the request must have been kept first */
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
            live_refuse(stream, 503, "draining", "Shutting down",
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
