/* What happened on each day (UTC), by currency. */
#include <inttypes.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/domain/currency.h"
#include "common/http/problem.h"
#include "query-api/answer.h"
#include "query-api/queries/queries.h"

enum { DAYS_DEFAULT = 30, DAYS_MAX = 366 };
#define DAY_US INT64_C(86400000000)

/* A sum in minor units as a decimal with the currency's digits, of any length. False: no currency.
 */
static bool put_sum(struct buf *out, const char *minor, const char *currency) {
    const int32_t digits = currency_digits(str_from(currency));
    const size_t len = strlen(minor);
    const size_t whole = digits >= 0 && len > (size_t)digits ? len - (size_t)digits : 0;

    if (digits < 0) {
        return false;
    }
    buf_put_char(out, '"');
    if (whole > 0) {
        buf_put(out, minor, whole);
    } else {
        buf_put_char(out, '0');
    }
    if (digits > 0) {
        buf_put_char(out, '.');
        for (size_t i = len; i < (size_t)digits; i++) {
            buf_put_char(out, '0');
        }
        buf_put(out, minor + whole, len - whole);
    }
    buf_put_char(out, '"');
    return true;
}

static bool put_day(struct buf *body, const struct activity_line *line) {
    char day[CLOCK_RFC3339_BYTES];

    (void)clock_format_rfc3339(day, line->day_us);
    buf_printf(body,
               "{\"day\":\"%.10s\",\"currency\":\"%s\",\"opened\":%" PRId64 ",\"closed\":%" PRId64
               ",\"deposits\":%" PRId64 ",\"withdrawals\":%" PRId64 ",\"deposited\":",
               day, line->currency, line->opened, line->closed, line->deposits, line->withdrawals);
    if (!put_sum(body, line->deposited_minor, line->currency)) {
        return false;
    }
    buf_put_text(body, ",\"withdrawn\":");
    if (!put_sum(body, line->withdrawn_minor, line->currency)) {
        return false;
    }
    buf_put_char(body, '}');
    return true;
}

static void put_days(struct read *read, const struct row_result *result) {
    struct buf *body = reader_scratch(read->reader);

    if (result->more) {
        (void)problem_respond_with(
            read->request, 400, "range_too_wide", "Range too wide", STR("\"parameter\":\"from\""),
            "more than %d lines of days and currencies: ask for fewer days", ROW_VIEW_ACTIVITY_MAX);
        return;
    }
    buf_put_text(body, "{\"activity\":[");
    for (size_t i = 0; i < result->count; i++) {
        buf_put_text(body, i > 0 ? "," : "");
        if (!put_day(body, &result->activity[i])) {
            answer_corrupt(read);
            return;
        }
    }
    buf_put_text(body, "]}\n");
    answer_age(read->request, result->updated_at_us);
    answer_json(read->request, body);
}

static const struct read_kind days = {NULL, put_days};

enum http_result query_activity(void *context, struct http_request *request) {
    struct row_query query = {.read = ROW_READ_ACTIVITY, .limit = ROW_VIEW_ACTIVITY_MAX};
    const int64_t now_us = clock_wall_us();
    struct params params;

    if (!params_read(request, PARAM_FROM_DAY | PARAM_TO_DAY, now_us, &params)) {
        return HTTP_DONE;
    }
    const bool has_from = (params.given & PARAM_FROM_DAY) != 0;
    const bool has_to = (params.given & PARAM_TO_DAY) != 0;
    const int64_t today_us = now_us - now_us % DAY_US;
    query.to_us = has_to ? params.to_us : today_us + DAY_US;
    query.from_us = has_from ? params.from_us : query.to_us - DAYS_DEFAULT * DAY_US;
    if (query.to_us - query.from_us > DAYS_MAX * DAY_US) {
        return problem_respond_with(request, 400, "range_too_wide", "Range too wide",
                                    STR("\"parameter\":\"from\""),
                                    "from and to may be at most %d days apart", DAYS_MAX);
    }
    return reader_start(queries_reader(context, request), request, &days, (struct str){"", 0},
                        &params, &query);
}
