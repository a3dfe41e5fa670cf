/*
 * The row view: accounts and their statements from the relational read model: now, at any version
 * or time, pages of entries, lists. Slower than the key view and complete.
 *
 * A row view belongs to one event loop. It never blocks that loop; its answers come later, on the
 * same loop.
 */
#ifndef DAYBOOK_PORTS_ROW_VIEW_H
#define DAYBOOK_PORTS_ROW_VIEW_H

#include <stdbool.h>

#include "common/base/uuid.h"
#include "common/ports/key_view.h"

enum {
    ROW_VIEW_LIMIT_MAX = 200,
    ROW_VIEW_ACTIVITY_MAX = 2000, /* days times currencies */
    STATEMENT_KIND_BYTES = 16,
    ACTIVITY_SUM_BYTES = 48,
};

enum row_read {
    ROW_READ_ACCOUNT,            /* id: now */
    ROW_READ_ACCOUNT_AT_VERSION, /* id, version */
    ROW_READ_ACCOUNT_AT_TIME, /* id, at_us: after the last event recorded at or before that time */
    ROW_READ_STATEMENT, /* id, before_version (0: from the newest), limit; kind, from_us, to_us:
                           newest first */
    ROW_READ_ACCOUNTS,  /* id: the one to start after, or empty; limit; status, currency: in the
                           store's order of ids, which is fixed */
    ROW_READ_ACCOUNTS_BY_BALANCE, /* the same from the largest balance down; those with the same one
                                     by their ids. Starts after balance_minor and id, if id is not
                                     empty */
    ROW_READ_ACTIVITY,            /* from_us, to_us: midnights (UTC): by day, then by currency */
};

struct row_query {
    enum row_read read;
    struct str id;
    int64_t version;
    int64_t at_us;
    int64_t before_version;
    int64_t balance_minor;
    size_t limit; /* 1 … ROW_VIEW_LIMIT_MAX */
    /* Filters; texts are empty, or static. */
    struct str kind;
    struct str status;
    char currency[ACCOUNT_CURRENCY_BYTES];
    int64_t from_us; /* 0 or less: any */
    int64_t to_us;   /* exclusive; 0 or INT64_MAX: any */
};

struct statement_line {
    int64_t version;
    int64_t amount_minor;  /* 0 for opened and closed */
    int64_t balance_minor; /* after the entry */
    int64_t recorded_at_us;
    struct uuid event_id;
    char kind[STATEMENT_KIND_BYTES]; /* opened deposit withdrawal closed */
    char currency[ACCOUNT_CURRENCY_BYTES];
};

/* A day (UTC) and a currency. Sums in minor units, as decimal digits: they may exceed 64 bits. */
struct activity_line {
    int64_t day_us;
    char currency[ACCOUNT_CURRENCY_BYTES];
    int64_t opened, closed, deposits, withdrawals;
    char deposited_minor[ACTIVITY_SUM_BYTES];
    char withdrawn_minor[ACTIVITY_SUM_BYTES];
};

struct account_line {
    char id[STREAM_ID_BYTES_MAX + 1];
    struct account_view account;
};

/*
 * code: ERR_OK; ERR_NOT_FOUND: there is no such account; ERR_TIMEOUT, ERR_UNAVAILABLE, ERR_CORRUPT:
 * no answer. Of the rest only what belongs to the query is set:
 *
 *   ACCOUNT       account, head_version (the same as account.version)
 *   ACCOUNT_AT_…  account, whose version is 0 when it exists but not (yet) there; head_version
 *   STATEMENT     lines, count, more, head_version (of the whole statement)
 *   ACCOUNTS…     accounts, count, more
 *   ACTIVITY      activity, count, more; updated_at_us: when it last changed, 0: never
 *
 * The owner in a past view is the account's present one: it is set at opening and never changes.
 */
struct row_result {
    enum err_code code;
    int64_t head_version;
    struct account_view account;
    const struct statement_line *lines;
    const struct account_line *accounts;
    const struct activity_line *activity;
    int64_t updated_at_us;
    size_t count;
    bool more; /* there was at least one further row */
};

/* For adapters, which own what they hand over: frees the rows and clears the rest. */
void row_result_release(struct row_result *result);

/* `result` is borrowed for the call. */
typedef void row_view_fn(void *arg, const struct row_result *result);

struct row_view {
    void *self;
    /*
     * ERR_OK: `done` will be called exactly once, later (never inside this call), within the view's
     * time limit. Otherwise it won't: ERR_UNAVAILABLE: not connected, or stopping; ERR_LIMIT: the
     * queue is full. The query is borrowed for the call.
     */
    enum err_code (*read)(void *self, const struct row_query *query, row_view_fn *done, void *arg);
};

#endif
