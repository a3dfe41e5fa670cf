#include "common/adapters/relay_status_pg.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/adapters/replication_pg.h"
#include "common/base/clock.h"
#include "common/base/hash.h"

enum { WAIT_MS = 60000, NUMBER_BYTES = 24 };

static void copy(char *out, size_t size, const PGresult *result, int column) {
    (void)snprintf(out, size, "%s", PQgetvalue(result, 0, column));
}

static enum err_code read_slot(PGconn *pg, const char *slot, struct relay_status *status,
                               struct err *err) {
    const char *const values[] = {slot};
    PGresult *result = NULL;
    enum err_code code = replication_run_params(
        pg,
        "SELECT s.active, coalesce(s.wal_status, ''), coalesce(s.restart_lsn::text, '-'),"
        " coalesce(s.confirmed_flush_lsn::text, '-'), pg_current_wal_lsn(),"
        " coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.confirmed_flush_lsn), 0)::bigint,"
        " coalesce(format('pid %s at %s', a.pid, coalesce(a.client_addr::text, 'local')), '')"
        " FROM pg_replication_slots s LEFT JOIN pg_stat_replication a ON a.pid = s.active_pid"
        " WHERE s.slot_name = $1",
        values, 1, "slot", WAIT_MS, &result, err);

    if (code != ERR_OK) {
        return code;
    }
    status->slot_found = PQntuples(result) == 1;
    if (status->slot_found) {
        status->active = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
        copy(status->wal_status, sizeof(status->wal_status), result, 1);
        copy(status->restart_lsn, sizeof(status->restart_lsn), result, 2);
        copy(status->confirmed_lsn, sizeof(status->confirmed_lsn), result, 3);
        copy(status->current_lsn, sizeof(status->current_lsn), result, 4);
        status->lag_bytes = strtoll(PQgetvalue(result, 0, 5), NULL, 10);
        copy(status->holder, sizeof(status->holder), result, 6);
    }
    PQclear(result);
    return ERR_OK;
}

static enum err_code read_row(PGconn *pg, const char *slot, struct relay_status *status,
                              struct err *err) {
    const char *const values[] = {slot};
    PGresult *result = NULL;
    enum err_code code = replication_run_params(
        pg, "SELECT incarnation, published_below FROM daybook.relay_state WHERE slot = $1", values,
        1, "relay state", WAIT_MS, &result, err);

    if (code == ERR_OK && PQntuples(result) == 1) {
        status->incarnation = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
        status->published_below = strtoull(PQgetvalue(result, 0, 1), NULL, 10);
    }
    PQclear(result);
    return code;
}

static enum err_code read_tail_event(PGconn *pg, struct relay_partition_status *partition,
                                     struct err *err) {
    char id[UUID_TEXT_BYTES];
    const char *const values[] = {id};
    PGresult *result = NULL;

    uuid_format(id, &partition->tail.event_id);
    enum err_code code = replication_run_params(
        pg, "SELECT stream_id, version, position FROM daybook.events WHERE event_id = $1", values,
        1, "events table", WAIT_MS, &result, err);
    if (code == ERR_OK && PQntuples(result) == 1) {
        partition->known = true;
        copy(partition->stream_id, sizeof(partition->stream_id), result, 0);
        partition->version = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
        partition->position = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
    }
    PQclear(result);
    return code;
}

/* Events behind the tails, oldest first; the first one's age is the lag. */
static void count_behind(const PGresult *result, struct relay_status *status) {
    int64_t oldest_us = 0;

    for (int i = 0; i < PQntuples(result); i++) {
        const struct str stream =
            str_of(PQgetvalue(result, i, 0), (size_t)PQgetlength(result, i, 0));
        const int64_t position = strtoll(PQgetvalue(result, i, 1), NULL, 10);
        const int64_t recorded_us = strtoll(PQgetvalue(result, i, 2), NULL, 10);
        struct relay_partition_status *partition =
            &status->of[hash_kafka_partition(stream, status->partitions)];
        if (partition->tail.present && partition->known && position <= partition->position) {
            continue;
        }
        partition->behind++;
        status->lag_events++;
        oldest_us = oldest_us == 0 || recorded_us < oldest_us ? recorded_us : oldest_us;
    }
    status->lag_us = oldest_us > 0 ? clock_wall_us() - oldest_us : 0;
}

static enum err_code read_lag(PGconn *pg, struct relay_status *status, struct err *err) {
    char least[NUMBER_BYTES];
    char below[NUMBER_BYTES];
    const char *const values[] = {least, below};
    PGresult *result = NULL;
    int64_t from = INT64_MAX;

    for (int32_t p = 0; p < status->partitions; p++) {
        const struct relay_partition_status *partition = &status->of[p];
        /* A partition that was never written to says nothing of where others stand. */
        if (partition->tail.present && partition->position < from) {
            from = partition->position;
        }
    }
    (void)snprintf(least, sizeof(least), "%" PRId64, from == INT64_MAX ? 0 : from);
    (void)snprintf(below, sizeof(below), "%" PRIu64, status->published_below);
    enum err_code code = replication_run_params(
        pg,
        "SELECT stream_id, position, (extract(epoch FROM recorded_at) * 1000000)::bigint"
        " FROM daybook.events WHERE position > $1::bigint AND transaction_id >= $2::xid8",
        values, 2, "events table", WAIT_MS, &result, err);
    if (code == ERR_OK) {
        count_behind(result, status);
    }
    PQclear(result);
    return code;
}

enum err_code relay_status_pg_read(const char *url, int64_t timeout_ms, const char *slot,
                                   struct relay_status *status, struct err *err) {
    PGconn *pg = NULL;
    enum err_code code = replication_connect(url, false, timeout_ms, &pg, err);

    if (code != ERR_OK) {
        return code;
    }
    code = read_slot(pg, slot, status, err);
    if (code == ERR_OK) {
        code = read_row(pg, slot, status, err);
    }
    for (int32_t p = 0; code == ERR_OK && p < status->partitions; p++) {
        if (status->of[p].tail.present) {
            code = read_tail_event(pg, &status->of[p], err);
        }
    }
    if (code == ERR_OK) {
        code = read_lag(pg, status, err);
    }
    PQfinish(pg);
    return code;
}
