#include "query-api/answer.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/decimal.h"
#include "common/domain/currency.h"
#include "common/http/problem.h"

enum { ETAG_BYTES = 24 };

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

void answer_json(struct read *read, const struct buf *body) {
    struct str kept = {0};

    if (!buf_failed(body)) {
        kept = arena_str(&read->request->arena, buf_str(body));
    }
    if (kept.ptr == NULL) {
        (void)problem_respond(read->request, 500, "answer_too_large", "Answer too large",
                              "the answer does not fit the limits of this process");
        return;
    }
    http_respond(read->request, 200, "application/json", kept);
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

void answer_json_of_version(struct read *read, const struct buf *body, int64_t version) {
    struct http_request *request = read->request;
    char etag[ETAG_BYTES];

    answer_json(read, body);
    if (request->response.status != 200) {
        return;
    }
    const int len = snprintf(etag, sizeof(etag), "\"%" PRId64 "\"", version);
    const struct str tag = str_of(etag, len > 0 ? (size_t)len : 0);
    http_respond_header(request, "ETag", tag);
    http_respond_header(request, "Daybook-Version", str_of(tag.ptr + 1, tag.len - 2));
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
