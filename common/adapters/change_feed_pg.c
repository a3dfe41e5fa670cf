/*
 *  closed ──open──▶ streaming                                the slot exists
 *         ──open──▶ catching up ──confirmed──▶ streaming     it doesn't
 *
 * Invariants
 *  1. The server drops a receiver that is silent for wal_sender_timeout (60 s by default): a status
 *     goes out at least every STATUS_INTERVAL_US, whenever it is asked for, and soon after a
 *     confirmation; from next and from confirm, so that a reader that holds back stays attached.
 *  2. The flushed position in a status is what was confirmed, never what was merely received.
 *  3. A caught-up event has a commit LSN below that of every streamed one: the slot's start can be
 * the very LSN of the first commit that is streamed, so the byte before it is taken.
 */
#include "common/adapters/change_feed_pg.h"

#include <endian.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/event_row.h"
#include "common/adapters/replication_pg.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define STATUS_INTERVAL_US INT64_C(5000000)
#define CONFIRM_INTERVAL_US INT64_C(50000)
#define POSTGRES_EPOCH_US INT64_C(946684800000000)
#define CATCH_UP_FETCH "FETCH FORWARD 1000 FROM catch_up"

/* ANSWER_WAIT_MS: making a slot waits for the transactions that run; SIGTERM waits for us
 * meanwhile. */
enum { ANSWER_WAIT_MS = 8000, FETCH_WAIT_MS = 30000, COMMAND_BYTES = 512 };

enum feed_state { FEED_CLOSED, FEED_CATCHING_UP, FEED_STREAMING };

struct feed_pg {
    struct change_feed base;
    struct change_feed_pg_options options;
    enum feed_state state;
    PGconn *pg; /* the replication connection */

    char *message; /* the last one received; libpq's */
    struct pgoutput_message decoded;
    uint32_t relation_id;         /* of daybook.events; 0: not told yet */
    uint32_t ignored_relation_id; /* the last one that is not ours */
    struct event_row_layout layout;
    uint64_t commit_lsn; /* of the transaction in hand */
    int64_t committed_at_us;
    uint32_t seq;

    uint64_t end_of_log; /* at opening */
    uint64_t received;   /* the newest position that the server has told of */
    uint64_t confirmed;  /* what the server may forget */
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

/* --- status --- */

static enum err_code send_status(struct feed_pg *self, struct err *err) {
    char message[34] = {'r'};
    const uint64_t position = htobe64(self->confirmed);
    const uint64_t now = htobe64((uint64_t)(clock_wall_us() - POSTGRES_EPOCH_US));

    memcpy(message + 1, &position, 8);  /* written */
    memcpy(message + 9, &position, 8);  /* flushed: what the slot may forget */
    memcpy(message + 17, &position, 8); /* applied */
    memcpy(message + 25, &now, 8);
    /* The last byte stays 0: no reply wanted. */
    if (PQputCopyData(self->pg, message, sizeof(message)) < 0 || PQflush(self->pg) < 0) {
        const struct str why = replication_message(PQerrorMessage(self->pg));
        return err_set(err, ERR_UNAVAILABLE, "replication: %.*s", STR_ARG(why));
    }
    self->status_sent_at_us = clock_monotonic_us();
    self->status_due = false;
    self->confirm_due = false;
    return ERR_OK;
}

static enum err_code send_status_if_due(struct feed_pg *self, struct err *err) {
    const int64_t silent_us = clock_monotonic_us() - self->status_sent_at_us;

    if (self->status_due || silent_us > STATUS_INTERVAL_US ||
        (self->confirm_due && silent_us > CONFIRM_INTERVAL_US)) {
        return send_status(self, err);
    }
    return ERR_OK;
}

static void feed_close(struct change_feed *feed) {
    struct feed_pg *self = self_of(feed);

    if (self->state == FEED_STREAMING && self->confirm_due) {
        /* As a courtesy: what isn't told now is delivered again and skipped. */
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

/* --- opening --- */

static enum err_code start_streaming(struct feed_pg *self, struct err *err) {
    char command[COMMAND_BYTES];
    char lsn[LSN_TEXT_BYTES];

    (void)snprintf(command, sizeof(command),
                   "START_REPLICATION SLOT \"%s\" LOGICAL 0/0 (proto_version '1',"
                   " publication_names '\"%s\"')",
                   self->options.slot, self->options.publication);
    enum err_code code =
        replication_run(self->pg, command, "replication", ANSWER_WAIT_MS, NULL, err);
    if (code == ERR_OK && PQsetnonblocking(self->pg, 1) != 0) {
        code = err_set(err, ERR_UNAVAILABLE, "replication: %s", PQerrorMessage(self->pg));
    }
    if (code == ERR_OK) {
        self->state = FEED_STREAMING;
        self->status_due = true;
        log_info(self->options.log, log_event("feed.attached"),
                 log_cstr("slot", self->options.slot),
                 log_cstr("confirmed", replication_format_lsn(lsn, self->confirmed)));
    }
    return code;
}

static enum err_code open_snapshot(struct feed_pg *self, const char *snapshot, struct err *err) {
    char sql[COMMAND_BYTES];
    enum err_code code = replication_connect(self->options.url, false,
                                             self->options.connect_timeout_ms, &self->reader, err);

    if (code != ERR_OK) {
        return code;
    }
    code = replication_run(self->reader, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                           "catch-up", ANSWER_WAIT_MS, NULL, err);
    if (code == ERR_OK) {
        (void)snprintf(sql, sizeof(sql), "SET TRANSACTION SNAPSHOT '%s'", snapshot);
        code = replication_run(self->reader, sql, "catch-up", ANSWER_WAIT_MS, NULL, err);
    }
    if (code == ERR_OK) {
        /* Per stream, positions ascend with the versions: whoever writes a version has seen the one
         * before it. */
        code = replication_run(self->reader,
                               "DECLARE catch_up NO SCROLL CURSOR FOR SELECT " EVENT_ROW_COLUMNS
                               " FROM daybook.events ORDER BY position",
                               "catch-up", ANSWER_WAIT_MS, NULL, err);
    }
    return code;
}

static enum err_code start_catch_up(struct feed_pg *self, struct err *err) {
    char command[COMMAND_BYTES];
    PGresult *result = NULL;

    (void)snprintf(command, sizeof(command),
                   "CREATE_REPLICATION_SLOT \"%s_catch_up\" TEMPORARY LOGICAL pgoutput"
                   " EXPORT_SNAPSHOT",
                   self->options.slot);
    enum err_code code = replication_run(self->pg, command, "slot", ANSWER_WAIT_MS, &result, err);
    if (code != ERR_OK) {
        return code;
    }
    if (!replication_parse_lsn(PQgetvalue(result, 0, 1), &self->catch_up_lsn)) {
        code = err_set(err, ERR_CORRUPT, "the new slot has no position");
    } else {
        code = open_snapshot(self, PQgetvalue(result, 0, 2), err);
    }
    PQclear(result);
    if (code == ERR_OK) {
        self->state = FEED_CATCHING_UP;
        self->confirmed = 0;
        self->received = self->catch_up_lsn;
        self->commit_lsn = self->catch_up_lsn - 1; /* invariant 3 */
        self->catch_up_read = false;
        self->seq = 0;
        log_warn(self->options.log, log_event("feed.catching_up"),
                 log_cstr("slot", self->options.slot),
                 log_cstr("why", "the slot is missing: events in the table are published first"));
    }
    return code;
}

static enum err_code attach(struct feed_pg *self, struct err *err) {
    struct replication_slot slot = {0};
    enum err_code code =
        replication_find_publication(self->pg, self->options.publication, ANSWER_WAIT_MS, err);

    if (code == ERR_OK) {
        code = replication_find_slot(self->pg, self->options.slot, ANSWER_WAIT_MS, &slot, err);
    }
    if (code == ERR_OK && slot.active) {
        code = err_set(err, ERR_FENCED, "slot %s is held by another relay", self->options.slot);
    }
    if (code == ERR_OK) {
        code = replication_end_of_log(self->pg, ANSWER_WAIT_MS, &self->end_of_log, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    self->confirmed = slot.confirmed;
    self->received = self->end_of_log;
    return slot.found ? start_streaming(self, err) : start_catch_up(self, err);
}

static enum err_code feed_open(struct change_feed *feed, struct err *err) {
    struct feed_pg *self = self_of(feed);

    feed_close(feed);
    self->relation_id = 0;
    self->ignored_relation_id = 0;
    enum err_code code = replication_connect(self->options.url, true,
                                             self->options.connect_timeout_ms, &self->pg, err);
    if (code == ERR_OK) {
        code = attach(self, err);
    }
    if (code != ERR_OK) {
        feed_close(feed);
    }
    return code;
}

static void fill_change(struct feed_pg *self, struct feed_item *item) {
    item->kind = FEED_CHANGE;
    item->change.commit_lsn = self->commit_lsn;
    item->change.seq = self->seq++;
    item->change.committed_at_us = self->committed_at_us;
}

/* --- catching up --- */

static enum err_code fetch_rows(struct feed_pg *self, struct err *err) {
    PQclear(self->rows);
    self->rows = NULL;
    self->row = 0;
    self->committed_at_us = clock_wall_us(); /* the true ones are not known */
    return replication_run(self->reader, CATCH_UP_FETCH, "catch-up", FETCH_WAIT_MS, &self->rows,
                           err);
}

static enum err_code next_caught_up(struct feed_pg *self, struct feed_item *item, struct err *err) {
    struct str fields[EVENT_ROW_FIELDS];

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
        item->committed_at_us = self->committed_at_us;
        return ERR_OK;
    }
    for (int i = 0; i < EVENT_ROW_FIELDS; i++) {
        fields[i] = str_of(PQgetvalue(self->rows, self->row, i),
                           (size_t)PQgetlength(self->rows, self->row, i));
    }
    self->row++;
    metric_add(self->caught_up, 1);
    const enum err_code code = event_row_decode(fields, &item->change.event, err);
    if (code == ERR_OK) {
        fill_change(self, item);
    }
    return code;
}

static enum err_code finish_catch_up(struct feed_pg *self, struct err *err) {
    char sql[COMMAND_BYTES];

    PQclear(self->rows);
    self->rows = NULL;
    PQfinish(self->reader);
    self->reader = NULL;
    (void)snprintf(sql, sizeof(sql),
                   "SELECT pg_copy_logical_replication_slot('%s_catch_up', '%s', false)",
                   self->options.slot, self->options.slot);
    enum err_code code = replication_run(self->pg, sql, "slot", ANSWER_WAIT_MS, NULL, err);
    if (code == ERR_OK) {
        /* It would hold back the WAL for as long as this session lives. */
        (void)snprintf(sql, sizeof(sql), "SELECT pg_drop_replication_slot('%s_catch_up')",
                       self->options.slot);
        code = replication_run(self->pg, sql, "slot", ANSWER_WAIT_MS, NULL, err);
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

static enum err_code note_relation(struct feed_pg *self, struct err *err) {
    const struct pgoutput_message *m = &self->decoded;

    if (str_eq(m->name, STR("events")) && str_eq(m->schema, STR("daybook"))) {
        self->relation_id = m->relation_id;
        return event_row_layout(m, &self->layout, err);
    }
    if (m->relation_id == self->relation_id) {
        self->relation_id = 0; /* the table was renamed */
    }
    if (m->relation_id != self->ignored_relation_id) {
        self->ignored_relation_id = m->relation_id;
        log_warn(self->options.log, log_event("feed.relation_ignored"),
                 log_str("schema", m->schema), log_str("name", m->name),
                 log_cstr("why", "the publication has more than daybook.events"));
    }
    return ERR_OK;
}

static enum err_code note_insert(struct feed_pg *self, struct feed_item *item, struct err *err) {
    if (self->decoded.relation_id != self->relation_id || self->relation_id == 0) {
        return ERR_OK;
    }
    const enum err_code code =
        event_row_of_insert(&self->layout, &self->decoded, &item->change.event, err);
    if (code == ERR_OK) {
        fill_change(self, item);
    }
    return code;
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
        code = replication_error(result, "replication", err);
    } else {
        const struct str why = replication_message(PQerrorMessage(self->pg));
        code = err_set(err, ERR_UNAVAILABLE, "replication ended: %.*s", STR_ARG(why));
    }
    PQclear(result);
    return code;
}

static enum err_code next_streamed(struct feed_pg *self, struct feed_item *item, struct err *err) {
    enum err_code code = send_status_if_due(self, err);
    bool consumed = false;

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

    switch (self->state) {
    case FEED_CATCHING_UP:
        if (self->catch_up_read && position >= self->catch_up_lsn) {
            code = finish_catch_up(self, err);
        }
        break;
    case FEED_STREAMING:
        if (position > self->confirmed) {
            self->confirmed = position;
            self->received = position > self->received ? position : self->received;
            self->confirm_due = true;
        }
        code = send_status_if_due(self, err);
        break;
    case FEED_CLOSED:
        return err_set(err, ERR_UNAVAILABLE, "the feed is closed");
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

static uint64_t feed_end_of_log(const struct change_feed *feed) {
    const struct feed_pg *self = (const struct feed_pg *)(const void *)feed;

    return self->end_of_log;
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
        .end_of_log = feed_end_of_log,
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
