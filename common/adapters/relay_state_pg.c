#include "common/adapters/relay_state_pg.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/adapters/replication_pg.h"
#include "common/base/buf.h"
#include "common/base/clock.h"

enum { NUMBER_BYTES = 24, ARRAY_BYTES_MAX = PUBLISHER_PARTITIONS_MAX * 22 + 8 };
/* A commit reaches readers of the log before new snapshots show it. */
enum { SHOW_UP_TRIES = 20, SHOW_UP_PAUSE_MS = 100 };

static enum err_code run(struct relay_state *state, const char *sql, const char *const *values,
                         int count, PGresult **out, struct err *err) {
    if (state->pg == NULL) {
        return err_set(err, ERR_UNAVAILABLE, "relay state: not connected");
    }
    return replication_run_params(state->pg, sql, values, count, "relay state", RELAY_STATE_WAIT_MS,
                                  out, err);
}

static const char *number(char out[NUMBER_BYTES], uint64_t value) {
    (void)snprintf(out, NUMBER_BYTES, "%" PRIu64, value);
    return out;
}

/* "{5,-1,17}" */
static void parse_offsets(const char *text, int64_t *offsets) {
    for (size_t i = 0; i < PUBLISHER_PARTITIONS_MAX; i++) {
        offsets[i] = -1;
    }
    const char *at = text + (*text == '{' ? 1 : 0);
    for (size_t i = 0; i < PUBLISHER_PARTITIONS_MAX && *at != '}' && *at != '\0'; i++) {
        char *end = NULL;
        offsets[i] = strtoll(at, &end, 10);
        at = *end == ',' ? end + 1 : end;
    }
}

static void format_offsets(const int64_t *offsets, struct buf *out) {
    size_t count = PUBLISHER_PARTITIONS_MAX;

    while (count > 0 && offsets[count - 1] < 0) {
        count--;
    }
    buf_put_text(out, "{");
    for (size_t i = 0; i < count; i++) {
        buf_printf(out, "%s%" PRId64, i > 0 ? "," : "", offsets[i]);
    }
    buf_put_text(out, "}");
}

/* Of another cluster neither transaction ids nor positions mean anything. */
static enum err_code read_row(struct relay_state *state, struct err *err) {
    const char *const values[] = {state->slot, state->system};
    PGresult *result = NULL;
    enum err_code code =
        run(state,
            "SELECT incarnation, CASE system WHEN $2 THEN published_below ELSE '0' END, offsets,"
            " holder, released, CASE system WHEN $2 THEN confirmed ELSE '0/0' END"
            " FROM daybook.relay_state WHERE slot = $1",
            values, 2, &result, err);

    if (code != ERR_OK) {
        return code;
    }
    state->found = PQntuples(result) == 1;
    state->predecessor_gone = true;
    if (!state->found) {
        parse_offsets("{}", state->offsets);
    } else {
        (void)snprintf(state->predecessor, sizeof(state->predecessor), "%s",
                       PQgetvalue(result, 0, 3));
        state->released = strcmp(PQgetvalue(result, 0, 4), "t") == 0;
        state->incarnation = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
        state->published_below = strtoull(PQgetvalue(result, 0, 1), NULL, 10);
        parse_offsets(PQgetvalue(result, 0, 2), state->offsets);
        state->predecessor_gone = state->released ||
                                  strcmp(state->predecessor, state->identity) == 0 ||
                                  process_identity_ended(state->predecessor);
        state->confirmed_unknown = PQgetisnull(result, 0, 5) != 0;
        if (!state->confirmed_unknown &&
            !replication_parse_lsn(PQgetvalue(result, 0, 5), &state->confirmed)) {
            code = err_set(err, ERR_CORRUPT, "relay state: confirmed is no position");
        }
    }
    PQclear(result);
    return code;
}

enum err_code relay_state_take(struct relay_state *state, const char *url, int64_t timeout_ms,
                               const char *slot, const char *system, struct err *err) {
    relay_state_close(state);
    *state = (struct relay_state){.slot = slot, .system = system, .wal_left = INT64_MAX};
    process_identity(state->identity);
    enum err_code code = replication_connect(url, false, timeout_ms, &state->pg, err);
    if (code == ERR_OK) {
        /* Invariant 6. A stand-by of the server is not waited for: it has no slot either. */
        code = replication_run(state->pg, "SET synchronous_commit = local", "relay state",
                               RELAY_STATE_WAIT_MS, NULL, err);
    }
    if (code == ERR_OK) {
        code = read_row(state, err);
    }
    if (code != ERR_OK) {
        relay_state_close(state);
    }
    return code;
}

/* Who reads the row, sleeps, and wakes up after another holder has come and gone would find the
 * name that it saw: so it must hold the slot at this very moment. */
#define HELD \
    " EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $4 AND active_pid = $5::integer)"

enum err_code relay_state_claim(struct relay_state *state, const char *held, int pid,
                                struct err *err) {
    char backend[NUMBER_BYTES];
    const char *const values[] = {state->slot,
                                  state->identity,
                                  state->found ? state->predecessor : state->system,
                                  held,
                                  number(backend, (uint64_t)pid),
                                  state->released ? "t" : "f"};
    PGresult *result = NULL;
    enum err_code code =
        state->found
            ? run(state,
                  "UPDATE daybook.relay_state SET holder = $2, released = false,"
                  " updated_at = now() WHERE slot = $1 AND holder = $3 AND released = $6"
                  " AND" HELD,
                  values, 6, &result, err)
            : run(state,
                  "INSERT INTO daybook.relay_state (slot, holder, system, confirmed)"
                  " SELECT $1, $2, $3, '0/0'::pg_lsn WHERE" HELD " ON CONFLICT (slot) DO NOTHING",
                  values, 5, &result, err);

    if (code == ERR_OK) {
        if (strcmp(PQcmdTuples(result), "1") != 0) {
            code = err_set(err, ERR_FENCED, "slot %s has another holder by now", state->slot);
        }
        PQclear(result);
    }
    return code;
}

/* --- proof --- */

static enum err_code note_proof(struct relay_state *state, const PGresult *result, int pid,
                                int64_t began_us, struct err *err) {
    uint64_t lsn = 0;

    if (PQntuples(result) != 1 || strtol(PQgetvalue(result, 0, 0), NULL, 10) != pid) {
        return err_set(err, ERR_FENCED, "slot %s is no longer held by this relay", state->slot);
    }
    state->held_at_us = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
    state->proven_at_us = began_us;
    state->wal_left =
        PQgetisnull(result, 0, 4) ? INT64_MAX : strtoll(PQgetvalue(result, 0, 4), NULL, 10);
    if (state->next_lsn == 0 && replication_parse_lsn(PQgetvalue(result, 0, 3), &lsn)) {
        state->next_below = strtoull(PQgetvalue(result, 0, 2), NULL, 10);
        state->next_lsn = lsn;
        state->next_proven_us = began_us;
    }
    return ERR_OK;
}

enum err_code relay_state_prove(struct relay_state *state, const char *held, int pid,
                                int64_t max_age_us, struct err *err) {
    const int64_t began_us = clock_monotonic_us();
    const char *const values[] = {held};
    PGresult *result = NULL;

    if (state->proven_at_us != 0 && began_us - state->proven_at_us <= max_age_us) {
        return ERR_OK;
    }
    /* The snapshot is older than the position read after it, and the time older than the view. */
    enum err_code code =
        run(state,
            "SELECT coalesce(active_pid, 0), (extract(epoch FROM now()) * 1000000)::bigint,"
            " pg_snapshot_xmin(pg_current_snapshot()), pg_current_wal_insert_lsn(), safe_wal_size"
            " FROM pg_replication_slots WHERE slot_name = $1",
            values, 1, &result, err);
    if (code == ERR_OK) {
        code = note_proof(state, result, pid, began_us, err);
        PQclear(result);
    }
    return code;
}

/* --- fitting together --- */

/* Written down at once: the next start must know it. */
static enum err_code write_place(struct relay_state *state, struct err *err) {
    char incarnation[NUMBER_BYTES];
    char below[NUMBER_BYTES];
    char confirmed[LSN_TEXT_BYTES];
    struct buf offsets;
    PGresult *result = NULL;

    buf_init(&offsets, ARRAY_BYTES_MAX);
    format_offsets(state->offsets, &offsets);
    const char *const values[] = {state->slot,
                                  state->identity,
                                  number(incarnation, state->incarnation),
                                  number(below, state->published_below),
                                  buf_str(&offsets).ptr,
                                  replication_format_lsn(confirmed, state->confirmed),
                                  state->system};
    enum err_code code =
        run(state,
            "UPDATE daybook.relay_state SET incarnation = $3, published_below = $4, offsets = $5,"
            " confirmed = $6, system = $7, updated_at = now() WHERE slot = $1 AND holder = $2",
            values, 7, &result, err);
    buf_release(&offsets);
    if (code == ERR_OK) {
        if (strcmp(PQcmdTuples(result), "1") != 0) {
            code = err_set(err, ERR_FENCED, "slot %s has another holder", state->slot);
        }
        PQclear(result);
    }
    return code;
}

/* What is lost is not known: nothing is known to be in the topic. The slot is of no use from now
 * on, whoever attaches it before it is gone. */
static enum err_code forget_place(struct relay_state *state, struct err *err) {
    state->confirmed = 0;
    state->confirmed_unknown = false;
    state->published_below = 0;
    parse_offsets("{}", state->offsets);
    return write_place(state, err);
}

/* How many of the topic's last events the table has. */
static enum err_code count_known(struct relay_state *state, const char *ids, long *known,
                                 struct err *err) {
    const char *const values[] = {ids};
    PGresult *result = NULL;
    const enum err_code code =
        run(state, "SELECT count(*) FROM daybook.events WHERE event_id = ANY ($1::uuid[])", values,
            1, &result, err);

    if (code == ERR_OK) {
        *known = strtol(PQgetvalue(result, 0, 0), NULL, 10);
        PQclear(result);
    }
    return code;
}

/* How many partitions have a last event, and of how many the table has it. `news`: of those alone
 * that end behind what is written down; what was, had been looked at. */
static enum err_code find_tail_events(struct relay_state *state, const struct publish_mark *tails,
                                      size_t count, bool news, long *wanted, long *known,
                                      struct err *err) {
    const struct timespec pause = {.tv_nsec = SHOW_UP_PAUSE_MS * 1000000L};
    struct buf ids;
    enum err_code code = ERR_OK;

    *wanted = 0;
    *known = 0;
    buf_init(&ids, PUBLISHER_PARTITIONS_MAX * (UUID_TEXT_BYTES + 1) + 8);
    buf_put_text(&ids, "{");
    for (size_t p = 0; p < count; p++) {
        if (tails[p].present && (!news || tails[p].offset > state->offsets[p])) {
            char text[UUID_TEXT_BYTES];
            uuid_format(text, &tails[p].event_id);
            buf_printf(&ids, "%s%s", (*wanted)++ > 0 ? "," : "", text);
        }
    }
    buf_put_text(&ids, "}");
    for (int i = 0; code == ERR_OK && *known < *wanted && i < SHOW_UP_TRIES; i++) {
        if (i > 0) {
            (void)nanosleep(&pause, NULL);
        }
        code = count_known(state, buf_str(&ids).ptr, known, err);
    }
    buf_release(&ids);
    return code;
}

static bool has_published(const struct relay_state *state) {
    for (size_t p = 0; p < PUBLISHER_PARTITIONS_MAX; p++) {
        if (state->offsets[p] >= 0) {
            return true;
        }
    }
    return false;
}

static enum err_code check_owner(struct relay_state *state, long wanted, long known,
                                 struct err *err) {
    if (wanted > 0 && known == 0 && !has_published(state)) {
        return err_set(err, ERR_INVALID,
                       "the topic holds the events of another database: give this one a topic of "
                       "its own");
    }
    return ERR_OK;
}

static int64_t end_of(const struct publish_mark *tail) {
    return tail->present ? tail->offset : -1;
}

static enum err_code note_lost_records(struct relay_state *state, size_t partition, int64_t end,
                                       struct err *err) {
    const int64_t wanted = state->offsets[partition];
    const enum err_code code = forget_place(state, err);

    return code != ERR_OK ? code
                          : err_set(err, ERR_CONFLICT,
                                    "partition %zu ends with offset %" PRId64 ", record %" PRId64
                                    " was in it: the topic has lost records or was made anew",
                                    partition, end, wanted);
}

/* Somebody else's hand, or a place that was forgotten: what lies before the slot may not be in the
 * topic. */
static enum err_code check_slot(struct relay_state *state, uint64_t slot_confirmed,
                                struct err *err) {
    char stands[LSN_TEXT_BYTES];
    char confirmed[LSN_TEXT_BYTES];

    if (state->confirmed_unknown) { /* so an earlier version of the relay has moved it */
        state->confirmed_unknown = false;
        state->confirmed = slot_confirmed;
        state->dirty = true;
    }
    if (slot_confirmed <= state->confirmed) {
        return ERR_OK;
    }
    (void)replication_format_lsn(stands, slot_confirmed);
    return state->confirmed == 0
               ? err_set(
                     err, ERR_CONFLICT,
                     "slot %s stands at %s and nothing before that is known to be in the topic: "
                     "it was made by hand, or is left over from a place that was lost",
                     state->slot, stands)
               : err_set(
                     err, ERR_CONFLICT,
                     "slot %s stands at %s, the relay has confirmed %s: it was advanced or made "
                     "anew by hand",
                     state->slot, stands, replication_format_lsn(confirmed, state->confirmed));
}

static void take_over_ends(struct relay_state *state, const struct publish_mark *tails,
                           size_t count) {
    for (size_t p = 0; p < count; p++) {
        if (end_of(&tails[p]) > state->offsets[p]) {
            state->offsets[p] = end_of(&tails[p]);
            state->dirty = true;
        }
        state->next[p] = tails[p].end > state->offsets[p] ? tails[p].end : state->offsets[p] + 1;
    }
}

enum err_code relay_state_compare(struct relay_state *state, uint64_t slot_confirmed,
                                  const struct publish_mark *tails, size_t count, struct err *err) {
    for (size_t p = 0; p < count; p++) {
        if (end_of(&tails[p]) < state->offsets[p]) {
            return note_lost_records(state, p, end_of(&tails[p]), err);
        }
    }
    for (size_t p = 0; p < count; p++) {
        if (tails[p].present && tails[p].incarnation > state->incarnation) {
            return err_set(err, ERR_CONFLICT,
                           "partition %zu has incarnation %" PRIu64 " of the log, the database "
                           "%" PRIu64 ": the database was restored to an earlier moment",
                           p, tails[p].incarnation, state->incarnation);
        }
    }
    long wanted = 0;
    long known = 0;
    enum err_code code = find_tail_events(state, tails, count, true, &wanted, &known, err);
    if (code == ERR_OK) {
        code = check_owner(state, wanted, known, err);
    }
    if (code == ERR_OK && known < wanted) {
        code = err_set(err, ERR_CONFLICT, "%s", RELAY_STATE_RESTORED);
    }
    if (code == ERR_OK) {
        code = check_slot(state, slot_confirmed, err);
    }
    if (code == ERR_OK) {
        take_over_ends(state, tails, count);
    }
    return code;
}

enum err_code relay_state_reincarnate(struct relay_state *state, const struct publish_mark *tails,
                                      size_t count, bool *restored, struct err *err) {
    long wanted = 0;
    long known = 0;
    enum err_code code = find_tail_events(state, tails, count, false, &wanted, &known, err);

    if (code == ERR_OK) {
        code = check_owner(state, wanted, known, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    *restored = known < wanted;
    for (size_t p = 0; p < count; p++) {
        if (tails[p].present && tails[p].incarnation > state->incarnation) {
            state->incarnation = tails[p].incarnation;
        }
        if (end_of(&tails[p]) < state->offsets[p]) {
            state->published_below = 0; /* the topic has lost records as well */
            parse_offsets("{}", state->offsets);
        }
    }
    take_over_ends(state, tails, count);
    state->incarnation++;
    return write_place(state, err);
}

/* --- progress --- */

int64_t relay_state_published(struct relay_state *state, int32_t partition, int64_t offset) {
    const int64_t end = state->offsets[partition];
    const bool first = !state->appended[partition];

    state->appended[partition] = true;
    state->published_at_us = clock_monotonic_us();
    state->dirty = true;
    state->below_behind = true;
    if (offset < 0) {
        return 0;
    }
    state->remade = state->remade || offset <= end;
    state->offsets[partition] = offset > end ? offset : end;
    return first && offset > state->next[partition] ? offset - state->next[partition] : 0;
}

enum err_code relay_state_forget(struct relay_state *state, struct err *err) {
    const enum err_code code = forget_place(state, err);

    return code != ERR_OK ? code
                          : err_set(err, ERR_CONFLICT,
                                    "the topic was made anew while it was "
                                    "written to: its records are gone");
}

void relay_state_advance(struct relay_state *state, uint64_t position) {
    if (state->next_lsn == 0 || position < state->next_lsn) {
        return;
    }
    state->published_below = state->next_below;
    state->next_lsn = 0;
    if (state->below_behind && state->next_proven_us > state->published_at_us) {
        state->below_behind = false; /* it covers the last record: one more time to write */
        state->dirty = true;
    }
}

enum err_code relay_state_save(struct relay_state *state, uint64_t confirmed, struct err *err) {
    const uint64_t before = state->confirmed;

    state->confirmed = confirmed;
    const enum err_code code = write_place(state, err);
    if (code != ERR_OK) {
        state->confirmed = before; /* the server is told what is written, nothing else */
    } else {
        state->dirty = false;
        state->saved_at_us = clock_monotonic_us();
    }
    return code;
}

void relay_state_release(struct relay_state *state) {
    const char *const values[] = {state->slot, state->identity};

    if (state->pg != NULL) {
        (void)run(state,
                  "UPDATE daybook.relay_state SET released = true, updated_at = now()"
                  " WHERE slot = $1 AND holder = $2",
                  values, 2, NULL, NULL);
    }
}

void relay_state_close(struct relay_state *state) {
    if (state->pg != NULL) {
        PQfinish(state->pg);
        state->pg = NULL;
    }
}
