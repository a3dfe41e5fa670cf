/*
 * A PostgreSQL connection whose every step is bounded in time, with its prepared statements.
 *
 *  1. A lost connection is closed at once; the next call opens a new one. Tries are spaced by a
 *     back-off: in between, calls fail at once with ERR_UNAVAILABLE instead of waiting.
 *  2. pg_conn_run says what is known of the statement: an error that the server reported on a
 *     connection that lives on is final; anything after the request went out and before its answer
 *     came in is ERR_OUTCOME_UNKNOWN.
 * Belongs to one thread.
 */
#ifndef DAYBOOK_ADAPTERS_PG_CONN_H
#define DAYBOOK_ADAPTERS_PG_CONN_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/log.h"
#include "common/runtime/backoff.h"
#include "common/runtime/health.h"

enum { PG_CONN_PARAMS_MAX = 32 };

struct pg_statement {
    const char *name;
    const char *sql;
};

struct pg_conn_options {
    const char *url; /* borrowed */
    const char *application_name;
    const char *setup_sql; /* run once per connection, or NULL */
    const struct pg_statement *statements;
    size_t statement_count;
    int64_t connect_timeout_ms;
    int64_t statement_timeout_ms;
    struct log *log;
    struct health_component *health; /* told of every change; may be NULL */
};

struct pg_conn {
    struct pg_conn_options options;
    PGconn *pg; /* NULL when not connected */
    struct backoff backoff;
    int64_t retry_at_us;
    bool was_up;
    uint64_t connects;
    size_t in_flight;     /* sent by pg_conn_send and not received */
    int64_t in_flight_us; /* since when the oldest of them is waited for */
    PGresult *received;   /* of the oldest, until its end has come */
};

struct pg_param {
    const char *ptr; /* NULL: SQL NULL */
    size_t len;
    bool binary;
};

void pg_conn_init(struct pg_conn *conn, const struct pg_conn_options *options);
void pg_conn_release(struct pg_conn *conn);
/* Drops the connection; the next call connects anew. */
void pg_conn_close(struct pg_conn *conn);

/* Connected on return, or ERR_UNAVAILABLE. */
MUST_CHECK enum err_code pg_conn_ensure(struct pg_conn *conn, struct err *err);

/*
 * Runs a prepared statement and waits for its whole result, at most statement_timeout_ms. On ERR_OK
 * *result is the caller's (PQclear). Results come in binary when `binary_result`.
 * ERR_CONFLICT: unique violation (23505). ERR_INVALID: the data are refused (classes 22, 23).
 * ERR_UNAVAILABLE: it was not done and may be tried again. ERR_OUTCOME_UNKNOWN: see above.
 */
MUST_CHECK enum err_code pg_conn_run(struct pg_conn *conn, const char *statement,
                                     const struct pg_param *params, size_t param_count,
                                     bool binary_result, PGresult **result, struct err *err);
/*
 * pg_conn_run in two steps: statements that are sent before the ones ahead of them are answered
 * (libpq's pipeline mode). Each is a transaction of its own; they take effect in the order sent,
 * and the failure of one doesn't touch the next. While any is on its way no other function may be
 * called but these two and pg_conn_close.
 *
 * pg_conn_send: on ERR_OK it is on its way; else nothing was done.
 * pg_conn_receive: the answer to the oldest, as pg_conn_run gives it; with a lost connection, for
 * each that was on its way, ERR_OUTCOME_UNKNOWN. Comes back with ERR_OK and *done false when it has
 * not come by wait_until_us (monotonic; INT64_MAX: no such time).
 */
MUST_CHECK enum err_code pg_conn_send(struct pg_conn *conn, const char *statement,
                                      const struct pg_param *params, size_t param_count,
                                      bool binary_result, struct err *err);
MUST_CHECK enum err_code pg_conn_receive(struct pg_conn *conn, const char *statement,
                                         int64_t wait_until_us, bool *done, PGresult **result,
                                         struct err *err);
/* The same as pg_conn_run, row by row: fn gets each one-row result, which stays this function's. */
typedef enum err_code pg_row_fn(void *arg, const PGresult *row, struct err *err);
MUST_CHECK enum err_code pg_conn_stream(struct pg_conn *conn, const char *statement,
                                        const struct pg_param *params, size_t param_count,
                                        bool binary_result, pg_row_fn *fn, void *arg,
                                        struct err *err);

/* Big-endian fields of a binary result. */
int64_t pg_get_i64(const PGresult *result, int row, int column);
int32_t pg_get_i32(const PGresult *result, int row, int column);
int16_t pg_get_i16(const PGresult *result, int row, int column);
int64_t pg_get_time_us(const PGresult *result, int row, int column);
struct str pg_get_str(const PGresult *result, int row, int column); /* NULL: len 0 */

#endif
