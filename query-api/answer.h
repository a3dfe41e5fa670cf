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
void answer_json(struct read *read, const struct buf *body);
/* The same with ETag and Daybook-Version; 304 when the client's If-None-Match names the version. */
void answer_json_of_version(struct read *read, const struct buf *body, int64_t version);

void answer_not_found(struct read *read);
/* The read model holds something that can't be shown. */
void answer_corrupt(struct read *read);

/* The id in the path when it is one; otherwise len 0 and the response is the problem. */
MUST_CHECK struct str answer_path_id(struct http_request *request);

#endif
