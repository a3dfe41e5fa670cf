/* The query API as it runs, a real HTTP server on a free port, over the in-memory views. */
#ifndef DAYBOOK_TESTS_UNIT_QUERY_API_API_FIXTURE_H
#define DAYBOOK_TESTS_UNIT_QUERY_API_API_FIXTURE_H

#include <jansson.h>

#include "common/adapters/log_mem.h"
#include "common/adapters/view_mem.h"
#include "query-api/routes.h"

enum { API_STREAMS_MAX = 20 };

struct api {
    struct view_mem *store;
    struct view_mem_client *client;
    struct metrics *metrics;
    struct health *health;
    struct queries queries;
    struct reader *reader;
    struct log_mem *log;
    struct log_mem_client *log_client;
    struct log_view log_view;
    struct live *live;
    struct routes routes;
    struct http_server *server;
    bool serving;
};

void api_start(struct api *api, size_t waiters_max);
/* With many streams and the intervals of real ones. */
void api_start_with(struct api *api, size_t waiters_max, size_t streams_max);
/* Drains for at most five seconds; every request must have been answered by then. */
void api_stop(struct api *api);

/* Accounts in the log and in both views with a consistent statement: opened, then deposits of
 * 100.00 each, up to `version`. The first entry was recorded at API_OPENED_US, each further one a
 * second later. */
#define API_OPENED_US INT64_C(1767225600000000) /* 2026-01-01T00:00:00Z */
void api_put_account(struct api *api, const char *id, int64_t version);
/* The next entry of such an account: in the statement, the row and (if `in_keys`) under the key. */
void api_deposit(struct api *api, const char *id, int64_t version, bool in_keys);
struct account_view api_account_at(int64_t version);

struct answer {
    int status;
    char head[4096];
    char body[64 * 1024];
    size_t body_len;
};

/* Sends "METHOD target" with `headers` ("Name: value\r\n…", may be ""); returns the socket. */
int api_send(struct api *api, const char *method, const char *target, const char *headers);
/* Waits at most ten seconds for the answer and closes the socket. */
void api_receive(int fd, struct answer *answer);
/* Both. `head` tells that no body follows. */
void api_get(struct api *api, const char *target, struct answer *answer);
void api_call(struct api *api, const char *method, const char *target, const char *headers,
              struct answer *answer);

/* A header's value, or "". Valid until the next call. */
const char *answer_header(const struct answer *answer, const char *name);
/* The body as JSON; fails the test when it is none. The caller decrefs. */
json_t *answer_body(const struct answer *answer);
/* Fails the test unless it is problem `code` with this status in all the right places. */
void answer_is_problem(const struct answer *answer, int status, const char *code);

#endif
