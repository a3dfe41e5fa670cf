#include "common/adapters/catch_up_pg.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/adapters/event_row.h"
#include "common/adapters/replication_pg.h"
#include "common/base/clock.h"

#define FETCH "FETCH FORWARD 2000 FROM catch_up"

/* ANSWER_WAIT_MS: making a slot waits for the transactions that run; SIGTERM waits for us
 * meanwhile. */
enum { ANSWER_WAIT_MS = 8000, COMMAND_BYTES = 512 };
/* The first rows come when the table has been looked through. */
#define FETCH_LIMIT_US (INT64_C(3600) * 1000000)

static enum err_code read_text(struct catch_up *self, const char *sql, PGresult **out,
                               struct err *err) {
    return replication_run(self->reader, sql, "catch-up", ANSWER_WAIT_MS, out, err);
}

static enum err_code open_snapshot(struct catch_up *self, const char *url, int64_t timeout_ms,
                                   const char *snapshot, struct err *err) {
    char sql[COMMAND_BYTES];
    PGresult *result = NULL;
    enum err_code code = replication_connect(url, false, timeout_ms, &self->reader, err);

    if (code == ERR_OK) {
        /* Looking through the table ends soon after us, and waits for us as long as it takes. */
        code = read_text(self,
                         "SELECT set_config('client_connection_check_interval', '2s', false),"
                         " set_config('idle_in_transaction_session_timeout', '0', false)",
                         NULL, err);
    }
    if (code == ERR_OK) {
        code = read_text(self, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", NULL, err);
    }
    if (code == ERR_OK) {
        (void)snprintf(sql, sizeof(sql), "SET TRANSACTION SNAPSHOT '%s'", snapshot);
        code = read_text(self, sql, NULL, err);
    }
    if (code == ERR_OK) {
        code = read_text(self, "SELECT pg_snapshot_xmin(pg_current_snapshot())", &result, err);
    }
    if (code == ERR_OK) {
        self->complete_below = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
        PQclear(result);
    }
    return code;
}

enum err_code catch_up_make(struct catch_up *self, PGconn *pg, const char *url,
                            int64_t connect_timeout_ms, const char *slot, struct err *err) {
    char command[COMMAND_BYTES];
    PGresult *result = NULL;

    *self = (struct catch_up){.slot = slot};
    (void)snprintf(self->temporary, sizeof(self->temporary), "%.55s_catch_up", slot);
    (void)snprintf(command, sizeof(command),
                   "CREATE_REPLICATION_SLOT \"%s\" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT",
                   self->temporary);
    enum err_code code = replication_run(pg, command, "slot", ANSWER_WAIT_MS, &result, err);
    if (code != ERR_OK) {
        return code;
    }
    if (!replication_parse_lsn(PQgetvalue(result, 0, 1), &self->lsn)) {
        code = err_set(err, ERR_CORRUPT, "the new slot has no position");
    } else {
        code = open_snapshot(self, url, connect_timeout_ms, PQgetvalue(result, 0, 2), err);
    }
    PQclear(result);
    return code;
}

enum err_code catch_up_begin(struct catch_up *self, uint64_t published_below, struct err *err) {
    char sql[COMMAND_BYTES];
    char where[64] = "";

    if (published_below > 0) {
        (void)snprintf(where, sizeof(where), " WHERE transaction_id >= '%" PRIu64 "'",
                       published_below);
    }
    (void)snprintf(sql, sizeof(sql),
                   "DECLARE catch_up NO SCROLL CURSOR FOR SELECT " EVENT_ROW_COLUMNS
                   " FROM daybook.events%s ORDER BY position",
                   where);
    return read_text(self, sql, NULL, err);
}

static enum err_code reader_failed(const struct catch_up *self, struct err *err) {
    const struct str why = replication_message(PQerrorMessage(self->reader));

    return err_set(err, ERR_UNAVAILABLE, "catch-up: %.*s", STR_ARG(why));
}

static enum err_code ask(struct catch_up *self, struct err *err) {
    if (!PQsendQuery(self->reader, FETCH)) {
        return reader_failed(self, err);
    }
    self->asked = true;
    self->asked_at_us = clock_monotonic_us();
    return ERR_OK;
}

/* Takes over rows that have come, and asks for the next. Leaves `rows` NULL: none have. */
static enum err_code take_rows(struct catch_up *self, struct err *err) {
    enum err_code code = self->asked ? ERR_OK : ask(self, err);

    if (code == ERR_OK && !PQconsumeInput(self->reader)) {
        code = reader_failed(self, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    /* The answer is complete when nothing more follows its rows. */
    while (!PQisBusy(self->reader)) {
        PGresult *result = PQgetResult(self->reader);
        if (result == NULL) {
            self->asked = false;
            break;
        }
        if (PQresultStatus(result) != PGRES_TUPLES_OK) {
            code = replication_error(result, "catch-up", err);
            PQclear(result);
            return code;
        }
        PQclear(self->arriving);
        self->arriving = result;
    }
    if (self->asked) {
        return clock_monotonic_us() - self->asked_at_us > FETCH_LIMIT_US
                   ? err_set(err, ERR_TIMEOUT, "catch-up: no rows within an hour")
                   : ERR_OK;
    }
    self->rows = self->arriving;
    self->arriving = NULL;
    self->row = 0;
    return self->rows != NULL && PQntuples(self->rows) > 0 ? ask(self, err) : ERR_OK;
}

enum err_code catch_up_next(struct catch_up *self, struct recorded_event *out, bool *found,
                            struct err *err) {
    struct str fields[EVENT_ROW_FIELDS];

    *found = false;
    if (self->read) {
        return ERR_OK;
    }
    if (self->rows != NULL && self->row == PQntuples(self->rows)) {
        PQclear(self->rows);
        self->rows = NULL;
    }
    if (self->rows == NULL) {
        const enum err_code code = take_rows(self, err);
        if (code != ERR_OK || self->rows == NULL) {
            return code;
        }
    }
    if (PQntuples(self->rows) == 0) {
        self->read = true;
        return ERR_OK;
    }
    for (int i = 0; i < EVENT_ROW_FIELDS; i++) {
        fields[i] = str_of(PQgetvalue(self->rows, self->row, i),
                           (size_t)PQgetlength(self->rows, self->row, i));
    }
    self->row++;
    *found = true;
    return event_row_decode(fields, out, err);
}

int catch_up_descriptor(const struct catch_up *self) {
    return self->reader != NULL ? PQsocket(self->reader) : -1;
}

enum err_code catch_up_finish(struct catch_up *self, PGconn *pg, struct err *err) {
    char sql[COMMAND_BYTES];

    catch_up_close(self);
    (void)snprintf(sql, sizeof(sql), "SELECT pg_copy_logical_replication_slot('%s', '%s', false)",
                   self->temporary, self->slot);
    enum err_code code = replication_run(pg, sql, "slot", ANSWER_WAIT_MS, NULL, err);
    if (code == ERR_OK) {
        /* It would hold back the WAL for as long as this connection lives. */
        (void)snprintf(sql, sizeof(sql), "SELECT pg_drop_replication_slot('%s')", self->temporary);
        code = replication_run(pg, sql, "slot", ANSWER_WAIT_MS, NULL, err);
    }
    return code;
}

void catch_up_close(struct catch_up *self) {
    PQclear(self->rows);
    self->rows = NULL;
    PQclear(self->arriving);
    self->arriving = NULL;
    if (self->reader != NULL) {
        PQfinish(self->reader);
        self->reader = NULL;
    }
    self->asked = false;
}
