/*
 * The queries: each file here is one of them, with its handler, what it asks the views and how its
 * answer looks. To add one: write its file, declare its handler here, add its line to the table in
 * routes.c and its path to common/http/read_paths.c and openapi.json.
 */
#ifndef DAYBOOK_QUERY_API_QUERIES_QUERIES_H
#define DAYBOOK_QUERY_API_QUERIES_QUERIES_H

#include "common/http/http_server.h"
#include "common/ports/log_view.h"
#include "query-api/live.h"
#include "query-api/reader.h"

/* The context of every handler: what it asks, one of each per HTTP thread, by
 * request->thread_index. */
struct queries {
    struct reader **readers;
    struct log_view *logs;
    struct live **lives;
    size_t count;
};

/* GET /accounts/{id} and /accounts/{id}/balance, now or in the past. */
http_handler_fn query_account;
http_handler_fn query_balance;
/* GET /accounts/{id}/transactions */
http_handler_fn query_transactions;
/* GET /accounts */
http_handler_fn query_accounts_list;
/* GET /activity */
http_handler_fn query_activity;
/* GET /events, /events/aggregate/{id}, /events/{event_id} */
http_handler_fn query_events;
http_handler_fn query_stream_events;
http_handler_fn query_event;
/* GET /accounts/{id}/stream, /events/stream */
http_handler_fn query_account_live;
http_handler_fn query_events_live;

static inline struct reader *queries_reader(const struct queries *queries,
                                            const struct http_request *request) {
    return queries->readers[request->thread_index];
}

#endif
