/* What the queries' answers have in common: an account as JSON, ETag and 304, the problems of
 * reads. */
#ifndef DAYBOOK_QUERY_API_ANSWER_H
#define DAYBOOK_QUERY_API_ANSWER_H

#include "query-api/reader.h"

/* Appends {"id":…,"version":…}. False, with nothing useful appended, when the currency is none. */
MUST_CHECK bool answer_put_account(struct buf *out, const char *id,
                                   const struct account_view *account);
/* Appends "350.00" with its quotes. False when the currency is none. */
MUST_CHECK bool answer_put_amount(struct buf *out, int64_t minor, const char *currency);
/* Appends "2026-01-31T12:00:00.000001Z" with its quotes. */
void answer_put_time(struct buf *out, int64_t wall_us);

/* 200 with the buffer's content copied; 500 when it has failed or does not fit. */
void answer_json(struct http_request *request, const struct buf *body);
/* The same of another content type (static). */
void answer_text(struct http_request *request, const char *content_type, const struct buf *body);
/* JSON with ETag, Daybook-Version and age; 304 when the client's If-None-Match names the version.
 */
void answer_json_of_version(struct read *read, const struct buf *body, int64_t version,
                            int64_t recorded_at_us);

/* Daybook-Age-Ms: how long ago the newest thing that the answer shows was recorded. Nothing for 0.
 */
void answer_age(struct http_request *request, int64_t recorded_at_us);
/* A header with a number. */
void answer_number_header(struct http_request *request, const char *name, int64_t number);

/* One entry of an account as JSON. False when the currency is none. */
MUST_CHECK bool answer_put_line(struct buf *out, const struct statement_line *line);

/* The parameter "cursor" is none of this list. */
enum http_result answer_cursor_invalid(struct http_request *request, const char *list);

void answer_not_found(struct read *read);
/* The read model holds something that can't be shown. */
void answer_corrupt(struct read *read);

/* The id in the path when it is one; otherwise len 0 and the response is the problem. */
MUST_CHECK struct str answer_path_id(struct http_request *request);

#endif
