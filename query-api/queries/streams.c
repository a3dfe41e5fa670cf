/* Live streams: where they begin. How they go on is live.c's business. */
#include "common/base/clock.h"
#include "common/http/problem.h"
#include "query-api/answer.h"
#include "query-api/queries/queries.h"

/* The header Last-Event-ID, which a browser sends when it comes back: -1 when it is absent. */
static bool read_last_event_id(struct http_request *request, int64_t *out) {
    const struct str header = str_trim(http_request_header(request, "Last-Event-ID"));

    *out = -1;
    if (header.len == 0 || (str_to_i64(header, out) && *out >= 0)) {
        return true;
    }
    (void)problem_respond_with(request, 400, "last_event_id_invalid", "Ill-formed Last-Event-ID",
                               STR("\"header\":\"Last-Event-ID\""),
                               "Last-Event-ID must be the id of an event of this stream, or 0 for "
                               "all from the beginning");
    return false;
}

static struct live *live_of(const struct queries *queries, const struct http_request *request) {
    return queries->lives[request->thread_index];
}

enum http_result query_account_live(void *context, struct http_request *request) {
    const struct str id = answer_path_id(request);
    struct params params;
    int64_t after = 0;

    if (id.len == 0 || !params_read(request, 0, clock_wall_us(), &params) ||
        !read_last_event_id(request, &after)) {
        return HTTP_DONE;
    }
    return live_start_account(live_of(context, request), request, id, after);
}

enum http_result query_events_live(void *context, struct http_request *request) {
    struct params params;
    int64_t after = 0;

    if (!params_read(request, PARAM_AGGREGATE_TYPE | PARAM_TYPE, clock_wall_us(), &params) ||
        !read_last_event_id(request, &after)) {
        return HTTP_DONE;
    }
    return live_start_log(live_of(context, request), request, params.aggregate_type, params.type,
                          after);
}
