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
    PARAMS_LOG_LIMIT_DEFAULT = 100,
    PARAMS_LOG_LIMIT_MAX = 1000,
    PARAMS_NAME_BYTES_MAX = 63, /* of aggregates, events, currencies */
};

/* Bits of a set. */
enum param {
    PARAM_MIN_VERSION = 1u << 0,
    PARAM_TIMEOUT_MS = 1u << 1,
    PARAM_VERSION = 1u << 2,
    PARAM_AT = 1u << 3,
    PARAM_LIMIT = 1u << 4,
    PARAM_CURSOR = 1u << 5,
    PARAM_KIND = 1u << 6,
    PARAM_FROM = 1u << 7, /* a time */
    PARAM_TO = 1u << 8,   /* a time */
    PARAM_STATUS = 1u << 9,
    PARAM_ORDER = 1u << 10,
    PARAM_CURRENCY = 1u << 11,
    PARAM_AGGREGATE_TYPE = 1u << 12,
    PARAM_TYPE = 1u << 13, /* of events */
    PARAM_FROM_POSITION = 1u << 14,
    PARAM_FROM_VERSION = 1u << 15,
    PARAM_DIRECTION = 1u << 16,
    PARAM_LOG_LIMIT = 1u << 17, /* "limit" too, of the log's pages */
    PARAM_FROM_DAY = 1u << 18,  /* "from" too, a day */
    PARAM_TO_DAY = 1u << 19,
};

struct params {
    unsigned given;      /* set of enum param */
    int64_t min_version; /* 0: not asked for */
    int64_t timeout_ms;
    int64_t prefer_wait_s; /* the header Prefer: wait=… set timeout_ms; -1: it did not */
    int64_t version;       /* 0: not asked for */
    int64_t at_us;         /* when PARAM_AT is given */
    size_t limit;
    struct str cursor; /* as sent; in the request, as all texts here */
    struct str kind;   /* len 0: any, as below */
    struct str status;
    struct str currency;
    struct str aggregate_type;
    struct str type;
    int64_t from_us;       /* INT64_MIN: not given; also of days */
    int64_t to_us;         /* exclusive; INT64_MAX: not given. Of a day: its end */
    int64_t from_position; /* 0: not given */
    int64_t from_version;
    struct str direction;
    struct str order;
    bool backwards;  /* direction=backwards */
    bool by_balance; /* order=balance */
};

/* Reads the request's query. False: it is wrong, and the request's response is the problem that
 * says how. `now_us` is the wall clock, against which `at` may not lie in the future. */
MUST_CHECK bool params_read(struct http_request *request, unsigned allowed, int64_t now_us,
                            struct params *out);

#endif
