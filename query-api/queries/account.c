/* One account, whole or only its balance, now or at a version or time of the past. */
#include <inttypes.h>

#include "common/base/clock.h"
#include "common/http/problem.h"
#include "query-api/answer.h"
#include "query-api/queries/queries.h"

static void put_whole(struct read *read, const struct account_view *account) {
    struct buf *body = reader_scratch(read->reader);

    if (!answer_put_account(body, read->id, account)) {
        answer_corrupt(read);
        return;
    }
    buf_put_char(body, '\n');
    answer_json_of_version(read, body, account->version, account->updated_at_us);
}

static void put_balance(struct read *read, const struct account_view *account) {
    struct buf *body = reader_scratch(read->reader);

    buf_put_text(body, "{\"id\":");
    buf_put_json_str(body, str_from(read->id));
    buf_put_text(body, ",\"balance\":");
    if (!answer_put_amount(body, account->balance_minor, account->currency)) {
        answer_corrupt(read);
        return;
    }
    buf_put_text(body, ",\"currency\":\"");
    buf_put_text(body, account->currency);
    buf_put_text(body, "\",\"version\":");
    buf_put_i64(body, account->version);
    buf_put_text(body, "}\n");
    answer_json_of_version(read, body, account->version, account->updated_at_us);
}

/* The account is known, but was not there at the moment asked for. */
static void not_there_then(struct read *read, const struct row_result *result) {
    const struct str members =
        arena_printf(&read->request->arena, "\"current_version\":%" PRId64, result->head_version);

    if (read->query.read == ROW_READ_ACCOUNT_AT_VERSION) {
        (void)problem_respond_with(read->request, 404, "version_not_reached", "Version not reached",
                                   members,
                                   "account \"%s\" is at version %" PRId64 ", not yet at %" PRId64,
                                   read->id, result->head_version, read->query.version);
    } else {
        (void)problem_respond_with(read->request, 404, "account_not_found_at",
                                   "Account not found at that time", members,
                                   "account \"%s\" was opened after that time", read->id);
    }
}

static void put_rows(struct read *read, const struct row_result *result,
                     void (*put)(struct read *, const struct account_view *)) {
    if (result->code == ERR_NOT_FOUND) {
        answer_not_found(read);
    } else if (result->account.version == 0) {
        not_there_then(read, result);
    } else {
        put(read, &result->account);
    }
}

static void put_whole_rows(struct read *read, const struct row_result *result) {
    put_rows(read, result, put_whole);
}

static void put_balance_rows(struct read *read, const struct row_result *result) {
    put_rows(read, result, put_balance);
}

static const struct read_kind whole_now = {put_whole, put_whole_rows};
static const struct read_kind whole_then = {NULL, put_whole_rows};
static const struct read_kind balance_now = {put_balance, put_balance_rows};
static const struct read_kind balance_then = {NULL, put_balance_rows};

static enum http_result start(const struct queries *queries, struct http_request *request,
                              const struct read_kind *now, const struct read_kind *then) {
    const unsigned allowed = PARAM_MIN_VERSION | PARAM_TIMEOUT_MS | PARAM_VERSION | PARAM_AT;
    const struct str id = answer_path_id(request);
    struct row_query query = {.read = ROW_READ_ACCOUNT};
    struct params params;

    if (id.len == 0 || !params_read(request, allowed, clock_wall_us(), &params)) {
        return HTTP_DONE;
    }
    if ((params.given & PARAM_VERSION) != 0) {
        query = (struct row_query){.read = ROW_READ_ACCOUNT_AT_VERSION, .version = params.version};
    } else if ((params.given & PARAM_AT) != 0) {
        query = (struct row_query){.read = ROW_READ_ACCOUNT_AT_TIME, .at_us = params.at_us};
    }
    return reader_start(queries_reader(queries, request), request,
                        query.read == ROW_READ_ACCOUNT ? now : then, id, &params, &query);
}

enum http_result query_account(void *context, struct http_request *request) {
    return start(context, request, &whole_now, &whole_then);
}

enum http_result query_balance(void *context, struct http_request *request) {
    return start(context, request, &balance_now, &balance_then);
}
