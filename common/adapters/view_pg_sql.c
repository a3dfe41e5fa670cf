#include "common/adapters/view_pg_sql.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#include "common/adapters/pg_array.h"
#include "common/base/mem.h"

const char view_pg_sql_setup[] = "SET default_transaction_read_only = on; SET jit = off";

/* Past states: the entry itself, the first one (when the account was opened), the newest one (how
 * far the statement goes), and the account's row for what entries do not carry. */
#define PAST_COLUMNS                                                                           \
    "SELECT h.version, s.version, s.kind, s.currency, coalesce(a.owner, ''), s.balance_minor," \
    " o.recorded_at, s.recorded_at"                                                            \
    " FROM (SELECT max(version) AS version FROM daybook.statements WHERE account_id = $1) h"
#define PAST_JOINS                                                           \
    " LEFT JOIN daybook.statements o ON o.account_id = $1 AND o.version = 1" \
    " LEFT JOIN daybook.accounts a ON a.account_id = $1"

/* The largest version before a time; found by halving, since within an account times never fall as
 * versions rise. So the past needs no index that every entry would have to pay for. */
#define VERSION_BEFORE(time)                                                                     \
    "(WITH RECURSIVE s(lo, hi) AS (SELECT 0::bigint, (SELECT max(version)"                       \
    "  FROM daybook.statements WHERE account_id = $1) UNION ALL"                                 \
    " SELECT CASE WHEN e.version IS NULL OR e.recorded_at < " time                               \
    "   THEN (s.lo + s.hi + 1) / 2 ELSE s.lo END,"                                               \
    "  CASE WHEN e.version IS NULL OR e.recorded_at < " time " THEN s.hi ELSE e.version - 1 END" \
    " FROM s LEFT JOIN LATERAL (SELECT version, recorded_at FROM daybook.statements"             \
    "  WHERE account_id = $1 AND version > s.lo AND version <= (s.lo + s.hi + 1) / 2"            \
    "  ORDER BY version DESC LIMIT 1) e ON true WHERE s.lo < s.hi)"                              \
    " SELECT max(lo) FROM s)"

#define ACCOUNT_COLUMNS                                                                         \
    "SELECT account_id, version, status, currency, owner, balance_minor, opened_at, updated_at" \
    " FROM daybook.accounts WHERE ($1::text IS NULL OR status = $1)"                            \
    " AND ($2::text IS NULL OR currency = $2)"

const struct pg_statement view_pg_sql_statements[] = {
    {"account", "SELECT version, status, currency, owner, balance_minor, opened_at, updated_at"
                " FROM daybook.accounts WHERE account_id = $1"},
    {"account_at_version", PAST_COLUMNS
     " LEFT JOIN daybook.statements s ON s.account_id = $1 AND s.version = $2::bigint" PAST_JOINS},
    {"account_at_time", PAST_COLUMNS
     " LEFT JOIN LATERAL (SELECT * FROM daybook.statements WHERE account_id = $1"
     " AND version <= " VERSION_BEFORE("$2::timestamptz") " ORDER BY version DESC LIMIT 1) s"
                                                          " ON true" PAST_JOINS},
    {"statement",
     "SELECT h.version, s.version, s.kind, s.amount_minor, s.balance_minor, s.currency, s.event_id,"
     " s.recorded_at"
     " FROM (SELECT max(version) AS version FROM daybook.statements WHERE account_id = $1) h"
     " LEFT JOIN LATERAL (SELECT * FROM daybook.statements WHERE account_id = $1"
     " AND version < $2::bigint AND ($4::text IS NULL OR kind = $4)"
     " AND version > CASE WHEN $5::timestamptz IS NULL THEN 0 ELSE " VERSION_BEFORE(
         "$5") " END"
               " AND version <= CASE WHEN $6::timestamptz IS NULL THEN $2 ELSE " VERSION_BEFORE(
                   "$6") " END"
                         " ORDER BY version DESC LIMIT $3::bigint) s ON true"
                         " ORDER BY s.version DESC"},
    {"accounts", ACCOUNT_COLUMNS " AND account_id > $3 ORDER BY account_id LIMIT $4::bigint"},
    {"accounts_by_balance",
     ACCOUNT_COLUMNS " AND ($3 = '' OR balance_minor < $5::bigint OR (balance_minor = $5"
                     " AND account_id > $3)) ORDER BY balance_minor DESC, account_id"
                     " LIMIT $4::bigint"},
    {"activity",
     "SELECT c.at, a.day, a.currency, a.opened, a.closed, a.deposits, a.withdrawals, a.deposited,"
     " a.withdrawn"
     " FROM (SELECT max(updated_at) AS at FROM daybook.checkpoints WHERE projection = 'activity'"
     "  AND stage = 'live') c"
     " LEFT JOIN LATERAL (SELECT day::timestamp AT TIME ZONE 'UTC' AS day, currency,"
     "  sum(opened)::bigint AS opened, sum(closed)::bigint AS closed,"
     "  sum(deposits)::bigint AS deposits, sum(withdrawals)::bigint AS withdrawals,"
     "  sum(deposited_minor)::text AS deposited, sum(withdrawn_minor)::text AS withdrawn"
     "  FROM daybook.activity WHERE day >= ($1::timestamptz AT TIME ZONE 'UTC')::date"
     "  AND day < ($2::timestamptz AT TIME ZONE 'UTC')::date"
     "  GROUP BY daybook.activity.day, currency ORDER BY daybook.activity.day, currency"
     "  LIMIT $3::bigint) a ON true ORDER BY a.day, a.currency"},
    {"probe", "SELECT 1"},
};
const size_t view_pg_sql_statement_count = ARRAY_LEN(view_pg_sql_statements);

static struct pg_param text_param(struct str text) {
    return (struct pg_param){.ptr = text.len > 0 ? text.ptr : "", .len = text.len};
}

static struct pg_param i64_param(const uint64_t *big_endian) {
    return (struct pg_param){(const char *)big_endian, sizeof(*big_endian), true};
}

static bool is_null(const PGresult *rows, int row, int column) {
    return PQgetisnull(rows, row, column) != 0;
}

static enum err_code corrupt(struct err *err) {
    return err_set(err, ERR_CORRUPT, "a row of the read model makes no sense");
}

/* The columns version, status, currency, owner, balance_minor, opened_at, updated_at from `first`
 * on. */
static bool read_view(const PGresult *rows, int row, int first, struct account_view *out) {
    out->version = pg_get_i64(rows, row, first);
    out->status = account_view_status(pg_get_str(rows, row, first + 1));
    out->balance_minor = pg_get_i64(rows, row, first + 4);
    out->opened_at_us = pg_get_time_us(rows, row, first + 5);
    out->updated_at_us = pg_get_time_us(rows, row, first + 6);
    return out->version > 0 && out->status != ACCOUNT_NONE &&
           str_copy(out->currency, sizeof(out->currency), pg_get_str(rows, row, first + 2)) &&
           str_copy(out->owner, sizeof(out->owner), pg_get_str(rows, row, first + 3));
}

static enum err_code read_account(const PGresult *rows, struct row_result *out, struct err *err) {
    if (PQntuples(rows) == 0) {
        return ERR_NOT_FOUND;
    }
    if (!read_view(rows, 0, 0, &out->account)) {
        return corrupt(err);
    }
    out->head_version = out->account.version;
    return ERR_OK;
}

static enum err_code read_past(const PGresult *rows, struct row_result *out, struct err *err) {
    struct account_view *account = &out->account;

    if (PQntuples(rows) != 1) {
        return corrupt(err);
    }
    if (is_null(rows, 0, 0)) {
        return ERR_NOT_FOUND;
    }
    out->head_version = pg_get_i64(rows, 0, 0);
    if (is_null(rows, 0, 1)) {
        return ERR_OK; /* the account is known, but was not there then */
    }
    account->version = pg_get_i64(rows, 0, 1);
    account->status = str_eq(pg_get_str(rows, 0, 2), STR("closed")) ? ACCOUNT_CLOSED : ACCOUNT_OPEN;
    account->balance_minor = pg_get_i64(rows, 0, 5);
    account->updated_at_us = pg_get_time_us(rows, 0, 7);
    if (is_null(rows, 0, 6) ||
        !str_copy(account->currency, sizeof(account->currency), pg_get_str(rows, 0, 3)) ||
        !str_copy(account->owner, sizeof(account->owner), pg_get_str(rows, 0, 4))) {
        return corrupt(err);
    }
    account->opened_at_us = pg_get_time_us(rows, 0, 6);
    return ERR_OK;
}

static bool read_line(const PGresult *rows, int row, struct statement_line *out) {
    const struct str event_id = pg_get_str(rows, row, 6);

    out->version = pg_get_i64(rows, row, 1);
    out->amount_minor = pg_get_i64(rows, row, 3);
    out->balance_minor = pg_get_i64(rows, row, 4);
    out->recorded_at_us = pg_get_time_us(rows, row, 7);
    if (event_id.len != sizeof(out->event_id.bytes)) {
        return false;
    }
    memcpy(out->event_id.bytes, event_id.ptr, sizeof(out->event_id.bytes));
    return str_copy(out->kind, sizeof(out->kind), pg_get_str(rows, row, 2)) &&
           str_copy(out->currency, sizeof(out->currency), pg_get_str(rows, row, 5));
}

/* One row more than the limit was asked for, to know whether there is one. */
static size_t page_length(const PGresult *rows, const struct row_query *query,
                          struct row_result *out) {
    const size_t found = (size_t)PQntuples(rows);

    out->more = found > query->limit;
    return out->more ? query->limit : found;
}

static enum err_code read_statement(const PGresult *rows, const struct row_query *query,
                                    struct row_result *out, struct err *err) {
    if (PQntuples(rows) == 0 || is_null(rows, 0, 0)) {
        return ERR_NOT_FOUND;
    }
    out->head_version = pg_get_i64(rows, 0, 0);
    if (is_null(rows, 0, 1)) {
        return ERR_OK; /* nothing older than the cursor */
    }
    const size_t count = page_length(rows, query, out);
    struct statement_line *lines = mem_array(count, sizeof(*lines));
    out->lines = lines;
    out->count = count;
    for (size_t i = 0; i < count; i++) {
        if (!read_line(rows, (int)i, &lines[i])) {
            return corrupt(err);
        }
    }
    return ERR_OK;
}

static enum err_code read_accounts(const PGresult *rows, const struct row_query *query,
                                   struct row_result *out, struct err *err) {
    const size_t count = page_length(rows, query, out);

    if (count == 0) {
        return ERR_OK;
    }
    struct account_line *lines = mem_array(count, sizeof(*lines));
    out->accounts = lines;
    out->count = count;
    for (size_t i = 0; i < count; i++) {
        if (!str_copy(lines[i].id, sizeof(lines[i].id), pg_get_str(rows, (int)i, 0)) ||
            !read_view(rows, (int)i, 1, &lines[i].account)) {
            return corrupt(err);
        }
    }
    return ERR_OK;
}

static enum err_code read_activity(const PGresult *rows, const struct row_query *query,
                                   struct row_result *out, struct err *err) {
    if (PQntuples(rows) == 0) {
        return corrupt(err);
    }
    out->updated_at_us = is_null(rows, 0, 0) ? 0 : pg_get_time_us(rows, 0, 0);
    if (is_null(rows, 0, 1)) {
        return ERR_OK; /* nothing happened in these days */
    }
    const size_t count = page_length(rows, query, out);
    struct activity_line *lines = mem_array(count, sizeof(*lines));
    out->activity = lines;
    out->count = count;
    for (size_t i = 0; i < count; i++) {
        const int row = (int)i;
        lines[i].day_us = pg_get_time_us(rows, row, 1);
        lines[i].opened = pg_get_i64(rows, row, 3);
        lines[i].closed = pg_get_i64(rows, row, 4);
        lines[i].deposits = pg_get_i64(rows, row, 5);
        lines[i].withdrawals = pg_get_i64(rows, row, 6);
        if (!str_copy(lines[i].currency, sizeof(lines[i].currency), pg_get_str(rows, row, 2)) ||
            !str_copy(lines[i].deposited_minor, ACTIVITY_SUM_BYTES, pg_get_str(rows, row, 7)) ||
            !str_copy(lines[i].withdrawn_minor, ACTIVITY_SUM_BYTES, pg_get_str(rows, row, 8))) {
            return corrupt(err);
        }
    }
    return ERR_OK;
}

/* In binary, which for text means its bytes: slices have no NUL behind them. */
static struct pg_param text_or_null(struct str text) {
    return (struct pg_param){text.len > 0 ? text.ptr : NULL, text.len, true};
}

static struct pg_param time_or_null(uint64_t *storage, int64_t wall_us) {
    if (wall_us == INT64_MIN || wall_us == 0 || wall_us == INT64_MAX) {
        return (struct pg_param){0};
    }
    *storage = htobe64((uint64_t)(wall_us - PG_EPOCH_US));
    return i64_param(storage);
}

static enum err_code send_statement(struct pg_conn *connection, const struct row_query *query,
                                    PGresult **rows, struct err *err) {
    const int64_t before = query->before_version > 0 ? query->before_version : INT64_MAX;
    const uint64_t before_version = htobe64((uint64_t)before);
    const uint64_t limit = htobe64((uint64_t)query->limit + 1);
    uint64_t from = 0;
    uint64_t to = 0;
    const struct pg_param params[] = {
        text_param(query->id),
        i64_param(&before_version),
        i64_param(&limit),
        text_or_null(query->kind),
        time_or_null(&from, query->from_us),
        time_or_null(&to, query->to_us),
    };
    return pg_conn_run(connection, "statement", params, ARRAY_LEN(params), true, rows, err);
}

static enum err_code send_accounts(struct pg_conn *connection, const struct row_query *query,
                                   PGresult **rows, struct err *err) {
    const uint64_t limit = htobe64((uint64_t)query->limit + 1);
    const uint64_t balance = htobe64((uint64_t)query->balance_minor);
    const bool by_balance = query->read == ROW_READ_ACCOUNTS_BY_BALANCE;
    const struct pg_param params[] = {
        text_or_null(query->status), text_or_null(str_from(query->currency)),
        text_param(query->id),       i64_param(&limit),
        i64_param(&balance),
    };
    return pg_conn_run(connection, by_balance ? "accounts_by_balance" : "accounts", params,
                       by_balance ? 5 : 4, true, rows, err);
}

static enum err_code send_activity(struct pg_conn *connection, const struct row_query *query,
                                   PGresult **rows, struct err *err) {
    const uint64_t from = htobe64((uint64_t)(query->from_us - PG_EPOCH_US));
    const uint64_t to = htobe64((uint64_t)(query->to_us - PG_EPOCH_US));
    const uint64_t limit = htobe64((uint64_t)query->limit + 1);
    const struct pg_param params[] = {i64_param(&from), i64_param(&to), i64_param(&limit)};

    return pg_conn_run(connection, "activity", params, ARRAY_LEN(params), true, rows, err);
}

static enum err_code send(struct pg_conn *connection, const struct row_query *query,
                          PGresult **rows, struct err *err) {
    const uint64_t version = htobe64((uint64_t)query->version);
    /* Up to that moment: before the next one. */
    const uint64_t at = htobe64((uint64_t)(query->at_us + 1 - PG_EPOCH_US));
    const struct pg_param id = text_param(query->id);

    switch (query->read) {
    case ROW_READ_ACCOUNT:
        return pg_conn_run(connection, "account", &id, 1, true, rows, err);
    case ROW_READ_ACCOUNT_AT_VERSION:
        return pg_conn_run(connection, "account_at_version",
                           (struct pg_param[]){id, i64_param(&version)}, 2, true, rows, err);
    case ROW_READ_ACCOUNT_AT_TIME:
        return pg_conn_run(connection, "account_at_time", (struct pg_param[]){id, i64_param(&at)},
                           2, true, rows, err);
    case ROW_READ_STATEMENT:
        return send_statement(connection, query, rows, err);
    case ROW_READ_ACCOUNTS:
    case ROW_READ_ACCOUNTS_BY_BALANCE:
        return send_accounts(connection, query, rows, err);
    case ROW_READ_ACTIVITY:
        return send_activity(connection, query, rows, err);
    default:
        assert(false);
        return ERR_INTERNAL;
    }
}

static enum err_code receive(const PGresult *rows, const struct row_query *query,
                             struct row_result *out, struct err *err) {
    switch (query->read) {
    case ROW_READ_ACCOUNT:
        return read_account(rows, out, err);
    case ROW_READ_ACCOUNT_AT_VERSION:
    case ROW_READ_ACCOUNT_AT_TIME:
        return read_past(rows, out, err);
    case ROW_READ_STATEMENT:
        return read_statement(rows, query, out, err);
    case ROW_READ_ACCOUNTS:
    case ROW_READ_ACCOUNTS_BY_BALANCE:
        return read_accounts(rows, query, out, err);
    case ROW_READ_ACTIVITY:
        return read_activity(rows, query, out, err);
    default:
        assert(false);
        return ERR_INTERNAL;
    }
}

enum err_code view_pg_sql_run(struct pg_conn *connection, const struct row_query *query,
                              struct row_result *out, struct err *err) {
    PGresult *rows = NULL;
    enum err_code code = send(connection, query, &rows, err);

    if (code == ERR_OK) {
        row_result_release(out);
        code = receive(rows, query, out, err);
        PQclear(rows);
    }
    return code;
}
