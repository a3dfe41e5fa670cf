/* An account's entries, newest first, a page at a time, as JSON or CSV. A page begins below a
 * version, so entries that arrive meanwhile neither repeat nor hide any. */
#include <inttypes.h>

#include "common/base/clock.h"
#include "common/base/decimal.h"
#include "common/domain/currency.h"
#include "query-api/answer.h"
#include "query-api/cursor.h"
#include "query-api/queries/queries.h"

static struct cursor_kind cursor_of(struct str id) {
    return (struct cursor_kind){"transactions", id};
}

/* --- which form the client wants (RFC 9110 section 12.5.1) --- */

/* A media range's weight in thousandths: of "text/csv;q=0.5". */
static int64_t weight_of(struct str parameters) {
    int64_t whole = 0;
    int64_t thousandths = 0;
    int64_t unit = 100;
    const char *q = NULL;

    for (size_t i = 0; i + 1 < parameters.len && q == NULL; i++) {
        if ((parameters.ptr[i] == 'q' || parameters.ptr[i] == 'Q') &&
            parameters.ptr[i + 1] == '=') {
            q = parameters.ptr + i + 2;
        }
    }
    if (q == NULL) {
        return 1000;
    }
    const char *end = parameters.ptr + parameters.len;
    for (; q < end && *q >= '0' && *q <= '9' && whole < 10; q++) {
        whole = whole * 10 + (*q - '0');
    }
    for (q += q < end && *q == '.'; q < end && *q >= '0' && *q <= '9'; q++, unit /= 10) {
        thousandths += unit * (*q - '0');
    }
    return whole > 0 ? 1000 : thousandths;
}

/* CSV only for those who name it, and not after JSON. */
static bool wants_csv(const struct http_request *request) {
    struct str header = http_request_header(request, "Accept");
    int64_t csv = 0;
    int64_t json = 0;

    while (header.len > 0) {
        const char *comma = memchr(header.ptr, ',', header.len);
        const size_t len = comma != NULL ? (size_t)(comma - header.ptr) : header.len;
        const char *semicolon = memchr(header.ptr, ';', len);
        const size_t type_len = semicolon != NULL ? (size_t)(semicolon - header.ptr) : len;
        const struct str type = str_trim(str_of(header.ptr, type_len));
        const int64_t weight = weight_of(str_of(header.ptr + type_len, len - type_len));
        if (str_eq_nocase(type, STR("text/csv"))) {
            csv = weight;
        } else if (str_eq_nocase(type, STR("application/json"))) {
            json = weight;
        }
        const size_t skip = comma != NULL ? len + 1 : len;
        header = str_of(header.ptr + skip, header.len - skip);
    }
    return csv > json;
}

/* --- answers --- */

static struct str next_cursor(struct read *read, const struct row_result *result) {
    const struct cursor_kind kind = cursor_of(read->query.id);

    if (!result->more || result->count == 0) {
        return (struct str){0};
    }
    return cursor_encode_number(&read->request->arena, &kind,
                                result->lines[result->count - 1].version);
}

static bool put_csv_line(struct buf *body, const struct statement_line *line) {
    const int32_t digits = currency_digits(str_from(line->currency));
    char amount[DECIMAL_TEXT_BYTES];
    char balance[DECIMAL_TEXT_BYTES];
    char event_id[UUID_TEXT_BYTES];
    char time[CLOCK_RFC3339_BYTES];

    if (digits < 0) {
        return false;
    }
    (void)decimal_format_minor(amount, line->amount_minor, digits);
    (void)decimal_format_minor(balance, line->balance_minor, digits);
    (void)clock_format_rfc3339(time, line->recorded_at_us);
    uuid_format(event_id, &line->event_id);
    /* None of these can hold what CSV would have to quote. */
    buf_printf(body, "%" PRId64 ",%s,%s,%s,%s,%s,%s\r\n", line->version, line->kind, amount,
               balance, line->currency, event_id, time);
    return true;
}

static void put_csv(struct read *read, const struct row_result *result) {
    struct buf *body = reader_scratch(read->reader);
    const struct str cursor = next_cursor(read, result);

    buf_put_text(body, "version,kind,amount,balance,currency,event_id,recorded_at\r\n");
    for (size_t i = 0; i < result->count; i++) {
        if (!put_csv_line(body, &result->lines[i])) {
            answer_corrupt(read);
            return;
        }
    }
    if (cursor.len > 0) {
        http_respond_header(read->request, "Daybook-Next-Cursor", cursor);
    }
    answer_text(read->request, "text/csv; charset=utf-8; header=present", body);
}

static void put_json(struct read *read, const struct row_result *result) {
    struct buf *body = reader_scratch(read->reader);
    const struct str cursor = next_cursor(read, result);

    buf_put_text(body, "{\"id\":");
    buf_put_json_str(body, read->query.id);
    buf_put_text(body, ",\"transactions\":[");
    for (size_t i = 0; i < result->count; i++) {
        buf_put_text(body, i > 0 ? "," : "");
        if (!answer_put_line(body, &result->lines[i])) {
            answer_corrupt(read);
            return;
        }
    }
    buf_put_char(body, ']');
    if (cursor.len > 0) {
        buf_put_text(body, ",\"next_cursor\":");
        buf_put_json_str(body, cursor);
    }
    buf_put_text(body, "}\n");
    answer_json(read->request, body);
}

static void put_page(struct read *read, const struct row_result *result) {
    if (result->code == ERR_NOT_FOUND) {
        answer_not_found(read);
        return;
    }
    answer_number_header(read->request, "Daybook-Version", result->head_version);
    answer_age(read->request, result->count > 0 ? result->lines[0].recorded_at_us : 0);
    http_respond_header(read->request, "Vary", STR("Accept"));
    if (wants_csv(read->request)) {
        put_csv(read, result);
    } else {
        put_json(read, result);
    }
}

static const struct read_kind page = {NULL, put_page};

enum http_result query_transactions(void *context, struct http_request *request) {
    const unsigned allowed = PARAM_MIN_VERSION | PARAM_TIMEOUT_MS | PARAM_KIND | PARAM_FROM |
                             PARAM_TO | PARAM_LIMIT | PARAM_CURSOR;
    const struct str id = answer_path_id(request);
    struct row_query query = {.read = ROW_READ_STATEMENT};
    struct params params;

    if (id.len == 0 || !params_read(request, allowed, clock_wall_us(), &params)) {
        return HTTP_DONE;
    }
    const struct cursor_kind kind = cursor_of(id);
    if ((params.given & PARAM_CURSOR) != 0 &&
        !cursor_decode_number(params.cursor, &kind, &query.before_version)) {
        return answer_cursor_invalid(request, "this account's transactions");
    }
    query.limit = params.limit;
    query.kind = params.kind;
    query.from_us = params.from_us;
    query.to_us = params.to_us;
    return reader_start(queries_reader(context, request), request, &page, id, &params, &query);
}
