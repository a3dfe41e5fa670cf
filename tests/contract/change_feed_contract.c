/* The change feed's contract, in memory and on PostgreSQL (a slot of its own each time, dropped at
 * the end). */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "../support/environment.h"
#include "common/adapters/change_feed_mem.h"
#include "common/adapters/change_feed_pg.h"
#include "common/adapters/event_store_pg.h"
#include "common/base/clock.h"

enum { IDS = 2, PARTITIONS = 6 };

static struct {
    bool memory;
    struct change_feed *feed;
    struct metrics *metrics;
    char slot[64];
    char ids[IDS][96];
    int64_t version;
} fixture;

static void begin(bool memory) {
    fixture.memory = memory;
    fixture.metrics = metrics_new();
    for (int i = 0; i < IDS; i++) {
        (void)snprintf(fixture.ids[i], sizeof(fixture.ids[i]), "%s", fresh_id("feed"));
    }
    if (memory) {
        fixture.feed = change_feed_mem_new();
        return;
    }
    (void)snprintf(fixture.slot, sizeof(fixture.slot), "contract_%lld",
                   (long long)(clock_wall_us() % 1000000000));
    fixture.feed = change_feed_pg_new(&(struct change_feed_pg_options){
        .url = stack_environment("DAYBOOK_TEST_RELAY_URL"),
        .slot = fixture.slot,
        .publication = "daybook_events",
        .connect_timeout_ms = 5000,
        .metrics = fixture.metrics,
    });
}

static void end(void) {
    fixture.feed->ops->free(fixture.feed);
    metrics_free(fixture.metrics);
    if (!fixture.memory) {
        char sql[320];
        PGconn *pg = PQconnectdb(stack_environment("DAYBOOK_TEST_SUPERUSER_URL"));
        (void)snprintf(sql, sizeof(sql),
                       "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                       "WHERE slot_name = '%s' AND NOT active",
                       fixture.slot);
        PQclear(PQexec(pg, sql));
        PQfinish(pg);
    }
}

/* One transaction with an event for each id. */
static void commit(void) {
    const char *ids[IDS] = {fixture.ids[0], fixture.ids[1]};

    fixture.version++;
    if (fixture.memory) {
        change_feed_mem_add(fixture.feed, ids, IDS);
        return;
    }
    struct event_store *store = event_store_pg_new(&(struct event_store_pg_options){
        .url = stack_environment("DAYBOOK_TEST_COMMAND_URL"),
        .connect_timeout_ms = 5000,
        .statement_timeout_ms = 5000,
    });
    struct recorded_event events[IDS];
    struct uuid_source uuids;
    struct err err = {0};
    uuid_source_init(&uuids);
    for (int i = 0; i < IDS; i++) {
        /* A story that projectors understand: the stack under test posts it too. */
        events[i] = (struct recorded_event){
            .event_id = uuid_next(&uuids, clock_wall_us()),
            .aggregate_type = STR("account"),
            .stream_id = str_from(ids[i]),
            .version = fixture.version,
            .event_type = fixture.version == 1 ? STR("AccountCreated") : STR("AccountClosed"),
            .schema_version = 1,
            .payload = fixture.version == 1 ? STR("{\"currency\":\"USD\"}")
                                            : STR("{\"balance_minor\":0,\"currency\":\"USD\"}"),
            .recorded_at_us = clock_wall_us(),
        };
    }
    const struct append_batch batch = {events, IDS, NULL, 0};
    cr_assert_eq(event_store_append(store, &batch, &err), ERR_OK, "%s", err.message);
    store->ops->free(store);
}

struct transaction {
    int64_t versions[IDS];
    uint32_t seqs[IDS];
    uint64_t lsn;
    uint64_t position;
    size_t count;
};

/* The next transaction that holds events of ours. */
static struct transaction next_ours(void) {
    const double deadline = now_seconds() + 30;
    struct transaction t = {.count = 0};
    struct feed_item item;
    struct err err = {0};

    for (;;) {
        cr_assert_lt(now_seconds(), deadline, "nothing came");
        cr_assert_eq(fixture.feed->ops->next(fixture.feed, &item, &err), ERR_OK, "%s", err.message);
        if (item.kind == FEED_CHANGE) {
            for (size_t i = 0; i < IDS; i++) {
                if (str_eq(item.change.event.stream_id, str_from(fixture.ids[i]))) {
                    cr_assert_eq(i, t.count, "in the order of insertion");
                    t.versions[t.count] = item.change.event.version;
                    t.seqs[t.count++] = item.change.seq;
                    t.lsn = item.change.commit_lsn;
                }
            }
        } else if (item.kind == FEED_COMMIT) {
            if (t.count > 0) {
                t.position = item.position;
                return t;
            }
            /* Somebody else's, or the end of catching up: confirmed, so that the feed goes on. */
            cr_assert_eq(fixture.feed->ops->confirm(fixture.feed, item.position, &err), ERR_OK);
        }
    }
}

static void open_feed(void) {
    struct err err = {0};

    static const struct publish_mark tails[PARTITIONS];

    cr_assert_eq(fixture.feed->ops->open(fixture.feed, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(fixture.feed->ops->begin(fixture.feed, tails, PARTITIONS, &err), ERR_OK, "%s",
                 err.message);
}

static void confirm(uint64_t position) {
    struct err err = {0};

    cr_assert_eq(fixture.feed->ops->confirm(fixture.feed, position, &err), ERR_OK, "%s",
                 err.message);
}

static void check_order_and_confirmation(void) {
    commit();
    open_feed();
    const struct transaction first = next_ours();
    cr_assert_eq(first.count, IDS);
    cr_assert_lt(first.seqs[0], first.seqs[1]);
    confirm(first.position);
    commit();
    const struct transaction second = next_ours();
    cr_assert_gt(second.lsn, first.lsn, "positions ascend");
    /* Not confirmed: it comes again. The first does not. */
    fixture.feed->ops->close(fixture.feed);
    open_feed();
    const struct transaction again = next_ours();
    cr_assert_eq(again.lsn, second.lsn);
    cr_assert_eq(memcmp(again.seqs, second.seqs, sizeof(again.seqs)), 0);
    confirm(again.position);
    end();
}

TestSuite(change_feed_contract, .timeout = 60);

Test(change_feed_contract, keeps_the_order_and_forgets_only_what_was_confirmed_memory) {
    begin(true);
    check_order_and_confirmation();
}

Test(change_feed_contract, keeps_the_order_and_forgets_only_what_was_confirmed_postgresql) {
    begin(false);
    check_order_and_confirmation();
}

static const char *count_slots(void) {
    static char count[8];
    char sql[320];
    PGconn *pg = PQconnectdb(stack_environment("DAYBOOK_TEST_SUPERUSER_URL"));

    (void)snprintf(sql, sizeof(sql),
                   "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE '%s%%'",
                   fixture.slot);
    PGresult *result = PQexec(pg, sql);
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(pg));
    (void)snprintf(count, sizeof(count), "%.7s", PQgetvalue(result, 0, 0));
    PQclear(result);
    PQfinish(pg);
    return count;
}

Test(change_feed_contract, catching_up_leaves_no_slot_that_holds_the_wal_postgresql) {
    begin(false);
    commit();
    open_feed();
    confirm(next_ours().position);
    cr_assert_str_eq(count_slots(), "1");
    end();
}

Test(change_feed_contract, a_second_holder_stands_by_postgresql) {
    struct err err = {0};

    begin(false);
    commit();
    open_feed();
    confirm(next_ours().position); /* streaming now */
    struct change_feed *second = change_feed_pg_new(&(struct change_feed_pg_options){
        .url = stack_environment("DAYBOOK_TEST_RELAY_URL"),
        .slot = fixture.slot,
        .publication = "daybook_events",
        .connect_timeout_ms = 5000,
        .metrics = fixture.metrics,
    });
    cr_assert_eq(second->ops->open(second, &err), ERR_FENCED, "%s", err.message);
    second->ops->free(second);
    end();
}
