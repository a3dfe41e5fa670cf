/*
 *  closed ──open──▶ attached ──begin──▶ streaming                              the slot is there
 *         ──open──▶ place lost ──begin──▶ catching up ──confirmed──▶ streaming   it is not
 *
 * Invariants
 *  1. The server drops a receiver that is silent for wal_sender_timeout (6 s, replication_pg.c): a
 *     status goes out every STATUS_INTERVAL_US, whenever it is asked for, and soon after a
 *     confirmation; from next and from confirm, so that a reader that holds back stays attached.
 *  2. The flushed position in a status is one that relay_state has written down as confirmed; never
 *     what was merely received. An idle log is written down every IDLE_BYTES: writing is log too.
 *  3. A caught-up event has a commit LSN below that of every streamed one: the slot's start can be
 * the very LSN of the first commit that is streamed, so the byte before it is taken.
 */
#include "common/adapters/change_feed_pg.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/adapters/catch_up_pg.h"
#include "common/adapters/relay_state_pg.h"
#include "common/adapters/replication_pg.h"
#include "common/adapters/wal_decoder.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define STATUS_INTERVAL_US INT64_C(1000000)
#define CONFIRM_INTERVAL_US INT64_C(50000)
#define SAVE_INTERVAL_US INT64_C(500000)
#define PROOF_INTERVAL_US INT64_C(250000)
#define IDLE_BYTES UINT64_C(65536)

enum { ANSWER_WAIT_MS = 8000, COMMAND_BYTES = 512, WHY_BYTES = 256, DROP_PAUSE_MS = 20 };

enum feed_state { FEED_CLOSED, FEED_ATTACHED, FEED_PLACE_LOST, FEED_CATCHING_UP, FEED_STREAMING };

struct feed_pg {
    struct change_feed base;
    struct change_feed_pg_options options;
    enum feed_state state;
    PGconn *pg; /* the replication connection */
    struct relay_state own;
    struct catch_up catch_up;
    char why_lost[WHY_BYTES]; /* the next catch-up's reason when it isn't the slot */

    char *message; /* the last one received; libpq's */
    struct wal_decoder decoder;

    char system[REPLICATION_SYSTEM_BYTES];
    uint64_t end_of_log; /* at opening */
    uint64_t received;   /* the newest position that the server has told of */
    uint64_t done;       /* the newest that was confirmed to us */
    uint64_t confirmed;  /* what the server may forget */
    int64_t status_sent_at_us;
    bool status_due;  /* at once */
    bool confirm_due; /* soon: confirmed has moved since the last status */

    struct metric_counter *caught_up;
    struct metric_counter *places_lost;
    struct metric_counter *unseen;
    struct metric_counter *restored;
    struct metric_gauge *catching_up;
    struct metric_gauge *wal_left;
};

static struct feed_pg *self_of(struct change_feed *feed) {
    return (struct feed_pg *)(void *)feed;
}

static const struct feed_pg *const_self_of(const struct change_feed *feed) {
    return (const struct feed_pg *)(const void *)feed;
}

/* --- status --- */

static enum err_code send_status(struct feed_pg *self, struct err *err) {
    const enum err_code code = replication_send_status(self->pg, self->confirmed, err);

    if (code == ERR_OK) {
        self->status_sent_at_us = clock_monotonic_us();
        self->status_due = false;
        self->confirm_due = false;
    }
    return code;
}

static enum err_code send_status_if_due(struct feed_pg *self, struct err *err) {
    const int64_t silent_us = clock_monotonic_us() - self->status_sent_at_us;

    if (self->status_due || silent_us > STATUS_INTERVAL_US ||
        (self->confirm_due && silent_us > CONFIRM_INTERVAL_US)) {
        return send_status(self, err);
    }
    return ERR_OK;
}

static bool is_save_due(const struct feed_pg *self, bool at_once) {
    const uint64_t ahead = self->done > self->own.confirmed ? self->done - self->own.confirmed : 0;
    const bool news = self->own.dirty || ahead >= (at_once ? 1 : IDLE_BYTES);

    return news && (at_once || clock_monotonic_us() - self->own.saved_at_us > SAVE_INTERVAL_US);
}

/* What was confirmed may be told to the server once that is written down. */
static enum err_code settle(struct feed_pg *self, bool at_once, struct err *err) {
    enum err_code code = ERR_OK;

    if (self->own.remade) {
        return ERR_OK; /* there is nothing to be sure of: see feed_confirm */
    }
    relay_state_advance(&self->own, self->done);
    if (is_save_due(self, at_once)) {
        const bool ahead = self->done > self->own.confirmed;
        code = relay_state_save(&self->own, ahead ? self->done : self->own.confirmed, err);
    }
    if (code == ERR_OK && self->own.confirmed > self->confirmed) {
        self->confirmed = self->own.confirmed;
        self->confirm_due = true;
    }
    return code;
}

static const char *held_slot(const struct feed_pg *self) {
    const bool temporary = self->state == FEED_PLACE_LOST || self->state == FEED_CATCHING_UP;

    return temporary ? self->catch_up.temporary : self->options.slot;
}

static enum err_code prove(struct feed_pg *self, int64_t max_age_us, struct err *err) {
    const enum err_code code =
        relay_state_prove(&self->own, held_slot(self), PQbackendPID(self->pg), max_age_us, err);

    if (code == ERR_OK && self->own.wal_left != INT64_MAX) {
        metric_set(self->wal_left, self->own.wal_left);
    }
    return code;
}

static void feed_close(struct change_feed *feed) {
    struct feed_pg *self = self_of(feed);

    if (self->state == FEED_STREAMING && settle(self, true, NULL) == ERR_OK && self->confirm_due) {
        /* As a courtesy: what isn't told now is delivered again and skipped. */
        (void)send_status(self, NULL);
    }
    PQfreemem(self->message);
    self->message = NULL;
    catch_up_close(&self->catch_up);
    relay_state_close(&self->own);
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
        self->done = self->confirmed;
        self->status_due = true;
        log_info(self->options.log, log_event("feed.attached"),
                 log_cstr("slot", self->options.slot),
                 log_cstr("confirmed", replication_format_lsn(lsn, self->confirmed)));
    }
    return code;
}

static enum err_code drop_lost_slot(struct feed_pg *self, struct err *err) {
    log_error(self->options.log, log_event("feed.slot_invalidated"),
              log_cstr("slot", self->options.slot),
              log_cstr("why", "it fell behind by more than max_slot_wal_keep_size"));
    return replication_drop_slot_at(self->options.url, self->options.connect_timeout_ms,
                                    self->options.slot, ANSWER_WAIT_MS, err);
}

static enum err_code make_catch_up(struct feed_pg *self, const char *why, struct err *err) {
    const enum err_code code =
        catch_up_make(&self->catch_up, self->pg, self->options.url,
                      self->options.connect_timeout_ms, self->options.slot, err);

    if (code == ERR_OK) {
        if (self->why_lost[0] == '\0') {
            (void)snprintf(self->why_lost, sizeof(self->why_lost), "%s", why);
        }
        self->state = FEED_PLACE_LOST;
        self->received = self->catch_up.lsn;
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
        code = replication_identify(self->pg, ANSWER_WAIT_MS, self->system, &self->end_of_log, err);
    }
    if (code == ERR_OK && slot.lost) {
        code = drop_lost_slot(self, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    self->confirmed = slot.confirmed;
    self->received = self->end_of_log;
    if (!slot.found || slot.lost) {
        return make_catch_up(self, slot.lost ? "the slot was invalidated" : "the slot is missing",
                             err);
    }
    code = start_streaming(self, err);
    if (code == ERR_OK) {
        self->state = FEED_ATTACHED;
    }
    return code;
}

static enum err_code feed_open(struct change_feed *feed, struct err *err) {
    struct feed_pg *self = self_of(feed);

    feed_close(feed);
    self->decoder = (struct wal_decoder){.log = self->options.log};
    enum err_code code = replication_connect(self->options.url, true,
                                             self->options.connect_timeout_ms, &self->pg, err);
    if (code == ERR_OK) {
        code = attach(self, err);
    }
    if (code == ERR_OK) {
        code = relay_state_take(&self->own, self->options.url, self->options.connect_timeout_ms,
                                self->options.slot, self->system, err);
    }
    if (code == ERR_OK) {
        code = prove(self, 0, err);
    }
    if (code != ERR_OK) {
        feed_close(feed);
    }
    return code;
}

static bool feed_predecessor_gone(const struct change_feed *feed) {
    return const_self_of(feed)->own.predecessor_gone;
}

/* --- beginning --- */

static enum err_code begin_catch_up(struct feed_pg *self, const struct publish_mark *tails,
                                    size_t count, struct err *err) {
    bool restored = false;
    enum err_code code = relay_state_reincarnate(&self->own, tails, count, &restored, err);

    if (restored) {
        (void)snprintf(self->why_lost, sizeof(self->why_lost), "%s", RELAY_STATE_RESTORED);
        metric_add(self->restored, 1);
    }
    if (code == ERR_OK) {
        code = catch_up_begin(&self->catch_up, self->own.published_below, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    self->state = FEED_CATCHING_UP;
    self->done = 0;
    self->confirmed = 0;
    self->decoder.incarnation = self->own.incarnation;
    self->decoder.commit_lsn = self->catch_up.lsn - 1; /* invariant 3 */
    self->decoder.committed_at_us = clock_wall_us();   /* the true ones are not known */
    self->decoder.seq = 0;
    metric_add(self->places_lost, 1);
    metric_set(self->catching_up, 1);
    log_warn(self->options.log, log_event("feed.catching_up"), log_cstr("slot", self->options.slot),
             log_cstr("why", self->why_lost),
             log_i64("from_transaction", (int64_t)self->own.published_below),
             log_i64("incarnation", (int64_t)self->own.incarnation));
    return ERR_OK;
}

/* Log and topic don't fit: the slot is given up, so that the next opening catches up. */
static enum err_code give_up_place(struct feed_pg *self, struct err *err) {
    const struct timespec pause = {.tv_nsec = DROP_PAUSE_MS * 1000000L};
    struct err dropping = {0};

    (void)snprintf(self->why_lost, sizeof(self->why_lost), "%.*s", WHY_BYTES - 1, err->message);
    log_error(self->options.log, log_event("feed.place_lost"), log_cstr("slot", self->options.slot),
              log_err(err));
    PQfinish(self->pg); /* lets go of the slot */
    self->pg = NULL;
    self->state = FEED_CLOSED;
    const int64_t deadline_us = clock_monotonic_us() + ANSWER_WAIT_MS * INT64_C(1000);
    enum err_code code = ERR_FENCED;
    while (code == ERR_FENCED && clock_monotonic_us() < deadline_us) {
        code = replication_drop_slot(self->own.pg, self->options.slot, ANSWER_WAIT_MS, &dropping);
        if (code == ERR_FENCED) {
            (void)nanosleep(&pause, NULL); /* the walsender has not noticed yet */
        }
    }
    return code == ERR_OK ? ERR_CONFLICT : err_set(err, code, "%s", dropping.message);
}

static enum err_code begin_attached(struct feed_pg *self, const struct publish_mark *tails,
                                    size_t count, struct err *err) {
    const enum err_code code = relay_state_compare(&self->own, self->confirmed, tails, count, err);

    if (code == ERR_CONFLICT) {
        return give_up_place(self, err);
    }
    if (code == ERR_OK) {
        self->decoder.incarnation = self->own.incarnation;
        self->state = FEED_STREAMING;
    }
    return code;
}

static enum err_code feed_begin(struct change_feed *feed, const struct publish_mark *tails,
                                size_t count, struct err *err) {
    struct feed_pg *self = self_of(feed);
    struct err why = {0};
    enum err_code code =
        self->state == FEED_CLOSED
            ? err_set(&why, ERR_UNAVAILABLE, "the feed is closed")
            : relay_state_claim(&self->own, held_slot(self), PQbackendPID(self->pg), &why);

    if (code == ERR_OK) {
        code = self->state == FEED_PLACE_LOST ? begin_catch_up(self, tails, count, &why)
                                              : begin_attached(self, tails, count, &why);
    }
    if (code == ERR_OK) {
        /* Held from opening until now: nobody else has published since the tails were read. */
        code = prove(self, 0, &why);
    }
    if (code != ERR_OK) {
        (void)err_set(err, code, "%s", why.message);
        feed_close(feed);
    }
    return code;
}

/* --- catching up --- */

static enum err_code next_caught_up(struct feed_pg *self, struct feed_item *item, struct err *err) {
    bool found = false;

    if (self->catch_up.read) {
        return ERR_OK; /* waiting for the confirmation */
    }
    const enum err_code code = catch_up_next(&self->catch_up, &item->change.event, &found, err);
    if (code == ERR_OK && found) {
        metric_add(self->caught_up, 1);
        wal_decoder_number(&self->decoder, item);
    } else if (code == ERR_OK && self->catch_up.read) {
        item->kind = FEED_COMMIT;
        item->position = self->catch_up.lsn;
        item->committed_at_us = self->decoder.committed_at_us;
    }
    return code;
}

static enum err_code finish_catch_up(struct feed_pg *self, struct err *err) {
    /* First: whoever finds the slot finds this. */
    self->own.published_below = self->catch_up.complete_below;
    self->own.next_lsn = 0;
    enum err_code code = relay_state_save(&self->own, self->catch_up.lsn, err);

    if (code == ERR_OK) {
        code = catch_up_finish(&self->catch_up, self->pg, err);
    }
    if (code == ERR_OK) {
        log_info(self->options.log, log_event("feed.caught_up"),
                 log_i64("events", (int64_t)self->decoder.seq));
        metric_set(self->catching_up, 0);
        self->why_lost[0] = '\0';
        self->confirmed = self->catch_up.lsn;
        code = start_streaming(self, err);
    }
    if (code == ERR_OK) {
        self->state = FEED_STREAMING;
        code = prove(self, 0, err);
    }
    return code;
}

/* --- streaming --- */

static enum err_code handle_message(struct feed_pg *self, struct str bytes, struct feed_item *item,
                                    struct err *err) {
    if (bytes.len >= 25 && bytes.ptr[0] == 'w') {
        const uint64_t end = replication_position(bytes.ptr + 9);
        self->received = end > self->received ? end : self->received;
        return wal_decoder_take(&self->decoder, str_of(bytes.ptr + 25, bytes.len - 25), item, err);
    }
    if (bytes.len == 18 && bytes.ptr[0] == 'k') {
        const uint64_t end = replication_position(bytes.ptr + 1);
        self->received = end > self->received ? end : self->received;
        self->status_due = self->status_due || bytes.ptr[17] != 0;
        item->kind = FEED_PROGRESS;
        item->position = end;
        return ERR_OK;
    }
    return err_set(err, ERR_CORRUPT, "replication: unknown message");
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
            return replication_ended(self->pg, err);
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
    case FEED_ATTACHED:
    case FEED_PLACE_LOST:
    case FEED_CLOSED:
        return err_set(err, ERR_UNAVAILABLE, "the feed is closed");
    }
    if (code != ERR_OK) {
        feed_close(feed);
    }
    return code;
}

static void feed_published(struct change_feed *feed, int32_t partition, int64_t offset) {
    struct feed_pg *self = self_of(feed);
    const int64_t unseen = relay_state_published(&self->own, partition, offset);

    if (unseen > 0) {
        metric_add(self->unseen, (uint64_t)unseen);
        log_error(self->options.log, log_event("feed.unseen_records"),
                  log_i64("partition", partition), log_i64("before_offset", offset),
                  log_i64("records", unseen),
                  log_cstr("why", "the broker did not show them when the partition's end was read: "
                                  "what they hold may have been published again; run verify"));
    }
}

/* Its records are gone while the slot is far behind them. */
static enum err_code note_remade_topic(struct feed_pg *self, struct err *err) {
    struct err why = {0};
    enum err_code code = relay_state_forget(&self->own, &why);

    if (code == ERR_CONFLICT) {
        code = give_up_place(self, &why);
    }
    return err_set(err, code, "%s", why.message);
}

static enum err_code feed_confirm(struct change_feed *feed, uint64_t position, struct err *err) {
    struct feed_pg *self = self_of(feed);
    enum err_code code;

    if (self->state == FEED_CLOSED) {
        return err_set(err, ERR_UNAVAILABLE, "the feed is closed");
    }
    code = self->own.remade ? note_remade_topic(self, err) : prove(self, PROOF_INTERVAL_US, err);
    if (code == ERR_OK && self->state == FEED_CATCHING_UP && self->catch_up.read &&
        position >= self->catch_up.lsn) {
        code = finish_catch_up(self, err);
    } else if (code == ERR_OK && self->state == FEED_STREAMING) {
        self->done = position > self->done ? position : self->done;
        self->received = position > self->received ? position : self->received;
        code = settle(self, false, err);
    }
    if (code == ERR_OK && (self->state == FEED_STREAMING || self->state == FEED_ATTACHED)) {
        code = send_status_if_due(self, err);
    }
    if (code != ERR_OK) {
        feed_close(feed);
    }
    return code;
}

static int feed_descriptor(const struct change_feed *feed) {
    const struct feed_pg *self = const_self_of(feed);

    if (self->state == FEED_CATCHING_UP && !self->catch_up.read) {
        return catch_up_descriptor(&self->catch_up);
    }
    return self->state == FEED_STREAMING ? PQsocket(self->pg) : -1;
}

static int64_t feed_held_at_us(const struct change_feed *feed) {
    return const_self_of(feed)->own.held_at_us;
}

static uint64_t feed_end_of_log(const struct change_feed *feed) {
    return const_self_of(feed)->end_of_log;
}

static int64_t feed_lag_bytes(const struct change_feed *feed) {
    const struct feed_pg *self = const_self_of(feed);

    return self->received > self->done ? (int64_t)(self->received - self->done) : 0;
}

static const char *feed_catching_up(const struct change_feed *feed) {
    const struct feed_pg *self = const_self_of(feed);

    return self->state == FEED_CATCHING_UP ? self->why_lost : NULL;
}

static void feed_release(struct change_feed *feed) {
    struct feed_pg *self = self_of(feed);

    if (self->state == FEED_STREAMING) {
        (void)settle(self, true, NULL);
    }
    relay_state_release(&self->own);
}

static void feed_free(struct change_feed *feed) {
    feed_close(feed);
    mem_free(self_of(feed));
}

struct change_feed *change_feed_pg_new(const struct change_feed_pg_options *options) {
    static const struct change_feed_ops ops = {
        .open = feed_open,
        .predecessor_gone = feed_predecessor_gone,
        .begin = feed_begin,
        .next = feed_next,
        .published = feed_published,
        .confirm = feed_confirm,
        .descriptor = feed_descriptor,
        .held_at_us = feed_held_at_us,
        .end_of_log = feed_end_of_log,
        .lag_bytes = feed_lag_bytes,
        .catching_up = feed_catching_up,
        .release = feed_release,
        .close = feed_close,
        .free = feed_free,
    };
    struct feed_pg *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    self->options = *options;
    self->caught_up = metrics_counter(options->metrics, "daybook_relay_caught_up_events_total", "",
                                      "Events taken from the table because the place in the log "
                                      "was lost.");
    self->places_lost = metrics_counter(options->metrics, "daybook_relay_places_lost_total", "",
                                        "Times that the place in the log was lost (first start "
                                        "included).");
    self->restored = metrics_counter(options->metrics, "daybook_relay_restores_noticed_total", "",
                                     "Times that the topic had events that the table has not.");
    self->unseen =
        metrics_counter(options->metrics, "daybook_relay_unseen_records_total", "",
                        "Records that were in the topic when its ends were read, and were "
                        "not shown: they may be there twice now.");
    self->catching_up = metrics_gauge(options->metrics, "daybook_relay_catching_up", "",
                                      "1 while events are taken from the table.");
    self->wal_left = metrics_gauge(options->metrics, "daybook_relay_slot_wal_left_bytes", "",
                                   "How much further the slot may fall behind before it is "
                                   "invalidated.");
    return &self->base;
}
