/* All accounts in the order of their ids, a page at a time. */
#include "common/base/clock.h"
#include "common/http/problem.h"
#include "query-api/answer.h"
#include "query-api/cursor.h"
#include "query-api/queries/queries.h"

static const struct cursor_kind cursor = {.purpose = "accounts"};

static void put_page(struct read *read, const struct row_result *result) {
    struct buf *body = reader_scratch(read->reader);

    buf_put_text(body, "{\"accounts\":[");
    for (size_t i = 0; i < result->count; i++) {
        buf_put_text(body, i > 0 ? "," : "");
        if (!answer_put_account(body, result->accounts[i].id, &result->accounts[i].account)) {
            answer_corrupt(read);
            return;
        }
    }
    buf_put_char(body, ']');
    if (result->more && result->count > 0) {
        const struct str last = str_from(result->accounts[result->count - 1].id);
        buf_put_text(body, ",\"next_cursor\":");
        buf_put_json_str(body, cursor_encode(&read->request->arena, &cursor, last));
    }
    buf_put_text(body, "}\n");
    answer_json(read, body);
}

static const struct read_kind page = {NULL, put_page};

enum http_result query_accounts_list(void *context, struct http_request *request) {
    struct row_query query = {.read = ROW_READ_ACCOUNTS};
    char after[CURSOR_PLACE_BYTES_MAX];
    struct str id = {"", 0};
    size_t after_len = 0;
    struct params params;

    if (!params_read(request, PARAM_LIMIT | PARAM_CURSOR, clock_wall_us(), &params)) {
        return HTTP_DONE;
    }
    if ((params.given & PARAM_CURSOR) != 0) {
        if (!cursor_decode(params.cursor, &cursor, after, &after_len) ||
            stream_id_check(str_of(after, after_len), NULL) != ERR_OK) {
            return problem_respond_with(request, 400, "cursor_invalid", "Cursor invalid",
                                        STR("\"parameter\":\"cursor\""),
                                        "cursor must be a next_cursor of this list");
        }
        id = str_of(after, after_len);
    }
    query.limit = params.limit;
    return reader_start(queries_reader(context, request), request, &page, id, &params, &query);
}
