#include "common/adapters/pg_conn.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "common/adapters/pg_array.h"
#include "common/base/clock.h"

void pg_conn_init(struct pg_conn *conn, const struct pg_conn_options *options) {
    *conn = (struct pg_conn){.options = *options};
    backoff_init(&conn->backoff, 100, 1000);
}

void pg_conn_release(struct pg_conn *conn) {
    PQclear(conn->received);
    conn->received = NULL;
    if (conn->pg != NULL) {
        PQfinish(conn->pg);
        conn->pg = NULL;
    }
}

/* libpq's messages end with a newline and may have several lines: the first says what matters. */
static struct str first_line(const char *message) {
    size_t len = strcspn(message, "\n");

    return str_of(message, len);
}

void pg_conn_close(struct pg_conn *conn) {
    if (conn->pg == NULL) {
        return;
    }
    PQfinish(conn->pg);
    conn->pg = NULL;
    if (conn->options.health != NULL) {
        health_fail(conn->options.health, "connection lost");
    }
}

/* Waits for the socket; looks at it once when the deadline has passed. False at the deadline. */
static bool wait_socket(PGconn *pg, short events, int64_t deadline_us) {
    for (;;) {
        const int64_t now_us = clock_monotonic_us();
        const int64_t left_us = deadline_us > now_us ? deadline_us - now_us : 0;
        struct pollfd fd = {.fd = PQsocket(pg), .events = events};
        const struct timespec left = {left_us / 1000000, left_us % 1000000 * 1000};

        if (fd.fd < 0) {
            return false;
        }
        const int ready = ppoll(&fd, 1, &left, NULL);
        if (ready > 0) {
            return true;
        }
        if (left_us == 0 || (ready < 0 && errno != EINTR)) {
            return false;
        }
    }
}

static enum err_code connect_bounded(struct pg_conn *conn, int64_t deadline_us, struct err *err) {
    const char *const keywords[] = {"dbname", "fallback_application_name", "client_encoding",
                                    "tcp_user_timeout", NULL};
    const char *const values[] = {conn->options.url, conn->options.application_name, "UTF8",
                                  "10000", NULL};
    PGconn *pg = PQconnectStartParams(keywords, values, 1);

    if (pg == NULL) {
        return err_set(err, ERR_UNAVAILABLE, "postgresql: out of memory");
    }
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (PQstatus(pg) != CONNECTION_BAD && status != PGRES_POLLING_OK &&
           status != PGRES_POLLING_FAILED) {
        const short events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (!wait_socket(pg, events, deadline_us)) {
            PQfinish(pg);
            return err_set(err, ERR_UNAVAILABLE, "postgresql: no connection within %" PRId64 " ms",
                           conn->options.connect_timeout_ms);
        }
        status = PQconnectPoll(pg);
    }
    if (status != PGRES_POLLING_OK) {
        const struct str why = first_line(PQerrorMessage(pg));
        const enum err_code code = err_set(err, ERR_UNAVAILABLE, "postgresql: %.*s", STR_ARG(why));
        PQfinish(pg);
        return code;
    }
    conn->pg = pg;
    return ERR_OK;
}

/* Waits for the next result of the command in hand. False: deadline or connection lost. */
static bool next_result(struct pg_conn *conn, int64_t deadline_us, PGresult **result) {
    for (;;) {
        const int flush = PQflush(conn->pg);
        if (flush < 0) {
            return false;
        }
        if (!PQisBusy(conn->pg)) {
            *result = PQgetResult(conn->pg);
            return true;
        }
        if (!wait_socket(conn->pg, flush > 0 ? POLLIN | POLLOUT : POLLIN, deadline_us) ||
            !PQconsumeInput(conn->pg)) {
            return false;
        }
    }
}

/* Runs what was just sent to its end, for set-up steps: any failure is a failure to connect. */
static enum err_code finish_setup(struct pg_conn *conn, int sent, int64_t deadline_us,
                                  struct err *err) {
    enum err_code code = ERR_OK;
    PGresult *result = NULL;

    if (!sent) {
        return err_set(err, ERR_UNAVAILABLE, "postgresql: %s", PQerrorMessage(conn->pg));
    }
    for (;;) {
        if (!next_result(conn, deadline_us, &result)) {
            return err_set(err, ERR_UNAVAILABLE, "postgresql: connection set-up timed out");
        }
        if (result == NULL) {
            return code;
        }
        const ExecStatusType status = PQresultStatus(result);
        if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
            const struct str why = first_line(PQresultErrorMessage(result));
            code = err_set(err, ERR_UNAVAILABLE, "postgresql: %.*s", STR_ARG(why));
        }
        PQclear(result);
    }
}

static enum err_code set_up(struct pg_conn *conn, int64_t deadline_us, struct err *err) {
    char timeout_sql[96];
    enum err_code code = ERR_OK;

    /* The server gives up a little later than we stop waiting, so that no statement outlives its
     * connection for long. */
    (void)snprintf(timeout_sql, sizeof(timeout_sql),
                   "SET statement_timeout = %" PRId64 "; SET idle_in_transaction_session_timeout = "
                   "60000",
                   conn->options.statement_timeout_ms + 1000);
    if (PQsetnonblocking(conn->pg, 1) != 0) {
        return err_set(err, ERR_UNAVAILABLE, "postgresql: %s", PQerrorMessage(conn->pg));
    }
    code = finish_setup(conn, PQsendQuery(conn->pg, timeout_sql), deadline_us, err);
    if (code == ERR_OK && conn->options.setup_sql != NULL) {
        code = finish_setup(conn, PQsendQuery(conn->pg, conn->options.setup_sql), deadline_us, err);
    }
    for (size_t i = 0; code == ERR_OK && i < conn->options.statement_count; i++) {
        const struct pg_statement *statement = &conn->options.statements[i];
        code = finish_setup(conn, PQsendPrepare(conn->pg, statement->name, statement->sql, 0, NULL),
                            deadline_us, err);
        if (code != ERR_OK) {
            (void)err_prefix(err, "prepare %s", statement->name);
        }
    }
    return code;
}

enum err_code pg_conn_ensure(struct pg_conn *conn, struct err *err) {
    const int64_t now_us = clock_monotonic_us();
    struct err why = {0};

    assert(conn->in_flight == 0);
    if (conn->pg != NULL && PQstatus(conn->pg) == CONNECTION_OK) {
        return ERR_OK;
    }
    pg_conn_close(conn);
    if (now_us < conn->retry_at_us) {
        return err_set(err, ERR_UNAVAILABLE,
                       "postgresql: not connected, next try in %" PRId64 " ms",
                       (conn->retry_at_us - now_us) / 1000 + 1);
    }
    const int64_t deadline_us = now_us + conn->options.connect_timeout_ms * 1000;
    enum err_code code = connect_bounded(conn, deadline_us, &why);
    if (code == ERR_OK) {
        code = set_up(conn, deadline_us, &why);
    }
    if (code != ERR_OK) {
        const int64_t wait_ms = backoff_next_ms(&conn->backoff);
        if (conn->pg != NULL) {
            PQfinish(conn->pg);
            conn->pg = NULL;
        }
        conn->retry_at_us = clock_monotonic_us() + wait_ms * 1000;
        log_warn(conn->options.log, log_event("postgresql.unavailable"), log_err(&why),
                 log_i64("retry_in_ms", wait_ms));
        if (conn->options.health != NULL) {
            health_fail(conn->options.health, "%s", why.message);
        }
        return err_set(err, ERR_UNAVAILABLE, "%s", why.message);
    }
    backoff_reset(&conn->backoff);
    conn->connects++;
    log_info(conn->options.log, log_event("postgresql.connected"),
             log_cstr("application", conn->options.application_name));
    if (conn->options.health != NULL) {
        health_ok(conn->options.health);
    }
    return ERR_OK;
}

/* Refused for good on this connection, "cached plan must not change result type": a column of what
 * it returns has been altered since it was prepared. On a new one it is prepared anew. Nothing else
 * that once worked is refused with this SQLSTATE. */
static bool is_outdated(const PGresult *result) {
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

    return state != NULL && strcmp(state, "0A000") == 0;
}

/* What the server said, as a class. The connection is known to be alive. */
static enum err_code classify(const PGresult *result, struct err *err) {
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    enum err_code code = ERR_INTERNAL;

    if (state == NULL) {
        state = "";
    }
    if (strcmp(state, "23505") == 0) {
        code = ERR_CONFLICT;
    } else if (strncmp(state, "22", 2) == 0 || strncmp(state, "23", 2) == 0) {
        code = ERR_INVALID;
    } else if (strncmp(state, "40", 2) == 0 || strncmp(state, "53", 2) == 0 ||
               strncmp(state, "57", 2) == 0 || strncmp(state, "08", 2) == 0 ||
               strncmp(state, "58", 2) == 0 || strncmp(state, "25", 2) == 0 ||
               strncmp(state, "55", 2) == 0 || is_outdated(result)) {
        code = ERR_UNAVAILABLE;
    }
    return err_set(err, code, "postgresql: %s (SQLSTATE %s)", primary ? primary : "error", state);
}

static enum err_code send_statement(struct pg_conn *conn, const char *statement,
                                    const struct pg_param *params, size_t param_count,
                                    bool binary_result, struct err *err) {
    const char *values[PG_CONN_PARAMS_MAX];
    int lengths[PG_CONN_PARAMS_MAX];
    int formats[PG_CONN_PARAMS_MAX];

    assert(param_count <= PG_CONN_PARAMS_MAX);
    for (size_t i = 0; i < param_count; i++) {
        values[i] = params[i].ptr;
        lengths[i] = (int)params[i].len;
        formats[i] = params[i].binary ? 1 : 0;
    }
    if (!PQsendQueryPrepared(conn->pg, statement, (int)param_count, values, lengths, formats,
                             binary_result ? 1 : 0)) {
        const struct str why = first_line(PQerrorMessage(conn->pg));
        const enum err_code code = err_set(err, ERR_UNAVAILABLE, "postgresql: %.*s", STR_ARG(why));
        pg_conn_close(conn);
        return code;
    }
    return ERR_OK;
}

static enum err_code lost(struct pg_conn *conn, const char *statement, struct err *err) {
    const struct str why = first_line(PQerrorMessage(conn->pg));
    const enum err_code code =
        err_set(err, ERR_OUTCOME_UNKNOWN, "postgresql: no answer to %s: %.*s", statement,
                (int)(why.len > 0 ? why.len : 9), why.len > 0 ? why.ptr : "timed out");

    log_warn(conn->options.log, log_event("postgresql.lost"), log_cstr("statement", statement),
             log_str("why", why));
    pg_conn_close(conn);
    conn->retry_at_us = 0;
    return code;
}

/* What a statement's last result says: ERR_OK, or what went wrong. */
static enum err_code judge(struct pg_conn *conn, const char *statement, const PGresult *result,
                           struct err *err) {
    const ExecStatusType status = PQresultStatus(result);

    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) {
        return ERR_OK;
    }
    /* An error from a session that ended with it (a shutdown) doesn't prove that nothing was done.
     */
    if (PQstatus(conn->pg) == CONNECTION_BAD) {
        return lost(conn, statement, err);
    }
    const enum err_code code = classify(result, err);
    if (is_outdated(result)) {
        log_info(conn->options.log, log_event("postgresql.prepared_anew"),
                 log_cstr("statement", statement));
        pg_conn_close(conn);
        conn->retry_at_us = 0;
    }
    return code;
}

enum err_code pg_conn_send(struct pg_conn *conn, const char *statement,
                           const struct pg_param *params, size_t param_count, bool binary_result,
                           struct err *err) {
    enum err_code code = ERR_OK;

    if (conn->in_flight > 0 && conn->pg == NULL) {
        return err_set(err, ERR_UNAVAILABLE, "postgresql: the connection was lost");
    }
    if (conn->in_flight == 0) {
        code = pg_conn_ensure(conn, err);
        if (code == ERR_OK && !PQenterPipelineMode(conn->pg)) {
            code = err_set(err, ERR_UNAVAILABLE, "postgresql: no pipeline mode");
        }
        conn->in_flight_us = clock_monotonic_us();
    }
    if (code == ERR_OK) {
        code = send_statement(conn, statement, params, param_count, binary_result, err);
    }
    if (code == ERR_OK && !PQpipelineSync(conn->pg)) {
        pg_conn_close(conn); /* whether it got through shows when the answer is asked for */
    }
    conn->in_flight += code == ERR_OK ? 1 : 0;
    return code;
}

/* The oldest is answered or given up. */
static void land(struct pg_conn *conn) {
    conn->in_flight--;
    conn->in_flight_us = clock_monotonic_us();
    if (conn->in_flight == 0 && conn->pg != NULL && !PQexitPipelineMode(conn->pg)) {
        pg_conn_close(conn);
    }
}

enum read_end { READ_DONE, READ_AGAIN, READ_BROKEN };

/* Reads on until the oldest statement's end; READ_AGAIN: it has not come by wait_until_us. */
static enum read_end read_to_sync(struct pg_conn *conn, int64_t wait_until_us) {
    const int64_t deadline_us = conn->in_flight_us + conn->options.statement_timeout_ms * 1000;
    const int64_t until_us = wait_until_us < deadline_us ? wait_until_us : deadline_us;
    bool ended = false; /* NULL came, which ends the statement's results; the sync follows */

    for (;;) {
        const int flush = PQflush(conn->pg);
        if (flush < 0 || PQstatus(conn->pg) == CONNECTION_BAD) {
            return READ_BROKEN;
        }
        if (!PQisBusy(conn->pg)) {
            PGresult *result = PQgetResult(conn->pg);
            if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
                PQclear(result);
                return READ_DONE;
            }
            if (result == NULL && ended) {
                return READ_BROKEN; /* nothing is to come */
            }
            ended = result == NULL;
            if (result != NULL) {
                PQclear(conn->received);
                conn->received = result;
            }
            continue;
        }
        if (!wait_socket(conn->pg, flush > 0 ? POLLIN | POLLOUT : POLLIN, until_us)) {
            return clock_monotonic_us() < deadline_us ? READ_AGAIN : READ_BROKEN;
        }
        if (!PQconsumeInput(conn->pg)) {
            return READ_BROKEN;
        }
    }
}

enum err_code pg_conn_receive(struct pg_conn *conn, const char *statement, int64_t wait_until_us,
                              bool *done, PGresult **out, struct err *err) {
    enum err_code code = ERR_OK;

    assert(conn->in_flight > 0);
    *done = true;
    if (conn->pg == NULL) {
        PQclear(conn->received);
        conn->received = NULL;
        land(conn);
        return err_set(err, ERR_OUTCOME_UNKNOWN,
                       "postgresql: no answer to %s: the connection was lost", statement);
    }
    switch (read_to_sync(conn, wait_until_us)) {
    case READ_AGAIN:
        *done = false;
        return ERR_OK;
    case READ_DONE:
        code = judge(conn, statement, conn->received, err);
        break;
    case READ_BROKEN:
        code = lost(conn, statement, err);
        break;
    }
    if (code == ERR_OK) {
        *out = conn->received;
    } else {
        PQclear(conn->received);
    }
    conn->received = NULL;
    land(conn);
    return code;
}

enum err_code pg_conn_stream(struct pg_conn *conn, const char *statement,
                             const struct pg_param *params, size_t param_count, bool binary_result,
                             pg_row_fn *fn, void *arg, struct err *err) {
    PGresult *result = NULL;
    enum err_code code = pg_conn_ensure(conn, err);

    if (code == ERR_OK) {
        code = send_statement(conn, statement, params, param_count, binary_result, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    const int64_t deadline_us = clock_monotonic_us() + conn->options.statement_timeout_ms * 1000;
    (void)PQsetSingleRowMode(conn->pg);
    for (;;) {
        if (!next_result(conn, deadline_us, &result)) {
            return lost(conn, statement, err);
        }
        if (result == NULL) {
            return code;
        }
        const ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_SINGLE_TUPLE) {
            code = code == ERR_OK ? fn(arg, result, err) : code;
        } else if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
            if (PQstatus(conn->pg) == CONNECTION_BAD) {
                PQclear(result);
                return lost(conn, statement, err);
            }
            code = code == ERR_OK ? classify(result, err) : code;
        }
        PQclear(result);
    }
}

enum err_code pg_conn_run(struct pg_conn *conn, const char *statement,
                          const struct pg_param *params, size_t param_count, bool binary_result,
                          PGresult **out, struct err *err) {
    PGresult *result = NULL;
    PGresult *kept = NULL;
    enum err_code code = pg_conn_ensure(conn, err);

    if (code == ERR_OK) {
        code = send_statement(conn, statement, params, param_count, binary_result, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    const int64_t deadline_us = clock_monotonic_us() + conn->options.statement_timeout_ms * 1000;
    for (;;) {
        if (!next_result(conn, deadline_us, &result)) {
            PQclear(kept);
            return lost(conn, statement, err);
        }
        if (result == NULL) {
            break;
        }
        PQclear(kept);
        kept = result;
    }
    code = judge(conn, statement, kept, err);
    if (code == ERR_OK) {
        *out = kept;
    } else {
        PQclear(kept);
    }
    return code;
}

int64_t pg_get_i64(const PGresult *result, int row, int column) {
    uint64_t raw;

    assert(PQgetlength(result, row, column) == 8);
    memcpy(&raw, PQgetvalue(result, row, column), sizeof(raw));
    return (int64_t)be64toh(raw);
}

int32_t pg_get_i32(const PGresult *result, int row, int column) {
    uint32_t raw;

    assert(PQgetlength(result, row, column) == 4);
    memcpy(&raw, PQgetvalue(result, row, column), sizeof(raw));
    return (int32_t)be32toh(raw);
}

int16_t pg_get_i16(const PGresult *result, int row, int column) {
    uint16_t raw;

    assert(PQgetlength(result, row, column) == 2);
    memcpy(&raw, PQgetvalue(result, row, column), sizeof(raw));
    return (int16_t)be16toh(raw);
}

int64_t pg_get_time_us(const PGresult *result, int row, int column) {
    return pg_get_i64(result, row, column) + PG_EPOCH_US;
}

struct str pg_get_str(const PGresult *result, int row, int column) {
    return str_of(PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column));
}
