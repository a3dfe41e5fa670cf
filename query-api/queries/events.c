/* The log itself: pages of all of it, pages of one stream, one event. */
#include <inttypes.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/domain/account.h"
#include "common/http/problem.h"
#include "query-api/answer.h"
#include "query-api/cursor.h"
#include "query-api/event_text.h"
#include "query-api/queries/queries.h"

/* A page ends early rather than grow beyond this. */
enum { PAGE_BYTES = 512 * 1024 };

/* A question to the log on its way; lives in its request's arena. */
struct log_call {
    struct http_request *request;
    struct reader *reader; /* for its scratch */
    struct log_query query;
    void (*answer)(struct log_call *call, const struct log_result *result);
};

/* --- what all have in common --- */

static void answer_failure(struct http_request *request, enum err_code code) {
    if (code == ERR_LIMIT) {
        (void)problem_respond(request, 503, "overloaded", "Overloaded",
                              "too many reads wait for the event log: try again soon");
    } else if (code == ERR_CORRUPT) {
        (void)problem_respond(request, 500, "log_corrupt", "Log corrupt",
                              "what the event log holds here makes no sense; an operator is "
                              "needed");
    } else {
        (void)problem_respond(request, 503, "log_unavailable", "Log unavailable",
                              "the event log can't be read now: try again soon");
    }
}

static void on_log(void *arg, const struct log_result *result) {
    struct log_call *call = arg;

    if (result->code == ERR_OK || result->code == ERR_NOT_FOUND) {
        call->answer(call, result);
    } else {
        answer_failure(call->request, result->code);
    }
    http_complete(call->request);
}

static enum http_result ask(const struct queries *queries, struct http_request *request,
                            const struct log_query *query,
                            void (*answer)(struct log_call *, const struct log_result *)) {
    const struct log_view *view = &queries->logs[request->thread_index];
    struct log_call *call = arena_alloc(&request->arena, sizeof(*call));
    enum err_code code = ERR_LIMIT;

    if (call != NULL) {
        *call = (struct log_call){request, queries_reader(queries, request), *query, answer};
        code = view->read(view->self, query, on_log, call);
    }
    if (code != ERR_OK) {
        answer_failure(request, code);
        return HTTP_DONE;
    }
    return HTTP_LATER;
}

/* Appends "events":[…] and says where the page ended and whether there is more. */
static void put_events(struct log_call *call, const struct log_result *result, struct buf *body,
                       int64_t *last, bool *more) {
    int64_t newest_us = 0;

    *last = result->last;
    *more = result->more;
    buf_put_text(body, "\"events\":[");
    for (size_t i = 0; i < result->count; i++) {
        const struct recorded_event *event = &result->events[i];
        buf_put_text(body, i > 0 ? "," : "");
        event_put_json(body, event);
        newest_us = event->recorded_at_us > newest_us ? event->recorded_at_us : newest_us;
        if (body->len > PAGE_BYTES && i + 1 < result->count) {
            *last = call->query.read == LOG_READ_AGGREGATE ? event->version : event->position;
            *more = true;
            break;
        }
    }
    buf_put_char(body, ']');
    answer_age(call->request, newest_us);
}

static void put_next_cursor(struct log_call *call, struct buf *body, const struct cursor_kind *kind,
                            int64_t last) {
    buf_put_text(body, ",\"next_cursor\":");
    buf_put_json_str(body, cursor_encode_number(&call->request->arena, kind, last));
}

/* Where a page begins: the parameters or the cursor. False: the response says what is wrong. */
static bool begin_page(struct http_request *request, const struct params *params, int64_t from,
                       const struct cursor_kind *kind, const char *list, int64_t *place) {
    *place = 0;
    if ((params->given & PARAM_CURSOR) != 0) {
        if (!cursor_decode_number(params->cursor, kind, place)) {
            (void)answer_cursor_invalid(request, list);
            return false;
        }
    } else if (from > 0) {
        *place = !params->backwards ? from - 1 : from < INT64_MAX ? from + 1 : from;
    }
    return true;
}

/* --- GET /events --- */

static struct cursor_kind events_cursor(bool backwards) {
    return (struct cursor_kind){backwards ? "events backwards" : "events forwards", {"", 0}};
}

static void answer_events(struct log_call *call, const struct log_result *result) {
    const struct cursor_kind kind = events_cursor(call->query.backwards);
    struct buf *body = reader_scratch(call->reader);
    int64_t last = 0;
    bool more = false;

    buf_put_char(body, '{');
    put_events(call, result, body, &last, &more);
    if (more) {
        put_next_cursor(call, body, &kind, last);
    }
    buf_printf(body, ",\"settled_position\":%" PRId64 "}\n", result->settled);
    answer_json(call->request, body);
}

enum http_result query_events(void *context, struct http_request *request) {
    const unsigned allowed = PARAM_AGGREGATE_TYPE | PARAM_TYPE | PARAM_FROM | PARAM_TO |
                             PARAM_FROM_POSITION | PARAM_DIRECTION | PARAM_LOG_LIMIT | PARAM_CURSOR;
    struct params params;

    if (!params_read(request, allowed, clock_wall_us(), &params)) {
        return HTTP_DONE;
    }
    const struct cursor_kind kind = events_cursor(params.backwards);
    struct log_query query = {
        .read = LOG_READ_EVENTS,
        .backwards = params.backwards,
        .aggregate_type = params.aggregate_type,
        .event_type = params.type,
        .from_us = params.from_us,
        .to_us = params.to_us,
        .limit = params.limit,
    };
    if (!begin_page(request, &params, params.from_position, &kind, "the events in this direction",
                    &query.place)) {
        return HTTP_DONE;
    }
    return ask(context, request, &query, answer_events);
}

/* --- GET /events/aggregate/{id} --- */

static struct cursor_kind stream_cursor(struct str id, bool backwards) {
    return (struct cursor_kind){backwards ? "stream backwards" : "stream forwards", id};
}

static void answer_stream(struct log_call *call, const struct log_result *result) {
    const struct str id = http_path_param(call->request, "id");
    const struct cursor_kind kind = stream_cursor(id, call->query.backwards);
    struct buf *body = reader_scratch(call->reader);
    int64_t last = 0;
    bool more = false;

    if (result->code == ERR_NOT_FOUND) {
        (void)problem_respond(call->request, 404, "stream_not_found", "Stream not found",
                              "there is no %.*s \"%.*s\"", STR_ARG(call->query.aggregate_type),
                              STR_ARG(id));
        return;
    }
    buf_put_text(body, "{\"stream_id\":");
    buf_put_json_str(body, id);
    buf_put_text(body, ",\"aggregate_type\":");
    buf_put_json_str(body, call->query.aggregate_type);
    buf_printf(body, ",\"version\":%" PRId64 ",", result->head_version);
    put_events(call, result, body, &last, &more);
    if (more) {
        put_next_cursor(call, body, &kind, last);
    }
    buf_put_text(body, "}\n");
    answer_number_header(call->request, "Daybook-Version", result->head_version);
    answer_json(call->request, body);
}

enum http_result query_stream_events(void *context, struct http_request *request) {
    const unsigned allowed = PARAM_AGGREGATE_TYPE | PARAM_FROM_VERSION | PARAM_DIRECTION |
                             PARAM_LOG_LIMIT | PARAM_CURSOR;
    const struct str id = answer_path_id(request);
    struct params params;

    if (id.len == 0 || !params_read(request, allowed, clock_wall_us(), &params)) {
        return HTTP_DONE;
    }
    const struct cursor_kind kind = stream_cursor(id, params.backwards);
    struct log_query query = {
        .read = LOG_READ_AGGREGATE,
        .id = id,
        .backwards = params.backwards,
        .aggregate_type = params.aggregate_type.len > 0 ? params.aggregate_type
                                                        : str_from(account_aggregate.name),
        .limit = params.limit,
    };
    if (!begin_page(request, &params, params.from_version, &kind,
                    "this stream's events in this direction", &query.place)) {
        return HTTP_DONE;
    }
    return ask(context, request, &query, answer_stream);
}

/* --- GET /events/{event_id} --- */

static void answer_event(struct log_call *call, const struct log_result *result) {
    struct buf *body = reader_scratch(call->reader);

    if (result->code == ERR_NOT_FOUND || result->count == 0) {
        (void)problem_respond(call->request, 404, "event_not_found", "Event not found",
                              "there is no event with this id");
        return;
    }
    event_put_json(body, &result->events[0]);
    buf_put_char(body, '\n');
    answer_number_header(call->request, "Daybook-Version", result->events[0].version);
    answer_age(call->request, result->events[0].recorded_at_us);
    answer_json(call->request, body);
}

enum http_result query_event(void *context, struct http_request *request) {
    struct log_query query = {.read = LOG_READ_EVENT};
    struct params params;

    if (!params_read(request, 0, clock_wall_us(), &params)) {
        return HTTP_DONE;
    }
    if (!uuid_parse(http_path_param(request, "event_id"), &query.event_id)) {
        return problem_respond_with(request, 400, "id_invalid", "Ill-formed id",
                                    STR("\"parameter\":\"event_id\""), "an event's id is a UUID");
    }
    return ask(context, request, &query, answer_event);
}
