/*
 * RFC 9457 problem details. Each problem of the system is a row of one table: a stable code, its
 * status, its title; type is "urn:daybook:problem:<code>". `detail` names the field and the limit.
 */
#ifndef DAYBOOK_HTTP_PROBLEM_H
#define DAYBOOK_HTTP_PROBLEM_H

#include "common/http/http_server.h"

/* {"type","title","status","detail","code","correlation_id"} as application/problem+json. `title`
 * and `code`: static or arena. 503 gets Retry-After: 1 unless a Retry-After was set before. Returns
 * HTTP_DONE. */
enum http_result problem_respond(struct http_request *request, int status, const char *code,
                                 const char *title, const char *detail_format, ...)
    PRINTF_LIKE(5, 6);
/* The same with extra members: `members` is `"field":"amount","limit":…` without braces, or "". */
enum http_result problem_respond_with(struct http_request *request, int status, const char *code,
                                      const char *title, struct str members,
                                      const char *detail_format, ...) PRINTF_LIKE(6, 7);
/* Only the body, for answers that are stored. */
void problem_render(struct buf *out, int status, const char *code, const char *title,
                    struct str detail, struct str members, struct str correlation_id);

#endif
