/* An account's entries, newest first, a page at a time. A page begins below a version, so entries
 * that arrive meanwhile neither repeat nor hide any. */
#include <inttypes.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/http/problem.h"
#include "query-api/answer.h"
#include "query-api/cursor.h"
#include "query-api/queries/queries.h"

static struct cursor_kind cursor_of(struct str id) {
    return (struct cursor_kind){"transactions", id};
}

static bool put_line(struct buf *body, const struct statement_line *line) {
    char event_id[UUID_TEXT_BYTES];

    uuid_format(event_id, &line->event_id);
    buf_printf(body, "{\"version\":%" PRId64 ",\"kind\":\"%s\",\"amount\":", line->version,
               line->kind);
    if (!answer_put_amount(body, line->amount_minor, line->currency)) {
        return false;
    }
    buf_put_text(body, ",\"balance\":");
    if (!answer_put_amount(body, line->balance_minor, line->currency)) {
        return false;
    }
    buf_printf(body, ",\"currency\":\"%s\",\"event_id\":\"%s\",\"recorded_at\":", line->currency,
               event_id);
    answer_put_time(body, line->recorded_at_us);
    buf_put_char(body, '}');
    return true;
}

static void put_page(struct read *read, const struct row_result *result) {
    struct buf *body = reader_scratch(read->reader);
    const struct cursor_kind kind = cursor_of(read->query.id);
    char version[24];

    if (result->code == ERR_NOT_FOUND) {
        answer_not_found(read);
        return;
    }
    buf_put_text(body, "{\"id\":");
    buf_put_json_str(body, read->query.id);
    buf_put_text(body, ",\"transactions\":[");
    for (size_t i = 0; i < result->count; i++) {
        buf_put_text(body, i > 0 ? "," : "");
        if (!put_line(body, &result->lines[i])) {
            answer_corrupt(read);
            return;
        }
    }
    buf_put_char(body, ']');
    if (result->more && result->count > 0) {
        const int64_t oldest = result->lines[result->count - 1].version;
        buf_put_text(body, ",\"next_cursor\":");
        buf_put_json_str(body, cursor_encode_number(&read->request->arena, &kind, oldest));
    }
    buf_put_text(body, "}\n");
    const int len = snprintf(version, sizeof(version), "%" PRId64, result->head_version);
    http_respond_header(read->request, "Daybook-Version",
                        str_of(version, len > 0 ? (size_t)len : 0));
    answer_json(read, body);
}

static const struct read_kind page = {NULL, put_page};

enum http_result query_transactions(void *context, struct http_request *request) {
    const unsigned allowed = PARAM_MIN_VERSION | PARAM_TIMEOUT_MS | PARAM_LIMIT | PARAM_CURSOR;
    const struct str id = answer_path_id(request);
    struct row_query query = {.read = ROW_READ_STATEMENT};
    struct params params;

    if (id.len == 0 || !params_read(request, allowed, clock_wall_us(), &params)) {
        return HTTP_DONE;
    }
    const struct cursor_kind kind = cursor_of(id);
    if ((params.given & PARAM_CURSOR) != 0 &&
        !cursor_decode_number(params.cursor, &kind, &query.before_version)) {
        return problem_respond_with(request, 400, "cursor_invalid", "Cursor invalid",
                                    STR("\"parameter\":\"cursor\""),
                                    "cursor must be a next_cursor of this account's transactions");
    }
    query.limit = params.limit;
    return reader_start(queries_reader(context, request), request, &page, id, &params, &query);
}
