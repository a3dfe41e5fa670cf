/* All accounts in the order of their ids, or from the largest balance down; a page at a time. */
#include <endian.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/domain/currency.h"
#include "common/http/problem.h"
#include "query-api/answer.h"
#include "query-api/cursor.h"
#include "query-api/queries/queries.h"

/* Places: an id; a balance and an id. Neither list takes the other's cursors. */
static const struct cursor_kind by_id = {.purpose = "accounts"};
static const struct cursor_kind by_balance = {.purpose = "accounts by balance"};

static struct str next_cursor(struct read *read, const struct account_line *last) {
    const uint64_t balance = htobe64((uint64_t)last->account.balance_minor);
    const size_t id_len = strlen(last->id);
    char place[CURSOR_PLACE_BYTES_MAX];

    if (read->query.read == ROW_READ_ACCOUNTS) {
        return cursor_encode(&read->request->arena, &by_id, str_of(last->id, id_len));
    }
    memcpy(place, &balance, sizeof(balance));
    memcpy(place + sizeof(balance), last->id, id_len);
    return cursor_encode(&read->request->arena, &by_balance,
                         str_of(place, sizeof(balance) + id_len));
}

static void put_page(struct read *read, const struct row_result *result) {
    struct buf *body = reader_scratch(read->reader);
    int64_t newest_us = 0;

    buf_put_text(body, "{\"accounts\":[");
    for (size_t i = 0; i < result->count; i++) {
        const struct account_view *account = &result->accounts[i].account;
        buf_put_text(body, i > 0 ? "," : "");
        newest_us = account->updated_at_us > newest_us ? account->updated_at_us : newest_us;
        if (!answer_put_account(body, result->accounts[i].id, account)) {
            answer_corrupt(read);
            return;
        }
    }
    buf_put_char(body, ']');
    if (result->more && result->count > 0) {
        buf_put_text(body, ",\"next_cursor\":");
        buf_put_json_str(body, next_cursor(read, &result->accounts[result->count - 1]));
    }
    buf_put_text(body, "}\n");
    answer_age(read->request, newest_us);
    answer_json(read->request, body);
}

static const struct read_kind page = {NULL, put_page};

/* Where the page begins. False: the cursor is none of this list. */
static bool begin_page(struct row_query *query, struct str cursor,
                       char place[CURSOR_PLACE_BYTES_MAX]) {
    const bool with_balance = query->read == ROW_READ_ACCOUNTS_BY_BALANCE;
    uint64_t balance = 0;
    size_t skip = 0;
    size_t len = 0;

    if (!cursor_decode(cursor, with_balance ? &by_balance : &by_id, place, &len)) {
        return false;
    }
    if (with_balance) {
        skip = sizeof(balance);
        if (len < skip) {
            return false;
        }
        memcpy(&balance, place, skip);
        query->balance_minor = (int64_t)be64toh(balance);
    }
    query->id = str_of(place + skip, len - skip);
    return stream_id_check(query->id, NULL) == ERR_OK;
}

enum http_result query_accounts_list(void *context, struct http_request *request) {
    const unsigned allowed =
        PARAM_STATUS | PARAM_CURRENCY | PARAM_ORDER | PARAM_LIMIT | PARAM_CURSOR;
    struct row_query query = {.read = ROW_READ_ACCOUNTS, .id = {"", 0}};
    char place[CURSOR_PLACE_BYTES_MAX];
    struct params params;

    if (!params_read(request, allowed, clock_wall_us(), &params)) {
        return HTTP_DONE;
    }
    if (params.by_balance) {
        query.read = ROW_READ_ACCOUNTS_BY_BALANCE;
    }
    query.limit = params.limit;
    query.status = params.status;
    if ((params.given & PARAM_CURRENCY) != 0 &&
        (currency_digits(params.currency) < 0 ||
         !str_copy(query.currency, sizeof(query.currency), params.currency))) {
        return problem_respond_with(request, 400, "parameter_invalid", "Parameter unknown",
                                    STR("\"parameter\":\"currency\""),
                                    "currency must be an ISO 4217 code such as EUR");
    }
    if ((params.given & PARAM_CURSOR) != 0 && !begin_page(&query, params.cursor, place)) {
        return answer_cursor_invalid(request, "this list in this order");
    }
    return reader_start(queries_reader(context, request), request, &page, query.id, &params,
                        &query);
}
