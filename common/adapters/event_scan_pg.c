#include "common/adapters/event_scan_pg.h"

#include <libpq-fe.h>
#include <stdlib.h>

#include "common/adapters/event_row.h"
#include "common/adapters/replication_pg.h"
#include "common/base/mem.h"

enum { ANSWER_WAIT_MS = 60000 };

struct event_scan_pg {
    struct event_scan base;
    PGconn *scanner; /* in a transaction of its own snapshot */
    PGconn *finder;  /* sees what is there now */
    PGresult *rows;
    PGresult *found;
    int row;
    bool ended;
    uint64_t expected;
};

static struct event_scan_pg *self_of(struct event_scan *scan) {
    return (struct event_scan_pg *)(void *)scan;
}

static enum err_code decode(const PGresult *rows, int row, struct scanned_event *out,
                            struct err *err) {
    struct str fields[EVENT_ROW_FIELDS];

    for (int i = 0; i < EVENT_ROW_FIELDS; i++) {
        fields[i] = str_of(PQgetvalue(rows, row, i), (size_t)PQgetlength(rows, row, i));
    }
    *out = (struct scanned_event){.partition = -1, .offset = -1};
    return event_row_decode(fields, &out->event, err);
}

static enum err_code scan_next(struct event_scan *scan, struct scanned_event *out, bool *found,
                               struct err *err) {
    struct event_scan_pg *self = self_of(scan);

    *found = false;
    if (self->ended) {
        return ERR_OK;
    }
    if (self->rows == NULL || self->row == PQntuples(self->rows)) {
        PQclear(self->rows);
        self->rows = NULL;
        self->row = 0;
        const enum err_code code =
            replication_run(self->scanner, "FETCH FORWARD 5000 FROM scan", "events table",
                            ANSWER_WAIT_MS, &self->rows, err);
        if (code != ERR_OK) {
            return code;
        }
        if (PQntuples(self->rows) == 0) {
            self->ended = true;
            return ERR_OK;
        }
    }
    *found = true;
    return decode(self->rows, self->row++, out, err);
}

static enum err_code scan_find(struct event_scan *scan, const struct uuid *id,
                               struct scanned_event *out, bool *found, struct err *err) {
    struct event_scan_pg *self = self_of(scan);
    char text[UUID_TEXT_BYTES];
    const char *const values[] = {text};

    uuid_format(text, id);
    PQclear(self->found);
    self->found = NULL;
    const enum err_code code = replication_run_params(
        self->finder, "SELECT " EVENT_ROW_COLUMNS " FROM daybook.events WHERE event_id = $1",
        values, 1, "events table", ANSWER_WAIT_MS, &self->found, err);
    *found = code == ERR_OK && PQntuples(self->found) == 1;
    return *found ? decode(self->found, 0, out, err) : code;
}

static uint64_t scan_expected(const struct event_scan *scan) {
    return ((const struct event_scan_pg *)(const void *)scan)->expected;
}

static void scan_free(struct event_scan *scan) {
    struct event_scan_pg *self = self_of(scan);

    PQclear(self->rows);
    PQclear(self->found);
    PQfinish(self->scanner);
    PQfinish(self->finder);
    mem_free(self);
}

static enum err_code begin(struct event_scan_pg *self, struct err *err) {
    static const char *const commands[] = {
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        "DECLARE scan NO SCROLL CURSOR FOR SELECT " EVENT_ROW_COLUMNS
        " FROM daybook.events ORDER BY position",
    };
    PGresult *result = NULL;
    enum err_code code = replication_run(
        self->scanner,
        "SELECT reltuples::bigint FROM pg_class WHERE oid = 'daybook.events'::regclass",
        "events table", ANSWER_WAIT_MS, &result, err);

    if (code == ERR_OK) {
        const long long count = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        self->expected = count > 0 ? (uint64_t)count : 0;
        PQclear(result);
    }
    for (size_t i = 0; code == ERR_OK && i < ARRAY_LEN(commands); i++) {
        code =
            replication_run(self->scanner, commands[i], "events table", ANSWER_WAIT_MS, NULL, err);
    }
    return code;
}

enum err_code event_scan_pg_open(const char *url, int64_t timeout_ms, struct event_scan **out,
                                 struct err *err) {
    static const struct event_scan_ops ops = {
        .next = scan_next,
        .find = scan_find,
        .expected = scan_expected,
        .free = scan_free,
    };
    struct event_scan_pg *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    enum err_code code = replication_connect(url, false, timeout_ms, &self->scanner, err);
    if (code == ERR_OK) {
        code = replication_connect(url, false, timeout_ms, &self->finder, err);
    }
    if (code == ERR_OK) {
        code = begin(self, err);
    }
    if (code == ERR_OK) {
        *out = &self->base;
    } else {
        scan_free(&self->base);
    }
    return code;
}
