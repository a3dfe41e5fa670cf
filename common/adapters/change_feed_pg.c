/*
 *  closed ──open──▶ streaming                     the slot exists
 *         ──open──▶ catching up ──confirmed──▶ streaming    it doesn't
 *
 * The server drops a receiver that is silent for wal_sender_timeout (60 s by default): a status
 * goes out at least every STATUS_INTERVAL_US, whenever it is asked for, and soon after a
 * confirmation.
 */
#include "common/adapters/change_feed_pg.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/adapters/pgoutput.h"
#include "common/base/arena.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

/* Without anything else to say. */
#define STATUS_INTERVAL_US INT64_C(5000000)
#define CONFIRM_INTERVAL_US INT64_C(50000)
#define POSTGRES_EPOCH_US INT64_C(946684800000000)
#define CATCH_UP_FETCH "FETCH FORWARD 1000 FROM catch_up"

enum { FIELDS = 14, NAME_BYTES_MAX = 63 };

/* The columns of daybook.events that a change is made of, by name: others may come and go. */
enum field_index {
    F_POSITION,
    F_EVENT_ID,
    F_AGGREGATE_TYPE,
    F_STREAM_ID,
    F_VERSION,
    F_EVENT_TYPE,
    F_SCHEMA_VERSION,
    F_PAYLOAD,
    F_CORRELATION_ID,
    F_CAUSATION_ID,
    F_ACTOR,
    F_TRACEPARENT,
    F_COMMAND,
    F_RECORDED_AT,
};
static const char *const field_names[FIELDS] = {
    "position",   "event_id",       "aggregate_type", "stream_id",      "version",
    "event_type", "schema_version", "payload",        "correlation_id", "causation_id",
    "actor",      "traceparent",    "command",        "recorded_at",
};

enum feed_state { FEED_CLOSED, FEED_CATCHING_UP, FEED_STREAMING };

struct feed_pg {
    struct change_feed base;
    struct change_feed_pg_options options;
    enum feed_state state;
    PGconn *pg; /* the replication connection */

    char *message; /* the last one received; libpq's */
    struct pgoutput_message decoded;
    uint32_t relation_id;
    int column_of[FIELDS]; /* -1: the table has no such column */
    uint64_t commit_lsn;   /* of the transaction in hand */
    int64_t committed_at_us;
    uint32_t seq;

    uint64_t received;  /* the newest position that the server has told of */
    uint64_t confirmed; /* what we have told the server */
    int64_t status_sent_at_us;
    bool status_due;  /* at once */
    bool confirm_due; /* soon: confirmed has moved since the last status */

    PGconn *reader; /* catching up: the table, in the slot's snapshot */
    PGresult *rows;
    int row;
    uint64_t catch_up_lsn;
    bool catch_up_read; /* all rows were delivered */
    struct metric_counter *caught_up;
};

static struct feed_pg *self_of(struct change_feed *feed) {
    return (struct feed_pg *)(void *)feed;
}

static struct str first_line(const char *message) {
    return str_of(message, strcspn(message, "\n"));
}

static enum err_code send_status(struct feed_pg *self, struct err *err);

static void feed_close(struct change_feed *feed) {
    struct feed_pg *self = self_of(feed);

    if (self->state == FEED_STREAMING && self->confirm_due) {
        /* As a courtesy: what isn't told now is delivered again and skipped. */
        self->state = FEED_CLOSED;
        (void)send_status(self, NULL);
    }

    PQfreemem(self->message);
    self->message = NULL;
    PQclear(self->rows);
    self->rows = NULL;
    if (self->reader != NULL) {
        PQfinish(self->reader);
        self->reader = NULL;
    }
    if (self->pg != NULL) {
        PQfinish(self->pg);
        self->pg = NULL;
    }
    self->state = FEED_CLOSED;
}

/* --- connections --- */

static enum err_code connect_to(const struct feed_pg *self, bool replication, PGconn **out,
                                struct err *err) {
    char timeout_s[24];
    const char *const keywords[] = {
        "dbname",  "fallback_application_name", "connect_timeout",
        "options", "tcp_user_timeout",          replication ? "replication" : NULL,
        NULL};
    const char *const values[] = {
        self->options.url, "daybook-relay", timeout_s, "-c timezone=UTC -c datestyle=ISO",
        "10000",           "database",      NULL};
    const int64_t seconds = (self->options.connect_timeout_ms + 999) / 1000;

    (void)snprintf(timeout_s, sizeof(timeout_s), "%" PRId64, seconds > 2 ? seconds : 2);
    PGconn *pg = PQconnectdbParams(keywords, values, 1);
    if (PQstatus(pg) != CONNECTION_OK) {
        const struct str why = first_line(PQerrorMessage(pg));
        const enum err_code code = err_set(err, ERR_UNAVAILABLE, "postgresql: %.*s", STR_ARG(why));
        PQfinish(pg);
        return code;
    }
    *out = pg;
    return ERR_OK;
}

static enum err_code result_error(const PGresult *result, const char *what, struct err *err) {
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const struct str why = first_line(PQresultErrorMessage(result));
    enum err_code code = ERR_UNAVAILABLE;

    if (state != NULL && strcmp(state, "55006") == 0) {
        code = ERR_FENCED; /* object_in_use: another relay holds the slot */
    } else if (state != NULL && (strncmp(state, "42", 2) == 0 || strcmp(state, "55000") == 0)) {
        code = ERR_INVALID;
    }
    return err_set(err, code, "%s: %.*s", what, STR_ARG(why));
}

static enum err_code run(PGconn *pg, const char *sql, const char *what, PGresult **out,
                         struct err *err) {
    PGresult *result = PQexec(pg, sql);
    const ExecStatusType status = PQresultStatus(result);
    enum err_code code = ERR_OK;

    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
        code = result_error(result, what, err);
    } else if (out != NULL) {
        *out = result;
        return ERR_OK;
    }
    PQclear(result);
    return code;
}

static bool parse_lsn(const char *text, uint64_t *out) {
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

/* --- opening --- */

static enum err_code look_up_slot(struct feed_pg *self, bool *found, struct err *err) {
    char sql[512];
    PGresult *result = NULL;

    (void)snprintf(sql, sizeof(sql), "SELECT FROM pg_publication WHERE pubname = '%s'",
                   self->options.publication);
    enum err_code code = run(self->pg, sql, "publication", &result, err);
    if (code == ERR_OK && PQntuples(result) == 0) {
        code = err_set(err, ERR_INVALID, "publication %s is missing: run the migrations",
                       self->options.publication);
    }
    PQclear(result);
    result = NULL;
    if (code != ERR_OK) {
        return code;
    }
    (void)snprintf(sql, sizeof(sql),
                   "SELECT plugin, confirmed_flush_lsn, wal_status, active"
                   " FROM pg_replication_slots WHERE slot_name = '%s'",
                   self->options.slot);
    code = run(self->pg, sql, "slot", &result, err);
    *found = code == ERR_OK && PQntuples(result) == 1;
    if (*found && strcmp(PQgetvalue(result, 0, 0), "pgoutput") != 0) {
        code = err_set(err, ERR_INVALID, "slot %s belongs to the plug-in \"%s\"",
                       self->options.slot, PQgetvalue(result, 0, 0));
    } else if (*found && strcmp(PQgetvalue(result, 0, 2), "lost") == 0) {
        code = err_set(err, ERR_INVALID,
                       "slot %s was invalidated: drop it, and the relay catches up from the table",
                       self->options.slot);
    } else if (*found && !parse_lsn(PQgetvalue(result, 0, 1), &self->confirmed)) {
        code = err_set(err, ERR_CORRUPT, "slot %s has no position", self->options.slot);
    }
    PQclear(result);
    return code;
}

static enum err_code start_streaming(struct feed_pg *self, struct err *err) {
    char command[512];

    (void)snprintf(command, sizeof(command),
                   "START_REPLICATION SLOT \"%s\" LOGICAL 0/0 (proto_version '1',"
                   " publication_names '\"%s\"')",
                   self->options.slot, self->options.publication);
    PGresult *result = PQexec(self->pg, command);
    enum err_code code = ERR_OK;
    if (PQresultStatus(result) != PGRES_COPY_BOTH) {
        code = result_error(result, "replication", err);
    } else if (PQsetnonblocking(self->pg, 1) != 0) {
        code = err_set(err, ERR_UNAVAILABLE, "replication: %s", PQerrorMessage(self->pg));
    }
    PQclear(result);
    if (code == ERR_OK) {
        self->state = FEED_STREAMING;
        self->status_due = true;
        log_info(self->options.log, log_event("feed.attached"),
                 log_cstr("slot", self->options.slot),
                 log_i64("confirmed", (int64_t)self->confirmed));
    }
    return code;
}

static enum err_code open_snapshot(struct feed_pg *self, const char *snapshot, struct err *err) {
    char sql[256];
    enum err_code code = connect_to(self, false, &self->reader, err);

    if (code != ERR_OK) {
        return code;
    }
    code =
        run(self->reader, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "catch-up", NULL, err);
    if (code == ERR_OK) {
        (void)snprintf(sql, sizeof(sql), "SET TRANSACTION SNAPSHOT '%s'", snapshot);
        code = run(self->reader, sql, "catch-up", NULL, err);
    }
    if (code == ERR_OK) {
        /* Per stream, positions ascend with the versions: whoever writes a version has seen the one
         * before it. */
        code = run(self->reader,
                   "DECLARE catch_up NO SCROLL CURSOR FOR SELECT position, event_id,"
                   " aggregate_type, stream_id, version, event_type, schema_version, payload,"
                   " correlation_id, causation_id, actor, traceparent, command, recorded_at"
                   " FROM daybook.events ORDER BY position",
                   "catch-up", NULL, err);
    }
    return code;
}

static enum err_code start_catch_up(struct feed_pg *self, struct err *err) {
    char command[256];
    PGresult *result = NULL;

    (void)snprintf(command, sizeof(command),
                   "CREATE_REPLICATION_SLOT \"%s_catch_up\" TEMPORARY LOGICAL pgoutput"
                   " EXPORT_SNAPSHOT",
                   self->options.slot);
    enum err_code code = run(self->pg, command, "slot", &result, err);
    if (code == ERR_OK && !parse_lsn(PQgetvalue(result, 0, 1), &self->catch_up_lsn)) {
        code = err_set(err, ERR_CORRUPT, "the new slot has no position");
    }
    if (code == ERR_OK) {
        code = open_snapshot(self, PQgetvalue(result, 0, 2), err);
    }
    PQclear(result);
    if (code == ERR_OK) {
        self->state = FEED_CATCHING_UP;
        self->confirmed = 0;
        self->received = self->catch_up_lsn;
        self->catch_up_read = false;
        self->seq = 0;
        log_warn(self->options.log, log_event("feed.catching_up"),
                 log_cstr("slot", self->options.slot),
                 log_cstr("why", "the slot is missing: events in the table are published first"));
    }
    return code;
}

static enum err_code feed_open(struct change_feed *feed, struct err *err) {
    struct feed_pg *self = self_of(feed);
    bool found = false;

    feed_close(feed);
    self->relation_id = 0;
    enum err_code code = connect_to(self, true, &self->pg, err);
    if (code == ERR_OK) {
        code = look_up_slot(self, &found, err);
    }
    if (code == ERR_OK) {
        self->received = self->confirmed;
        code = found ? start_streaming(self, err) : start_catch_up(self, err);
    }
    if (code != ERR_OK) {
        feed_close(feed);
    }
    return code;
}

/* --- a row as a change --- */

static bool set_numbers(const struct str *fields, struct recorded_event *event) {
    int64_t schema_version = 0;

    if (!str_to_i64(fields[F_POSITION], &event->position) ||
        !str_to_i64(fields[F_VERSION], &event->version) ||
        !str_to_i64(fields[F_SCHEMA_VERSION], &schema_version) || schema_version > INT32_MAX ||
        !uuid_parse(fields[F_EVENT_ID], &event->event_id) ||
        !pgoutput_parse_time(fields[F_RECORDED_AT], &event->recorded_at_us)) {
        return false;
    }
    event->schema_version = (int32_t)schema_version;
    return true;
}

static enum err_code make_change(struct feed_pg *self, const struct str *fields,
                                 struct feed_item *item, struct err *err) {
    struct recorded_event *event = &item->change.event;

    *event = (struct recorded_event){
        .aggregate_type = fields[F_AGGREGATE_TYPE],
        .stream_id = fields[F_STREAM_ID],
        .event_type = fields[F_EVENT_TYPE],
        .payload = fields[F_PAYLOAD],
        .correlation_id = fields[F_CORRELATION_ID],
        .causation_id = fields[F_CAUSATION_ID],
        .actor = fields[F_ACTOR],
        .traceparent = fields[F_TRACEPARENT],
        .command = fields[F_COMMAND],
    };
    if (!set_numbers(fields, event) || event->stream_id.len == 0) {
        return err_set(err, ERR_CORRUPT, "an event row at LSN %" PRIu64 " can't be read",
                       self->commit_lsn);
    }
    item->kind = FEED_CHANGE;
    item->change.commit_lsn = self->commit_lsn;
    item->change.seq = self->seq++;
    item->change.committed_at_us = self->committed_at_us;
    return ERR_OK;
}

/* --- catching up --- */

static enum err_code fetch_rows(struct feed_pg *self, struct err *err) {
    PQclear(self->rows);
    self->rows = NULL;
    self->row = 0;
    return run(self->reader, CATCH_UP_FETCH, "catch-up", &self->rows, err);
}

static enum err_code next_caught_up(struct feed_pg *self, struct feed_item *item, struct err *err) {
    struct str fields[FIELDS];

    if (self->catch_up_read) {
        return ERR_OK; /* waiting for the confirmation */
    }
    if (self->rows == NULL || self->row == PQntuples(self->rows)) {
        const enum err_code code = fetch_rows(self, err);
        if (code != ERR_OK) {
            return code;
        }
    }
    if (PQntuples(self->rows) == 0) {
        self->catch_up_read = true;
        item->kind = FEED_COMMIT;
        item->position = self->catch_up_lsn;
        item->committed_at_us = clock_wall_us();
        return ERR_OK;
    }
    for (int i = 0; i < FIELDS; i++) {
        fields[i] = str_of(PQgetvalue(self->rows, self->row, i),
                           (size_t)PQgetlength(self->rows, self->row, i));
    }
    self->row++;
    self->commit_lsn = self->catch_up_lsn;
    self->committed_at_us = clock_wall_us();
    metric_add(self->caught_up, 1);
    return make_change(self, fields, item, err);
}

static enum err_code finish_catch_up(struct feed_pg *self, struct err *err) {
    char sql[256];

    PQclear(self->rows);
    self->rows = NULL;
    PQfinish(self->reader);
    self->reader = NULL;
    (void)snprintf(sql, sizeof(sql),
                   "SELECT pg_copy_logical_replication_slot('%s_catch_up', '%s', false)",
                   self->options.slot, self->options.slot);
    enum err_code code = run(self->pg, sql, "slot", NULL, err);
    if (code == ERR_OK) {
        /* It would hold back the WAL for as long as this session lives. */
        (void)snprintf(sql, sizeof(sql), "SELECT pg_drop_replication_slot('%s_catch_up')",
                       self->options.slot);
        code = run(self->pg, sql, "slot", NULL, err);
    }
    if (code == ERR_OK) {
        log_info(self->options.log, log_event("feed.caught_up"),
                 log_i64("events", (int64_t)self->seq));
        self->confirmed = self->catch_up_lsn;
        code = start_streaming(self, err);
    }
    return code;
}

/* --- streaming --- */

static enum err_code send_status(struct feed_pg *self, struct err *err) {
    struct {
        char kind;
        char fields[33];
    } __attribute__((packed)) message = {.kind = 'r'};
    const uint64_t written = htobe64(self->confirmed);
    const uint64_t now = htobe64((uint64_t)(clock_wall_us() - POSTGRES_EPOCH_US));

    memcpy(message.fields, &written, 8);      /* written */
    memcpy(message.fields + 8, &written, 8);  /* flushed: what the slot may forget */
    memcpy(message.fields + 16, &written, 8); /* applied */
    memcpy(message.fields + 24, &now, 8);
    message.fields[32] = 0; /* no reply wanted */
    if (PQputCopyData(self->pg, (const char *)&message, sizeof(message)) < 0 ||
        PQflush(self->pg) < 0) {
        const struct str why = first_line(PQerrorMessage(self->pg));
        return err_set(err, ERR_UNAVAILABLE, "replication: %.*s", STR_ARG(why));
    }
    self->status_sent_at_us = clock_monotonic_us();
    self->status_due = false;
    self->confirm_due = false;
    return ERR_OK;
}

static enum err_code note_relation(struct feed_pg *self, struct err *err) {
    const struct pgoutput_message *m = &self->decoded;

    if (!str_eq(m->name, STR("events")) || !str_eq(m->schema, STR("daybook"))) {
        return ERR_OK;
    }
    self->relation_id = m->relation_id;
    for (int i = 0; i < FIELDS; i++) {
        self->column_of[i] = -1;
        for (size_t j = 0; j < m->column_count; j++) {
            if (str_eq(m->columns[j], str_from(field_names[i]))) {
                self->column_of[i] = (int)j;
            }
        }
        const bool needed = i <= F_PAYLOAD || i == F_RECORDED_AT;
        if (needed && self->column_of[i] < 0) {
            return err_set(err, ERR_CORRUPT, "the events table has no column %s", field_names[i]);
        }
    }
    return ERR_OK;
}

static enum err_code note_insert(struct feed_pg *self, struct feed_item *item, struct err *err) {
    const struct pgoutput_message *m = &self->decoded;
    struct str fields[FIELDS] = {{0}};

    if (m->relation_id != self->relation_id || self->relation_id == 0) {
        return ERR_OK;
    }
    for (int i = 0; i < FIELDS; i++) {
        const int column = self->column_of[i];
        if (column < 0) {
            continue;
        }
        if ((size_t)column >= m->column_count || m->values[column].is_unchanged) {
            return err_set(err, ERR_CORRUPT, "an inserted row lacks column %s", field_names[i]);
        }
        fields[i] = m->values[column].text;
    }
    return make_change(self, fields, item, err);
}

static enum err_code handle_data(struct feed_pg *self, struct str bytes, struct feed_item *item,
                                 struct err *err) {
    struct pgoutput_message *m = &self->decoded;
    enum err_code code = pgoutput_decode(bytes, m, err);

    if (code != ERR_OK) {
        return code;
    }
    switch (m->kind) {
    case PGOUTPUT_BEGIN:
        self->commit_lsn = m->commit_lsn;
        self->committed_at_us = m->committed_at_us;
        self->seq = 0;
        break;
    case PGOUTPUT_COMMIT:
        item->kind = FEED_COMMIT;
        item->position = m->end_lsn;
        item->committed_at_us = m->committed_at_us;
        break;
    case PGOUTPUT_RELATION:
        code = note_relation(self, err);
        break;
    case PGOUTPUT_INSERT:
        code = note_insert(self, item, err);
        break;
    case PGOUTPUT_OTHER:
        break;
    }
    return code;
}

static uint64_t be64_at(const char *bytes) {
    uint64_t raw;

    memcpy(&raw, bytes, sizeof(raw));
    return be64toh(raw);
}

static enum err_code handle_message(struct feed_pg *self, struct str bytes, struct feed_item *item,
                                    struct err *err) {
    if (bytes.len >= 25 && bytes.ptr[0] == 'w') {
        const uint64_t end = be64_at(bytes.ptr + 9);
        self->received = end > self->received ? end : self->received;
        return handle_data(self, str_of(bytes.ptr + 25, bytes.len - 25), item, err);
    }
    if (bytes.len == 18 && bytes.ptr[0] == 'k') {
        const uint64_t end = be64_at(bytes.ptr + 1);
        self->received = end > self->received ? end : self->received;
        self->status_due = self->status_due || bytes.ptr[17] != 0;
        item->kind = FEED_PROGRESS;
        item->position = end;
        return ERR_OK;
    }
    return err_set(err, ERR_CORRUPT, "replication: unknown message");
}

/* Why the stream ended. */
static enum err_code stream_ended(struct feed_pg *self, struct err *err) {
    PGresult *result = PQgetResult(self->pg);
    enum err_code code;

    if (result != NULL && PQresultStatus(result) == PGRES_FATAL_ERROR) {
        code = result_error(result, "replication", err);
    } else {
        const struct str why = first_line(PQerrorMessage(self->pg));
        code = err_set(err, ERR_UNAVAILABLE, "replication ended: %.*s", STR_ARG(why));
    }
    PQclear(result);
    return code;
}

static enum err_code next_streamed(struct feed_pg *self, struct feed_item *item, struct err *err) {
    const int64_t now_us = clock_monotonic_us();
    enum err_code code = ERR_OK;
    bool consumed = false;

    const int64_t silent_us = now_us - self->status_sent_at_us;
    if (self->status_due || silent_us > STATUS_INTERVAL_US ||
        (self->confirm_due && silent_us > CONFIRM_INTERVAL_US)) {
        code = send_status(self, err);
    }
    while (code == ERR_OK && item->kind == FEED_NOTHING) {
        PQfreemem(self->message);
        self->message = NULL;
        const int len = PQgetCopyData(self->pg, &self->message, 1);
        if (len > 0) {
            code = handle_message(self, str_of(self->message, (size_t)len), item, err);
        } else if (len < 0 || (!consumed && !PQconsumeInput(self->pg))) {
            return stream_ended(self, err);
        } else if (consumed) {
            break;
        } else {
            consumed = true;
        }
    }
    return code;
}

static enum err_code feed_next(struct change_feed *feed, struct feed_item *item, struct err *err) {
    struct feed_pg *self = self_of(feed);
    enum err_code code = ERR_UNAVAILABLE;

    item->kind = FEED_NOTHING;
    switch (self->state) {
    case FEED_CATCHING_UP:
        code = next_caught_up(self, item, err);
        break;
    case FEED_STREAMING:
        code = next_streamed(self, item, err);
        break;
    case FEED_CLOSED:
        return err_set(err, ERR_UNAVAILABLE, "the feed is closed");
    }
    if (code != ERR_OK) {
        feed_close(feed);
    }
    return code;
}

static enum err_code feed_confirm(struct change_feed *feed, uint64_t position, struct err *err) {
    struct feed_pg *self = self_of(feed);
    enum err_code code = ERR_OK;

    if (self->state == FEED_CATCHING_UP && self->catch_up_read && position >= self->catch_up_lsn) {
        code = finish_catch_up(self, err);
    } else if (self->state == FEED_STREAMING && position > self->confirmed) {
        self->confirmed = position;
        self->received = position > self->received ? position : self->received;
        self->confirm_due = true;
        if (clock_monotonic_us() - self->status_sent_at_us > CONFIRM_INTERVAL_US) {
            code = send_status(self, err);
        }
    }
    if (code != ERR_OK) {
        feed_close(feed);
    }
    return code;
}

static int feed_descriptor(const struct change_feed *feed) {
    const struct feed_pg *self = (const struct feed_pg *)(const void *)feed;

    return self->state == FEED_STREAMING ? PQsocket(self->pg) : -1;
}

static int64_t feed_lag_bytes(const struct change_feed *feed) {
    const struct feed_pg *self = (const struct feed_pg *)(const void *)feed;

    return self->received > self->confirmed ? (int64_t)(self->received - self->confirmed) : 0;
}

static void feed_free(struct change_feed *feed) {
    feed_close(feed);
    mem_free(self_of(feed));
}

struct change_feed *change_feed_pg_new(const struct change_feed_pg_options *options) {
    static const struct change_feed_ops ops = {
        .open = feed_open,
        .next = feed_next,
        .confirm = feed_confirm,
        .descriptor = feed_descriptor,
        .lag_bytes = feed_lag_bytes,
        .close = feed_close,
        .free = feed_free,
    };
    struct feed_pg *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    self->options = *options;
    self->caught_up = metrics_counter(options->metrics, "daybook_relay_caught_up_events_total", "",
                                      "Events taken from the table because the slot was missing.");
    return &self->base;
}
