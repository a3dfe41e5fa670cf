/*
 * The query parameters of all reads: one table of names, limits and meanings. Every query says
 * which of them it takes; anything else is refused by name, so that a misspelt parameter is never
 * silently without effect.
 */
#ifndef DAYBOOK_QUERY_API_PARAMS_H
#define DAYBOOK_QUERY_API_PARAMS_H

#include "common/http/http_server.h"

enum {
    PARAMS_TIMEOUT_MS_DEFAULT = 2000,
    PARAMS_TIMEOUT_MS_MAX = 10000,
    PARAMS_LIMIT_DEFAULT = 50,
    PARAMS_LIMIT_MAX = 200,
};

/* Bits of a set. */
enum param {
    PARAM_MIN_VERSION = 1u << 0,
    PARAM_TIMEOUT_MS = 1u << 1,
    PARAM_VERSION = 1u << 2,
    PARAM_AT = 1u << 3,
    PARAM_LIMIT = 1u << 4,
    PARAM_CURSOR = 1u << 5,
};

struct params {
    unsigned given;      /* set of enum param */
    int64_t min_version; /* 0: not asked for */
    int64_t timeout_ms;
    int64_t version; /* 0: not asked for */
    int64_t at_us;   /* when PARAM_AT is given */
    size_t limit;
    struct str cursor; /* as sent; in the request */
};

/* Reads the request's query. False: it is wrong, and the request's response is the problem that
 * says how. `now_us` is the wall clock, against which `at` may not lie in the future. */
MUST_CHECK bool params_read(struct http_request *request, unsigned allowed, int64_t now_us,
                            struct params *out);

#endif
