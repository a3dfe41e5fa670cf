#include "query-api/answer.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/decimal.h"
#include "common/domain/currency.h"
#include "common/http/problem.h"

bool answer_put_amount(struct buf *out, int64_t minor, const char *currency) {
    const int32_t digits = currency_digits(str_from(currency));
    char text[DECIMAL_TEXT_BYTES];

    if (digits < 0) {
        return false;
    }
    const size_t len = decimal_format_minor(text, minor, digits);
    buf_put_char(out, '"');
    buf_put(out, text, len);
    buf_put_char(out, '"');
    return true;
}

void answer_put_time(struct buf *out, int64_t wall_us) {
    char text[CLOCK_RFC3339_BYTES];
    const size_t len = clock_format_rfc3339(text, wall_us);

    buf_put_char(out, '"');
    buf_put(out, text, len);
    buf_put_char(out, '"');
}

bool answer_put_account(struct buf *out, const char *id, const struct account_view *account) {
    buf_put_text(out, "{\"id\":");
    buf_put_json_str(out, str_from(id));
    buf_put_text(out, ",\"version\":");
    buf_put_i64(out, account->version);
    buf_put_text(out, ",\"status\":\"");
    buf_put_text(out, account_status_name(account->status));
    buf_put_text(out, "\",\"currency\":\"");
    buf_put_text(out, account->currency);
    buf_put_char(out, '"');
    if (account->owner[0] != '\0') {
        buf_put_text(out, ",\"owner\":");
        buf_put_json_str(out, str_from(account->owner));
    }
    buf_put_text(out, ",\"balance\":");
    if (!answer_put_amount(out, account->balance_minor, account->currency)) {
        return false;
    }
    buf_put_text(out, ",\"opened_at\":");
    answer_put_time(out, account->opened_at_us);
    buf_put_text(out, ",\"updated_at\":");
    answer_put_time(out, account->updated_at_us);
    buf_put_char(out, '}');
    return true;
}

bool answer_put_line(struct buf *out, const struct statement_line *line) {
    char event_id[UUID_TEXT_BYTES];

    uuid_format(event_id, &line->event_id);
    buf_put_text(out, "{\"version\":");
    buf_put_i64(out, line->version);
    buf_printf(out, ",\"kind\":\"%s\",\"amount\":", line->kind);
    if (!answer_put_amount(out, line->amount_minor, line->currency)) {
        return false;
    }
    buf_put_text(out, ",\"balance\":");
    if (!answer_put_amount(out, line->balance_minor, line->currency)) {
        return false;
    }
    buf_printf(out, ",\"currency\":\"%s\",\"event_id\":\"%s\",\"recorded_at\":", line->currency,
               event_id);
    answer_put_time(out, line->recorded_at_us);
    buf_put_char(out, '}');
    return true;
}

void answer_text(struct http_request *request, const char *content_type, const struct buf *body) {
    struct str kept = {0};

    if (!buf_failed(body)) {
        kept = arena_str(&request->arena, buf_str(body));
    }
    if (kept.ptr == NULL) {
        (void)problem_respond(request, 500, "answer_too_large", "Answer too large",
                              "the answer does not fit the limits of this process");
        return;
    }
    http_respond(request, 200, content_type, kept);
}

void answer_json(struct http_request *request, const struct buf *body) {
    answer_text(request, "application/json", body);
}

void answer_number_header(struct http_request *request, const char *name, int64_t number) {
    char text[STR_I64_BYTES];

    http_respond_header(request, name, str_of_i64(text, number));
}

void answer_age(struct http_request *request, int64_t recorded_at_us) {
    if (recorded_at_us != 0) {
        const int64_t age_us = clock_wall_us() - recorded_at_us;
        answer_number_header(request, "Daybook-Age-Ms", age_us > 0 ? age_us / 1000 : 0);
    }
}

enum http_result answer_cursor_invalid(struct http_request *request, const char *list) {
    return problem_respond_with(request, 400, "cursor_invalid", "Cursor invalid",
                                STR("\"parameter\":\"cursor\""),
                                "cursor must be a next_cursor of %s", list);
}

/* RFC 9110 section 13.1.2: a list of entity tags, compared weakly, or "*". */
static bool etag_matches(struct str header, struct str etag) {
    while (header.len > 0) {
        const char *comma = memchr(header.ptr, ',', header.len);
        const size_t len = comma != NULL ? (size_t)(comma - header.ptr) : header.len;
        struct str tag = str_trim(str_of(header.ptr, len));
        if (str_starts_with(tag, STR("W/"))) {
            tag = str_of(tag.ptr + 2, tag.len - 2);
        }
        if (str_eq(tag, etag) || str_eq(tag, STR("*"))) {
            return true;
        }
        header = comma != NULL ? str_of(comma + 1, header.len - len - 1) : str_of("", 0);
    }
    return false;
}

void answer_json_of_version(struct read *read, const struct buf *body, int64_t version,
                            int64_t recorded_at_us) {
    struct http_request *request = read->request;
    char text[STR_I64_BYTES];
    char etag[STR_I64_BYTES + 2] = {'"'};

    answer_json(request, body);
    if (request->response.status != 200) {
        return;
    }
    const struct str number = str_of_i64(text, version);
    memcpy(etag + 1, number.ptr, number.len);
    etag[1 + number.len] = '"';
    const struct str tag = str_of(etag, number.len + 2);
    http_respond_header(request, "ETag", tag);
    http_respond_header(request, "Daybook-Version", number);
    answer_age(request, recorded_at_us);
    if (etag_matches(http_request_header(request, "If-None-Match"), tag)) {
        /* The body is not sent, only its length (RFC 9110 section 8.6). */
        http_respond(request, 304, NULL, request->response.body);
    }
}

void answer_not_found(struct read *read) {
    (void)problem_respond(read->request, 404, "account_not_found", "Account not found",
                          "there is no account \"%s\"", read->id);
}

void answer_corrupt(struct read *read) {
    log_error(reader_log(read->reader), log_event("read.corrupt"), log_cstr("id", read->id),
              log_str("correlation_id", read->request->correlation_id));
    (void)problem_respond(read->request, 500, "read_model_corrupt", "Read model corrupt",
                          "what the read model holds here makes no sense; an operator is needed");
}

struct str answer_path_id(struct http_request *request) {
    const struct str id = http_path_param(request, "id");
    struct err err = {0};

    if (stream_id_check(id, &err) == ERR_OK) {
        return id;
    }
    (void)problem_respond_with(request, 400, "id_invalid", "Ill-formed id",
                               STR("\"parameter\":\"id\""), "%s", err.message);
    return (struct str){0};
}
