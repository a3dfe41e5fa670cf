/*
 * The queries: each file here is one of them, with its handler, what it asks the views and how its
 * answer looks. To add one: write its file, declare its handler here, add its line to the table in
 * routes.c and its path to common/http/read_paths.c and openapi.json.
 */
#ifndef DAYBOOK_QUERY_API_QUERIES_QUERIES_H
#define DAYBOOK_QUERY_API_QUERIES_QUERIES_H

#include "common/http/http_server.h"
#include "query-api/reader.h"

/* The context of every handler: the readers, one per HTTP thread. */
struct queries {
    struct reader **readers; /* by request->thread_index */
    size_t count;
};

/* GET /accounts/{id} and /accounts/{id}/balance, now or in the past. */
http_handler_fn query_account;
http_handler_fn query_balance;
/* GET /accounts/{id}/transactions */
http_handler_fn query_transactions;
/* GET /accounts */
http_handler_fn query_accounts_list;

static inline struct reader *queries_reader(const struct queries *queries,
                                            const struct http_request *request) {
    return queries->readers[request->thread_index];
}

#endif
