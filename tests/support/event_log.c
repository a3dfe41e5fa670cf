#include "event_log.h"

#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "environment.h"

static PGconn *kept;

static PGconn *connection(void) {
    const double deadline = now_seconds() + 30;
    const struct timespec pause = {.tv_nsec = 50000000};

    while (kept == NULL || PQstatus(kept) != CONNECTION_OK) {
        PQfinish(kept);
        kept = PQconnectdb(stack_environment("DAYBOOK_TEST_SUPERUSER_URL"));
        if (PQstatus(kept) != CONNECTION_OK) {
            cr_assert_lt(now_seconds(), deadline, "%s", PQerrorMessage(kept));
            (void)nanosleep(&pause, NULL);
        }
    }
    return kept;
}

static PGresult *run(const char *sql, const char *a, const char *b) {
    const char *const values[] = {a, b};
    const int count = (a != NULL) + (b != NULL);
    PGresult *result = PQexecParams(connection(), sql, count, NULL, values, NULL, NULL, 0);

    if (PQstatus(kept) != CONNECTION_OK) {
        PQclear(result);
        result = PQexecParams(connection(), sql, count, NULL, values, NULL, NULL, 0);
    }
    const ExecStatusType status = PQresultStatus(result);
    cr_assert(status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK, "%s: %s", sql,
              PQerrorMessage(kept));
    return result;
}

const char *log_text(const char *sql, const char *a, const char *b) {
    static char texts[8][1024];
    static unsigned turn;
    char *text = texts[turn++ % 8];
    PGresult *result = run(sql, a, b);

    (void)snprintf(text, sizeof(texts[0]), "%s",
                   PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return text;
}

long long log_number(const char *sql, const char *a, const char *b) {
    return strtoll(log_text(sql, a, b), NULL, 10);
}

long long log_expect_sound(const char *prefix) {
    const char *wrong = log_text(
        "SELECT string_agg(stream_id || ' ' || version, ', ') FROM ("
        " SELECT *, row_number() OVER w AS expected, lag(recorded_at) OVER w AS before,"
        "  (payload->>'balance_minor')::bigint AS balance, sum(CASE event_type"
        "   WHEN 'MoneyDeposited' THEN (payload->>'amount_minor')::bigint"
        "   WHEN 'MoneyWithdrawn' THEN -(payload->>'amount_minor')::bigint ELSE 0 END) OVER w"
        "   AS folded"
        " FROM daybook.events WHERE starts_with(stream_id, $1)"
        " WINDOW w AS (PARTITION BY stream_id, aggregate_type ORDER BY version)) e"
        " WHERE version <> expected OR recorded_at < before OR balance <> folded OR folded < 0"
        "  OR (version = 1) <> (event_type = 'AccountCreated')"
        "  OR substr(event_id::text, 15, 1) <> '7'",
        prefix, NULL);

    cr_assert_str_eq(wrong, "", "wrong in the log: %s", wrong);
    return log_number("SELECT count(*) FROM daybook.events WHERE starts_with(stream_id, $1)",
                      prefix, NULL);
}

struct log_hold {
    PGconn *pg;
};

static void must(PGconn *pg, const char *sql) {
    PGresult *result = PQexec(pg, sql);

    cr_assert_eq(PQresultStatus(result), PGRES_COMMAND_OK, "%s: %s", sql, PQerrorMessage(pg));
    PQclear(result);
}

static void must_with(PGconn *pg, const char *sql, const char *a, const char *b) {
    const char *const values[] = {a, b};
    PGresult *result = PQexecParams(pg, sql, 2, NULL, values, NULL, NULL, 0);

    cr_assert_eq(PQresultStatus(result), PGRES_COMMAND_OK, "%s: %s", sql, PQerrorMessage(pg));
    PQclear(result);
}

/* Rows that are neither there nor not there until the transaction ends: who wants to insert the
 * same unique values waits for that. */
struct log_hold *log_hold(const char *stream, long long version, const char *key) {
    struct log_hold *hold = calloc(1, sizeof(*hold));
    char number[32];

    cr_assert_not_null(hold);
    (void)snprintf(number, sizeof(number), "%lld", version);
    hold->pg = PQconnectdb(stack_environment("DAYBOOK_TEST_SUPERUSER_URL"));
    cr_assert_eq(PQstatus(hold->pg), CONNECTION_OK, "%s", PQerrorMessage(hold->pg));
    must(hold->pg, "BEGIN");
    must_with(hold->pg,
              "INSERT INTO daybook.events (event_id, aggregate_type, stream_id, version,"
              " event_type, schema_version, payload, recorded_at) VALUES"
              " (gen_random_uuid(), 'account', $1, $2, 'Held', 1, '{}', now())",
              stream, number);
    if (key != NULL) {
        must_with(hold->pg,
                  "INSERT INTO daybook.command_outcomes (stream_id, aggregate_type,"
                  " idempotency_key, request_hash, status, version, body, recorded_at) VALUES"
                  " ($1, 'account', $2, 0, 200, 0, '', now())",
                  stream, key);
    }
    return hold;
}

void log_release(struct log_hold *hold) {
    must(hold->pg, "ROLLBACK");
    PQfinish(hold->pg);
    free(hold);
}

struct waiting {
    const char *application_name;
    int count;
};

static bool are_waiting(void *arg) {
    const struct waiting *waiting = arg;

    return log_number("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
                      " AND wait_event_type = 'Lock'",
                      waiting->application_name, NULL) == waiting->count;
}

void log_expect_waiting(const char *application_name, int count) {
    struct waiting waiting = {application_name, count};

    cr_assert(eventually(are_waiting, &waiting, 10000), "not %d of %s wait", count,
              application_name);
}

void log_execute(const char *sql) {
    PQclear(run(sql, NULL, NULL));
}

void log_write_elsewhere(const char *stream, long long version, long long balance_minor,
                         const char *recorded_at) {
    char sql[1024];

    (void)snprintf(sql, sizeof(sql),
                   "INSERT INTO daybook.events (event_id, aggregate_type, stream_id, version,"
                   " event_type, schema_version, payload, command, recorded_at)"
                   " SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') ||"
                   "  '7' || substr(dice, 1, 3) || '8' || substr(dice, 4, 15))::uuid, 'account',"
                   "  $1, %lld, 'MoneyDeposited', 1, '{\"amount_minor\":100,\"balance_minor\":%lld,"
                   "\"currency\":\"USD\"}', 'Deposit', at"
                   " FROM (SELECT %s AS at, md5(random()::text) AS dice) e",
                   version, balance_minor, recorded_at);
    PQclear(run(sql, stream, NULL));
}
