/* What live streams send: frames, and pages for those that are not live. */
#include "query-api/live_internal.h"

#include <assert.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "query-api/event_text.h"

/* --- sending --- */

void live_drop(struct stream *stream) {
    if (!stream->dropped) { /* it takes a moment until it is closed */
        stream->dropped = true;
        metric_add(stream->live->dropped, 1);
        http_stream_cut(stream->out);
    }
}

bool live_moves(struct stream *stream, int64_t now_us) {
    const uint64_t taken = http_stream_taken(stream->out);
    const int64_t stall_us =
        stream->live->options.stall_us > 0 ? stream->live->options.stall_us : STALL_US;

    if (taken != stream->taken || http_stream_pending(stream->out) == 0) {
        stream->taken = taken;
        stream->moved_us = now_us;
    }
    return now_us - stream->moved_us < stall_us;
}

bool live_make_frame(struct live *live, const struct recorded_event *event, bool of_account) {
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

bool live_send_frame(struct stream *stream) {
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
        if (live_make_frame(stream->live, event, stream->of_account) && !live_send_frame(stream)) {
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
        live_set_phase(stream, PHASE_LIVE);
    }
}

/* The first answer: whether there is such a thing, and where it ends. */
static void on_first(struct stream *stream, const struct log_result *result) {
    if (result->code == ERR_NOT_FOUND) {
        char detail[STREAM_ID_BYTES_MAX + 40];
        (void)snprintf(detail, sizeof(detail), "there is no account \"%s\"", stream->id);
        live_refuse(stream, 404, "account_not_found", "Account not found", detail);
        return;
    }
    live_accept(stream);
    if (stream->of_account && stream->sent < 0) {
        stream->sent = result->head_version - 1;
        if (result->count > 0 && result->events[0].version == result->head_version) {
            on_page(stream, &(struct log_result){.events = result->events, .count = 1});
        }
    } else if (!stream->of_account) {
        stream->sent = stream->sent < 0 ? result->settled : stream->sent;
        if (stream->sent >= result->settled && stream->sent >= stream->live->tail) {
            live_set_phase(stream, PHASE_LIVE);
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
            live_refuse(stream, 503, "log_unavailable", "Log unavailable",
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
        live_arm(live, TAIL_AGAIN_US);
    } else {
        live_pump(live);
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

void live_pump(struct live *live) {
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
            if (!live_moves(stream, now_us)) {
                live_drop(stream);
            }
            continue;
        }
        if (!start_read(stream)) {
            return;
        }
    }
}
