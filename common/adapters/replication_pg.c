#include "common/adapters/replication_pg.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"

enum { SQL_BYTES = 512 };
#define POSTGRES_EPOCH_US INT64_C(946684800000000)

#define SQL_OPTIONS "-c timezone=UTC -c datestyle=ISO"
/* A holder that says nothing for this long (it was stopped, its machine is gone) loses the slot. */
#define WALSENDER_OPTIONS SQL_OPTIONS " -c wal_sender_timeout=6000"

struct str replication_message(const char *message) {
    return str_of(message, strcspn(message, "\n"));
}

/* What libpq would print to stderr as it is, between the log's JSON lines. Errors reach us as
 * results. */
static void ignore_notice(void *arg, const PGresult *result) {
    (void)arg;
    (void)result;
}

enum err_code replication_connect(const char *url, bool replication, int64_t timeout_ms,
                                  PGconn **out, struct err *err) {
    char timeout_s[24];
    const char *const keywords[] = {"dbname",
                                    "fallback_application_name",
                                    "client_encoding",
                                    "connect_timeout",
                                    "options",
                                    "tcp_user_timeout",
                                    replication ? "replication" : NULL,
                                    NULL};
    const char *const values[] = {
        url,     "daybook-relay", "UTF8", timeout_s, replication ? WALSENDER_OPTIONS : SQL_OPTIONS,
        "10000", "database",      NULL};
    const int64_t seconds = (timeout_ms + 999) / 1000;

    (void)snprintf(timeout_s, sizeof(timeout_s), "%" PRId64, seconds > 2 ? seconds : 2);
    PGconn *pg = PQconnectdbParams(keywords, values, 1);
    if (PQstatus(pg) != CONNECTION_OK) {
        const struct str why = replication_message(PQerrorMessage(pg));
        const enum err_code code = err_set(err, ERR_UNAVAILABLE, "postgresql: %.*s", STR_ARG(why));
        PQfinish(pg);
        return code;
    }
    (void)PQsetNoticeReceiver(pg, ignore_notice, NULL);
    *out = pg;
    return ERR_OK;
}

enum err_code replication_error(const PGresult *result, const char *what, struct err *err) {
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const struct str why = replication_message(PQresultErrorMessage(result));
    enum err_code code = ERR_UNAVAILABLE;

    if (state == NULL) {
        state = "";
    }
    if (strcmp(state, "55006") == 0 || strcmp(state, "42710") == 0) {
        /* object_in_use: another relay holds the slot; duplicate_object: another one makes it. */
        code = ERR_FENCED;
    } else if (strncmp(state, "42", 2) == 0 || strcmp(state, "55000") == 0) {
        code = ERR_INVALID;
    }
    return err_set(err, code, "%s: %.*s", what, STR_ARG(why));
}

/* Ends what the backend is doing; a connection that can't be asked is left alone. */
static void cancel_running(PGconn *pg) {
    char text[256];
    PGcancel *cancel = PQgetCancel(pg);

    if (cancel != NULL) {
        (void)PQcancel(cancel, text, sizeof(text));
        PQfreeCancel(cancel);
    }
}

static enum err_code timed_out(PGconn *pg, const char *what, int64_t wait_ms, struct err *err) {
    /* A backend that waits for other transactions would not notice that we are gone. */
    cancel_running(pg);
    return err_set(err, ERR_TIMEOUT, "%s: no answer within %" PRId64 " ms", what, wait_ms);
}

static enum err_code wait_for_result(PGconn *pg, const char *what, int64_t wait_ms,
                                     int64_t deadline_us, struct err *err) {
    while (PQisBusy(pg)) {
        const int64_t left_us = deadline_us - clock_monotonic_us();
        struct pollfd fd = {.fd = PQsocket(pg), .events = POLLIN};
        const int ready = left_us > 0 ? poll(&fd, 1, (int)(left_us / 1000) + 1) : 0;

        if (ready == 0) {
            return timed_out(pg, what, wait_ms, err);
        }
        if ((ready < 0 && errno != EINTR) || (ready > 0 && !PQconsumeInput(pg))) {
            const struct str why = replication_message(PQerrorMessage(pg));
            return err_set(err, ERR_UNAVAILABLE, "%s: %.*s", what, STR_ARG(why));
        }
    }
    return ERR_OK;
}

/* The last result of a command, as PQexec gives it. */
static enum err_code get_result(PGconn *pg, const char *what, int64_t wait_ms, PGresult **out,
                                struct err *err) {
    const int64_t deadline_us = clock_monotonic_us() + wait_ms * 1000;
    PGresult *last = NULL;

    for (;;) {
        const enum err_code code = wait_for_result(pg, what, wait_ms, deadline_us, err);
        if (code != ERR_OK) {
            PQclear(last);
            return code;
        }
        PGresult *result = PQgetResult(pg);
        if (result == NULL) {
            *out = last;
            return ERR_OK;
        }
        PQclear(last);
        last = result;
        if (PQresultStatus(result) == PGRES_COPY_BOTH) {
            *out = result;
            return ERR_OK;
        }
    }
}

static enum err_code finish_run(PGconn *pg, int sent, const char *what, int64_t wait_ms,
                                PGresult **out, struct err *err) {
    PGresult *result = NULL;

    if (!sent) {
        const struct str why = replication_message(PQerrorMessage(pg));
        return err_set(err, ERR_UNAVAILABLE, "%s: %.*s", what, STR_ARG(why));
    }
    enum err_code code = get_result(pg, what, wait_ms, &result, err);
    if (code != ERR_OK) {
        return code;
    }
    const ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && status != PGRES_COPY_BOTH) {
        code = replication_error(result, what, err);
    } else if (out != NULL) {
        *out = result;
        return ERR_OK;
    }
    PQclear(result);
    return code;
}

enum err_code replication_run(PGconn *pg, const char *sql, const char *what, int64_t wait_ms,
                              PGresult **out, struct err *err) {
    return finish_run(pg, PQsendQuery(pg, sql), what, wait_ms, out, err);
}

enum err_code replication_run_params(PGconn *pg, const char *sql, const char *const *values,
                                     int count, const char *what, int64_t wait_ms, PGresult **out,
                                     struct err *err) {
    const int sent = PQsendQueryParams(pg, sql, count, NULL, values, NULL, NULL, 0);

    return finish_run(pg, sent, what, wait_ms, out, err);
}

enum err_code replication_send_status(PGconn *pg, uint64_t confirmed, struct err *err) {
    char message[34] = {'r'};
    const uint64_t position = htobe64(confirmed);
    const uint64_t now = htobe64((uint64_t)(clock_wall_us() - POSTGRES_EPOCH_US));

    memcpy(message + 1, &position, 8);  /* written */
    memcpy(message + 9, &position, 8);  /* flushed: what the slot may forget */
    memcpy(message + 17, &position, 8); /* applied */
    memcpy(message + 25, &now, 8);
    /* The last byte stays 0: no reply wanted. */
    if (PQputCopyData(pg, message, sizeof(message)) < 0 || PQflush(pg) < 0) {
        const struct str why = replication_message(PQerrorMessage(pg));
        return err_set(err, ERR_UNAVAILABLE, "replication: %.*s", STR_ARG(why));
    }
    return ERR_OK;
}

uint64_t replication_position(const char *bytes) {
    uint64_t raw;

    memcpy(&raw, bytes, sizeof(raw));
    return be64toh(raw);
}

enum err_code replication_ended(PGconn *pg, struct err *err) {
    PGresult *result = PQgetResult(pg);
    enum err_code code;

    if (result != NULL && PQresultStatus(result) == PGRES_FATAL_ERROR) {
        code = replication_error(result, "replication", err);
    } else {
        const struct str why = replication_message(PQerrorMessage(pg));
        code = err_set(err, ERR_UNAVAILABLE, "replication ended: %.*s", STR_ARG(why));
    }
    PQclear(result);
    return code;
}

bool replication_parse_lsn(const char *text, uint64_t *out) {
    char *end = NULL;
    const uint64_t high = strtoull(text, &end, 16);

    if (end == text || *end != '/') {
        return false;
    }
    const char *low_text = end + 1;
    const uint64_t low = strtoull(low_text, &end, 16);
    *out = high << 32 | low;
    return end != low_text && *end == '\0';
}

const char *replication_format_lsn(char out[LSN_TEXT_BYTES], uint64_t lsn) {
    (void)snprintf(out, LSN_TEXT_BYTES, "%" PRIX64 "/%" PRIX64, lsn >> 32,
                   lsn & UINT64_C(0xffffffff));
    return out;
}

/* Runs a query with one text value in it. */
static enum err_code look_up(PGconn *pg, const char *format, const char *name, const char *what,
                             int64_t wait_ms, PGresult **out, struct err *err) {
    char sql[SQL_BYTES];
    char *literal = PQescapeLiteral(pg, name, strlen(name));

    if (literal == NULL) {
        return err_set(err, ERR_INVALID, "%s: the name can't be quoted", what);
    }
    const int len = snprintf(sql, sizeof(sql), "%s%s", format, literal);
    PQfreemem(literal);
    if (len < 0 || (size_t)len >= sizeof(sql)) {
        return err_set(err, ERR_INVALID, "%s: the name is too long", what);
    }
    return replication_run(pg, sql, what, wait_ms, out, err);
}

enum err_code replication_find_slot(PGconn *pg, const char *name, int64_t wait_ms,
                                    struct replication_slot *out, struct err *err) {
    PGresult *result = NULL;
    enum err_code code =
        look_up(pg,
                "SELECT plugin, confirmed_flush_lsn, wal_status, active,"
                " database = current_database() FROM pg_replication_slots WHERE slot_name = ",
                name, "slot", wait_ms, &result, err);

    *out = (struct replication_slot){0};
    if (code != ERR_OK || PQntuples(result) == 0) {
        PQclear(result);
        return code;
    }
    out->found = true;
    out->active = strcmp(PQgetvalue(result, 0, 3), "t") == 0;
    if (strcmp(PQgetvalue(result, 0, 0), "pgoutput") != 0 ||
        strcmp(PQgetvalue(result, 0, 4), "t") != 0) {
        code = err_set(err, ERR_INVALID, "slot %s belongs to another plug-in or another database",
                       name);
    } else if (strcmp(PQgetvalue(result, 0, 2), "lost") == 0) {
        out->lost = true;
    } else if (!replication_parse_lsn(PQgetvalue(result, 0, 1), &out->confirmed)) {
        code = err_set(err, ERR_UNAVAILABLE, "slot %s has no position yet", name);
    }
    PQclear(result);
    return code;
}

enum err_code replication_drop_slot(PGconn *pg, const char *name, int64_t wait_ms,
                                    struct err *err) {
    const char *const values[] = {name};

    return replication_run_params(
        pg,
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
        " WHERE slot_name = $1",
        values, 1, "slot", wait_ms, NULL, err);
}

enum err_code replication_drop_slot_at(const char *url, int64_t timeout_ms, const char *name,
                                       int64_t wait_ms, struct err *err) {
    PGconn *pg = NULL;
    enum err_code code = replication_connect(url, false, timeout_ms, &pg, err);

    if (code == ERR_OK) {
        code = replication_drop_slot(pg, name, wait_ms, err);
        PQfinish(pg);
    }
    return code;
}

enum err_code replication_find_publication(PGconn *pg, const char *name, int64_t wait_ms,
                                           struct err *err) {
    PGresult *result = NULL;
    enum err_code code = look_up(pg, "SELECT FROM pg_publication WHERE pubname = ", name,
                                 "publication", wait_ms, &result, err);

    if (code == ERR_OK && PQntuples(result) == 0) {
        code = err_set(err, ERR_INVALID, "publication %s is missing: run the migrations", name);
    }
    PQclear(result);
    return code;
}

enum err_code replication_identify(PGconn *pg, int64_t wait_ms,
                                   char system[REPLICATION_SYSTEM_BYTES], uint64_t *end_of_log,
                                   struct err *err) {
    PGresult *result = NULL;
    enum err_code code =
        replication_run(pg, "IDENTIFY_SYSTEM", "postgresql", wait_ms, &result, err);

    if (code == ERR_OK &&
        (PQntuples(result) != 1 || !replication_parse_lsn(PQgetvalue(result, 0, 2), end_of_log) ||
         !str_copy(system, REPLICATION_SYSTEM_BYTES, str_from(PQgetvalue(result, 0, 0))))) {
        code = err_set(err, ERR_CORRUPT, "postgresql: IDENTIFY_SYSTEM has no position");
    }
    PQclear(result);
    return code;
}
