#include "feed_fixture.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../support/environment.h"
#include "common/adapters/change_feed_pg.h"
#include "common/base/clock.h"

enum { SQL_BYTES = 2048 };

struct metrics *metrics;
struct change_feed *feed;
PGconn *admin;
char slot[64];
char stream[96];
char other_stream[96];

void sql(PGconn *pg, const char *format, ...) {
    char text[SQL_BYTES];
    va_list args;

    va_start(args, format);
    const int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    cr_assert_lt(len, SQL_BYTES);
    PGresult *result = PQexec(pg, text);
    const ExecStatusType status = PQresultStatus(result);
    cr_assert(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK, "%s: %s", text,
              PQerrorMessage(pg));
    PQclear(result);
}

PGconn *connect_as(const char *url_variable) {
    PGconn *pg = PQconnectdb(stack_environment(url_variable));

    cr_assert_eq(PQstatus(pg), CONNECTION_OK, "%s", PQerrorMessage(pg));
    return pg;
}

struct change_feed *make_feed(const char *slot_name, const char *publication) {
    return change_feed_pg_new(&(struct change_feed_pg_options){
        .url = stack_environment("DAYBOOK_TEST_RELAY_URL"),
        .slot = slot_name,
        .publication = publication,
        .connect_timeout_ms = 5000,
        .metrics = metrics,
    });
}

/* As if an earlier relay had left the slot where it stands: it is trusted. */
static void note_slot(void) {
    sql(admin,
        "INSERT INTO daybook.relay_state (slot, system, holder, released, confirmed)"
        " SELECT slot_name, system_identifier, 'nobody', true, confirmed_flush_lsn"
        " FROM pg_control_system(), pg_replication_slots WHERE slot_name = '%s'",
        slot);
}

/* Makes the slot here, so that no test begins with catching up on what others have written. */
void feed_set_up(void) {
    (void)snprintf(slot, sizeof(slot), "feed_%lld", (long long)(clock_wall_us() % 1000000000));
    (void)snprintf(stream, sizeof(stream), "%s", fresh_id("feed"));
    (void)snprintf(other_stream, sizeof(other_stream), "%s", fresh_id("other"));
    metrics = metrics_new();
    admin = connect_as("DAYBOOK_TEST_SUPERUSER_URL");
    sql(admin, "SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", slot);
    note_slot();
    feed = make_feed(slot, "daybook_events");
}

void feed_tear_down(void) {
    feed->ops->free(feed);
    sql(admin,
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
        " WHERE slot_name LIKE '%s%%' AND active",
        slot);
    sql(admin,
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
        " WHERE slot_name LIKE '%s%%'",
        slot);
    sql(admin, "DELETE FROM daybook.relay_state WHERE slot LIKE '%s%%'", slot);
    PQfinish(admin);
    metrics_free(metrics);
}

/* --- steps --- */

/* Inserts versions first … last of the test's stream: a story that projectors understand, since the
 * stack under test posts it too. `extra`: an SQL expression for a member more in version 1. */
void insert_into(PGconn *pg, const char *id, int first, int last, const char *extra) {
    sql(pg,
        "INSERT INTO daybook.events (event_id, aggregate_type, stream_id, version, event_type,"
        " schema_version, payload, recorded_at) SELECT gen_random_uuid(), 'account', '%s', v,"
        " CASE v WHEN 1 THEN 'AccountCreated' ELSE 'MoneyDeposited' END, 1,"
        " CASE v WHEN 1 THEN json_build_object('currency', 'USD', 'extra', %s) ELSE"
        " json_build_object('amount_minor', 1, 'balance_minor', v - 1, 'currency', 'USD') END,"
        " now() FROM generate_series(%d, %d) v",
        id, extra, first, last);
}

void insert(PGconn *pg, int first, int last, const char *extra) {
    insert_into(pg, stream, first, last, extra);
}

void open_feed(void) {
    static const struct publish_mark tails[PARTITIONS];
    struct err err = {0};

    cr_assert_eq(feed->ops->open(feed, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(feed->ops->begin(feed, tails, PARTITIONS, &err), ERR_OK, "%s", err.message);
}

/* The server needs a moment to see that the holder has gone. */
void let_go(void) {
    feed->ops->close(feed);
    sql(admin,
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
        " WHERE slot_name = '%s' AND active",
        slot);
}

static void note_change(struct seen *seen, const struct change *change) {
    const bool of_other = str_eq(change->event.stream_id, str_from(other_stream));

    if (!of_other && !str_eq(change->event.stream_id, str_from(stream))) {
        return; /* the stack under test is alive */
    }
    cr_assert_lt(seen->count, EVENTS_MAX);
    seen->of_other[seen->count] = of_other;
    seen->versions[seen->count] = change->event.version;
    seen->lsns[seen->count] = change->commit_lsn;
    seen->seqs[seen->count] = change->seq;
    seen->payload_len = change->event.payload.len;
    seen->count++;
}

/* Reads until `count` changes of ours and their commit have come. */
void read_changes(struct seen *seen, size_t count) {
    const double deadline = now_seconds() + 30;
    struct feed_item item;
    struct err err = {0};
    size_t noted = seen->count;

    while (seen->count < count || noted < count) {
        cr_assert_eq(feed->ops->next(feed, &item, &err), ERR_OK, "%s", err.message);
        cr_assert_lt(now_seconds(), deadline, "%zu of %zu", seen->count, count);
        if (item.kind == FEED_CHANGE) {
            note_change(seen, &item.change);
        } else if (item.kind == FEED_COMMIT) {
            seen->position = item.position;
            seen->commits += seen->count > noted ? 1 : 0;
            noted = seen->count;
        } else if (item.kind == FEED_PROGRESS) {
            seen->progress = item.position;
        }
    }
}

void expect_versions(const struct seen *seen, size_t count) {
    cr_assert_eq(seen->count, count);
    for (size_t i = 0; i < count; i++) {
        cr_assert_eq(seen->versions[i], (int64_t)i + 1, "at %zu: %d", i, (int)seen->versions[i]);
    }
}
