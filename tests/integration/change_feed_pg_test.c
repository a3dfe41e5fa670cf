/* What the change feed's contract leaves to the adapter: slot and publication, and what a log holds
 * besides one event a transaction. Each test has a slot of its own, dropped at the end. */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/environment.h"
#include "feed_fixture.h"

TestSuite(change_feed_pg, .init = feed_set_up, .fini = feed_tear_down, .timeout = 60);

/* --- the log --- */

Test(change_feed_pg, a_large_transaction_comes_whole_and_in_order) {
    static struct seen seen;

    open_feed();
    insert(admin, 1, EVENTS_MAX, "1");
    read_changes(&seen, EVENTS_MAX);
    expect_versions(&seen, EVENTS_MAX);
    cr_assert_eq(seen.commits, 1);
    for (size_t i = 1; i < EVENTS_MAX; i++) {
        cr_assert_eq(seen.lsns[i], seen.lsns[0]);
        cr_assert_eq(seen.seqs[i], seen.seqs[i - 1] + 1);
    }
}

/* A sequence's numbers come in the order of writing, the feed in that of commit. */
Test(change_feed_pg, interleaved_transactions_come_in_the_order_of_commit) {
    static struct seen seen;
    PGconn *other = connect_as("DAYBOOK_TEST_SUPERUSER_URL");

    open_feed();
    sql(admin, "BEGIN");
    insert(admin, 1, 1, "1");
    sql(other, "BEGIN");
    insert_into(other, other_stream, 1, 1, "1");
    insert(admin, 2, 2, "1");
    insert_into(other, other_stream, 2, 2, "1");
    sql(other, "COMMIT");
    sql(admin, "COMMIT");
    read_changes(&seen, 4);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(seen.versions[i], (int64_t)(i % 2) + 1);
        cr_assert_eq(seen.of_other[i], i < 2, "in the order of commit");
    }
    cr_assert_eq(seen.commits, 2);
    cr_assert_lt(seen.lsns[1], seen.lsns[2]);
    PQfinish(other);
}

Test(change_feed_pg, what_was_rolled_back_does_not_come) {
    static struct seen seen;

    open_feed();
    sql(admin, "BEGIN");
    insert(admin, 90, 99, "1");
    sql(admin, "ROLLBACK");
    sql(admin, "BEGIN");
    insert(admin, 1, 1, "1");
    sql(admin, "SAVEPOINT s");
    insert(admin, 80, 81, "1");
    sql(admin, "ROLLBACK TO s");
    insert(admin, 2, 2, "1");
    sql(admin, "COMMIT");
    read_changes(&seen, 2);
    expect_versions(&seen, 2);
}

Test(change_feed_pg, a_toasted_payload_comes_whole) {
    static struct seen seen;

    open_feed();
    /* Random hex does not compress: the value moves out of line. */
    insert(admin, 1, 1, "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 20000) n)");
    read_changes(&seen, 1);
    cr_assert_gt(seen.payload_len, 640000);
}

Test(change_feed_pg, what_was_not_confirmed_comes_again_with_the_same_marks) {
    static struct seen first;
    static struct seen again;

    open_feed();
    insert(admin, 1, 5, "1");
    read_changes(&first, 5);
    let_go();
    open_feed();
    read_changes(&again, 5);
    cr_assert_eq(memcmp(first.lsns, again.lsns, sizeof(first.lsns)), 0);
    cr_assert_eq(memcmp(first.seqs, again.seqs, sizeof(first.seqs)), 0);
}

static uint64_t confirmed_in_slot(void) {
    char text[256];

    (void)snprintf(text, sizeof(text),
                   "SELECT (confirmed_flush_lsn - '0/0')::text FROM pg_replication_slots"
                   " WHERE slot_name = '%s'",
                   slot);
    PGresult *result = PQexec(admin, text);
    cr_assert_eq(PQntuples(result), 1, "%s", PQerrorMessage(admin));
    uint64_t position = 0;
    cr_assert(str_to_u64(str_from(PQgetvalue(result, 0, 0)), &position));
    PQclear(result);
    return position;
}

/* The slot of an idle log must not keep what other tables and databases write. */
Test(change_feed_pg, an_idle_slot_advances_over_foreign_log) {
    const double deadline = now_seconds() + 20;
    struct feed_item item;
    struct err err = {0};

    open_feed();
    const uint64_t before = confirmed_in_slot();
    sql(admin, "CREATE TABLE public.%s AS SELECT md5(n::text) FROM generate_series(1, 20000) n",
        slot);
    sql(admin, "DROP TABLE public.%s", slot);
    while (confirmed_in_slot() < before + 1000000) {
        cr_assert_lt(now_seconds(), deadline, "the slot stays at its position");
        cr_assert_eq(feed->ops->next(feed, &item, &err), ERR_OK, "%s", err.message);
        const uint64_t position = item.kind == FEED_PROGRESS ? item.position : 0;
        cr_assert_eq(feed->ops->confirm(feed, position, &err), ERR_OK, "%s", err.message);
    }
    let_go();
    open_feed(); /* its own hand is not taken for another's */
}

/* --- slot and publication --- */

Test(change_feed_pg, only_one_holds_the_slot) {
    struct change_feed *second = make_feed(slot, "daybook_events");
    struct err err = {0};

    open_feed();
    cr_assert_eq(second->ops->open(second, &err), ERR_FENCED, "%s", err.message);
    feed->ops->close(feed);
    const double deadline = now_seconds() + 10;
    while (second->ops->open(second, &err) == ERR_FENCED) {
        cr_assert_lt(now_seconds(), deadline, "the slot is not given up");
    }
    second->ops->free(second);
}

Test(change_feed_pg, a_missing_publication_is_named) {
    struct change_feed *other = make_feed(slot, "no_such_'publication");
    struct err err = {0};

    cr_assert_eq(other->ops->open(other, &err), ERR_INVALID);
    cr_assert_not_null(strstr(err.message, "no_such_'publication is missing"), "%s", err.message);
    other->ops->free(other);
}

Test(change_feed_pg, a_slot_of_another_plug_in_is_refused) {
    char name[80];
    struct err err = {0};

    (void)snprintf(name, sizeof(name), "%s_other", slot);
    sql(admin, "SELECT pg_create_logical_replication_slot('%s', 'test_decoding')", name);
    struct change_feed *other = make_feed(name, "daybook_events");
    cr_assert_eq(other->ops->open(other, &err), ERR_INVALID);
    cr_assert_not_null(strstr(err.message, name), "%s", err.message);
    other->ops->free(other);
}

/* The events that were there before the slot, once, then what follows, in one order. */
Test(change_feed_pg, a_missing_slot_is_caught_up_from_the_table) {
    static struct seen seen;
    struct err err = {0};

    sql(admin, "SELECT pg_drop_replication_slot('%s')", slot);
    insert(admin, 1, 500, "1");
    open_feed();
    insert(admin, 501, 600, "1"); /* behind the snapshot, before the slot is there */
    read_changes(&seen, 500);
    cr_assert_eq(feed->ops->confirm(feed, seen.position, &err), ERR_OK, "%s", err.message);
    insert(admin, 601, 700, "1");
    read_changes(&seen, 700);
    expect_versions(&seen, 700);
    for (size_t i = 1; i < seen.count; i++) {
        cr_assert(seen.lsns[i] > seen.lsns[i - 1] ||
                      (seen.lsns[i] == seen.lsns[i - 1] && seen.seqs[i] > seen.seqs[i - 1]),
                  "marks ascend");
    }
    cr_assert_eq(confirmed_in_slot() > 0, true);
}

/* --- the holder --- */

/* Who fails before the fence is passed has not taken over: whoever comes next waits too. */
Test(change_feed_pg, a_take_over_that_was_cut_short_does_not_end_the_wait) {
    struct err err = {0};

    sql(admin,
        "UPDATE daybook.relay_state SET holder = 'another/machine/1/1', released = false"
        " WHERE slot = '%s'",
        slot);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(feed->ops->open(feed, &err), ERR_OK, "%s", err.message);
        cr_assert_not(feed->ops->predecessor_gone(feed), "at the %d. opening", i + 1);
        let_go();
    }
    open_feed();
    let_go();
    cr_assert_eq(feed->ops->open(feed, &err), ERR_OK, "%s", err.message);
    cr_assert(feed->ops->predecessor_gone(feed), "this process itself");
}

/* Another one's name is not overwritten by who has seen an earlier one. */
Test(change_feed_pg, who_was_overtaken_before_it_began_stands_by) {
    static const struct publish_mark tails[PARTITIONS];
    struct err err = {0};

    cr_assert_eq(feed->ops->open(feed, &err), ERR_OK, "%s", err.message);
    sql(admin, "UPDATE daybook.relay_state SET holder = 'a/faster/one/1' WHERE slot = '%s'", slot);
    cr_assert_eq(feed->ops->begin(feed, tails, PARTITIONS, &err), ERR_FENCED, "%s", err.message);
}

/* The name that it saw may stand there again, after another one has come and gone. */
Test(change_feed_pg, who_has_lost_the_slot_claims_nothing) {
    static const struct publish_mark tails[PARTITIONS];
    struct err err = {0};

    cr_assert_eq(feed->ops->open(feed, &err), ERR_OK, "%s", err.message);
    sql(admin,
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
        " WHERE slot_name = '%s' AND active",
        slot);
    cr_assert_eq(feed->ops->begin(feed, tails, PARTITIONS, &err), ERR_FENCED, "%s", err.message);
    sql(admin,
        "DO $$ BEGIN ASSERT (SELECT holder = 'nobody' FROM daybook.relay_state"
        " WHERE slot = '%s'); END $$",
        slot);
}

/* What an earlier holder had published, but not written down, is part of what must be there. */
Test(change_feed_pg, the_topics_ends_are_taken_over) {
    struct publish_mark tails[PARTITIONS] = {{0}};
    struct err err = {0};
    char text[256];

    insert(admin, 1, 1, "1");
    (void)snprintf(text, sizeof(text), "SELECT event_id FROM daybook.events WHERE stream_id = '%s'",
                   stream);
    PGresult *result = PQexec(admin, text);
    cr_assert(uuid_parse(str_from(PQgetvalue(result, 0, 0)), &tails[1].event_id));
    PQclear(result);
    tails[1].present = true;
    tails[1].offset = 41;
    cr_assert_eq(feed->ops->open(feed, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(feed->ops->begin(feed, tails, PARTITIONS, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(feed->ops->confirm(feed, 0, &err), ERR_OK, "%s", err.message);
    /* Two records that the broker had not shown. */
    feed->ops->published(feed, 1, 44);
    feed->ops->published(feed, 1, 46);
    cr_assert_eq(metric_counter_value(
                     metrics_counter(metrics, "daybook_relay_unseen_records_total", "", "")),
                 2);
    feed->ops->close(feed);
    sql(admin,
        "DO $$ BEGIN ASSERT (SELECT offsets = '{-1,46}' FROM daybook.relay_state"
        " WHERE slot = '%s'); END $$",
        slot);
}

/* Records that were deleted are none that the broker did not show. */
Test(change_feed_pg, an_emptied_partition_goes_on_where_it_ended) {
    const struct publish_mark tails[PARTITIONS] = {{.end = 7}};
    struct err err = {0};

    cr_assert_eq(feed->ops->open(feed, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(feed->ops->begin(feed, tails, PARTITIONS, &err), ERR_OK, "%s", err.message);
    feed->ops->published(feed, 0, 7);
    cr_assert_eq(metric_counter_value(
                     metrics_counter(metrics, "daybook_relay_unseen_records_total", "", "")),
                 0);
}

/* --- catching up --- */

/* The backend that reads the table stands still, as one that looks through a very large one does:
 * the holder goes on proving that it is, and hears what it is told. */
Test(change_feed_pg, the_table_is_not_waited_for) {
    static struct seen seen;
    struct feed_item item;
    struct err err = {0};

    sql(admin, "SELECT pg_drop_replication_slot('%s')", slot);
    insert(admin, 1, 5, "1");
    open_feed();
    PGresult *result = PQexec(admin, "SELECT pid FROM pg_stat_activity WHERE state ="
                                     " 'idle in transaction' AND query LIKE 'DECLARE catch_up%'");
    cr_assert_eq(PQntuples(result), 1);
    const pid_t backend = (pid_t)strtol(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    cr_assert_eq(kill(backend, SIGSTOP), 0);
    const int64_t held_at_us = feed->ops->held_at_us(feed);
    const double until = now_seconds() + 1.0;
    while (now_seconds() < until) {
        const double begin = now_seconds();
        const enum err_code code = feed->ops->next(feed, &item, &err);
        if (code != ERR_OK || item.kind != FEED_NOTHING || now_seconds() - begin > 0.5) {
            (void)kill(backend, SIGCONT);
        }
        cr_assert_eq(code, ERR_OK, "%s", err.message);
        cr_assert_eq(item.kind, FEED_NOTHING);
        cr_assert_lt(now_seconds() - begin, 0.5);
        cr_assert_eq(feed->ops->confirm(feed, 0, &err), ERR_OK, "%s", err.message);
        struct pollfd fd = {.fd = feed->ops->descriptor(feed), .events = POLLIN};
        (void)poll(&fd, 1, 20);
    }
    cr_assert_eq(kill(backend, SIGCONT), 0);
    cr_assert_gt(feed->ops->held_at_us(feed), held_at_us + 500000);
    read_changes(&seen, 5);
    expect_versions(&seen, 5);
}

/* No wait for the rest of a test run when somebody holds a transaction open. */
Test(change_feed_pg, a_slot_that_can_not_be_made_now_is_a_bounded_wait) {
    PGconn *other = connect_as("DAYBOOK_TEST_SUPERUSER_URL");
    struct err err = {0};

    sql(admin, "SELECT pg_drop_replication_slot('%s')", slot);
    sql(other, "BEGIN; SELECT pg_current_xact_id()");
    const double begin = now_seconds();
    cr_assert_eq(feed->ops->open(feed, &err), ERR_TIMEOUT, "%s", err.message);
    cr_assert_lt(now_seconds() - begin, 15);
    sql(other, "COMMIT");
    PQfinish(other);
    const double deadline = now_seconds() + 15;
    while (feed->ops->open(feed, &err) != ERR_OK) {
        cr_assert_lt(now_seconds(), deadline, "%s", err.message);
    }
}
