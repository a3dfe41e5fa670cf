/* Where a feed's place in the log is lost, and who is told. */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/environment.h"
#include "feed_fixture.h"

TestSuite(change_feed_place, .init = feed_set_up, .fini = feed_tear_down, .timeout = 60);

static void expect_lost(const char *why) {
    static const struct publish_mark tails[PARTITIONS];
    static struct seen seen;
    struct err err = {0};

    cr_assert_eq(feed->ops->open(feed, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(feed->ops->begin(feed, tails, PARTITIONS, &err), ERR_CONFLICT);
    cr_assert_not_null(strstr(err.message, why), "%s", err.message);
    open_feed();
    cr_assert_not_null(strstr(feed->ops->catching_up(feed), why));
    read_changes(&seen, 5);
    expect_versions(&seen, 5);
}

Test(change_feed_place, a_slot_advanced_by_hand_is_a_lost_place) {
    open_feed();
    let_go();
    insert(admin, 1, 5, "1");
    sql(admin, "SELECT pg_replication_slot_advance('%s', pg_current_wal_lsn())", slot);
    expect_lost("by hand");
}

Test(change_feed_place, a_slot_made_anew_by_hand_is_a_lost_place) {
    open_feed();
    let_go();
    sql(admin, "SELECT pg_drop_replication_slot('%s')", slot);
    insert(admin, 1, 5, "1");
    sql(admin, "SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", slot);
    expect_lost("by hand");
}

Test(change_feed_place, a_slot_of_which_nothing_is_known_is_a_lost_place) {
    sql(admin, "DELETE FROM daybook.relay_state WHERE slot = '%s'", slot);
    sql(admin, "SELECT pg_drop_replication_slot('%s')", slot);
    insert(admin, 1, 5, "1");
    sql(admin, "SELECT pg_create_logical_replication_slot('%s', 'pgoutput')", slot);
    expect_lost("nothing before that");
}

/* The row of a relay that did not know the column yet: it may still be moving the slot on. */
Test(change_feed_place, a_slot_that_an_earlier_version_moved_is_trusted) {
    struct err err = {0};

    sql(admin, "UPDATE daybook.relay_state SET confirmed = NULL WHERE slot = '%s'", slot);
    sql(admin, "SELECT pg_replication_slot_advance('%s', pg_current_wal_lsn())", slot);
    open_feed();
    cr_assert_eq(feed->ops->confirm(feed, 0, &err), ERR_OK, "%s", err.message);
    let_go();
    sql(admin,
        "DO $$ BEGIN ASSERT (SELECT confirmed >= confirmed_flush_lsn FROM daybook.relay_state"
        " JOIN pg_replication_slots ON slot_name = slot WHERE slot = '%s'); END $$",
        slot);
    insert(admin, 1, 5, "1");
    sql(admin, "SELECT pg_replication_slot_advance('%s', pg_current_wal_lsn())", slot);
    expect_lost("by hand"); /* once */
}

/* The slot's backend stands still: it can't be dropped. */
static void hold_slot(int signal_number) {
    static pid_t backend;
    char text[256];

    if (signal_number == SIGSTOP) {
        (void)snprintf(text, sizeof(text),
                       "SELECT active_pid FROM pg_replication_slots WHERE slot_name = '%s'", slot);
        PGresult *result = PQexec(admin, text);
        cr_assert_eq(PQntuples(result), 1, "%s", PQerrorMessage(admin));
        backend = (pid_t)strtol(PQgetvalue(result, 0, 0), NULL, 10);
        PQclear(result);
        cr_assert_gt(backend, 0);
    }
    cr_assert_eq(kill(backend, signal_number), 0);
}

/* Who attaches the slot that was given up, and could not be dropped. */
static void expect_given_up(void) {
    static const struct publish_mark tails[PARTITIONS];
    const double deadline = now_seconds() + 10;
    struct err err = {0};

    while (feed->ops->open(feed, &err) == ERR_FENCED) {
        cr_assert_lt(now_seconds(), deadline, "the slot is not given up");
    }
    cr_assert_eq(feed->ops->begin(feed, tails, PARTITIONS, &err), ERR_CONFLICT, "%s", err.message);
    cr_assert_not_null(strstr(err.message, "nothing before that"), "%s", err.message);
    open_feed();
    cr_assert_not_null(feed->ops->catching_up(feed));
}

Test(change_feed_place, nobody_streams_from_a_slot_whose_topic_has_lost_records) {
    static const struct publish_mark tails[PARTITIONS];
    struct err err = {0};

    sql(admin, "UPDATE daybook.relay_state SET offsets = '{5}' WHERE slot = '%s'", slot);
    cr_assert_eq(feed->ops->open(feed, &err), ERR_OK, "%s", err.message);
    hold_slot(SIGSTOP);
    const enum err_code code = feed->ops->begin(feed, tails, PARTITIONS, &err);
    hold_slot(SIGCONT);
    cr_assert_eq(code, ERR_FENCED, "the slot could be dropped");
    expect_given_up();
}

Test(change_feed_place, nobody_streams_from_a_slot_whose_topic_was_made_anew) {
    struct err err = {0};

    open_feed();
    feed->ops->published(feed, 0, 5);
    feed->ops->published(feed, 0, 3);
    hold_slot(SIGSTOP);
    const enum err_code code = feed->ops->confirm(feed, 0, &err);
    hold_slot(SIGCONT);
    cr_assert_eq(code, ERR_FENCED, "the slot could be dropped");
    expect_given_up();
}

/* What is known to be wrong is not written down as a place, also when the feed is closed first. */
Test(change_feed_place, the_place_in_a_topic_that_was_made_anew_is_not_written_down) {
    open_feed();
    feed->ops->published(feed, 0, 5);
    feed->ops->published(feed, 0, 3);
    feed->ops->close(feed);
    sql(admin,
        "DO $$ BEGIN ASSERT (SELECT offsets = '{}' FROM daybook.relay_state"
        " WHERE slot = '%s'); END $$",
        slot);
}

/* Another cluster's positions say nothing of this one's. */
Test(change_feed_place, a_slot_of_another_cluster_is_a_lost_place) {
    insert(admin, 1, 5, "1");
    sql(admin, "SELECT pg_replication_slot_advance('%s', pg_current_wal_lsn())", slot);
    sql(admin,
        "UPDATE daybook.relay_state SET system = '1', confirmed = 'FFFF/0',"
        " published_below = '9000000000' WHERE slot = '%s'",
        slot);
    expect_lost("nothing before that");
    sql(admin,
        "DO $$ BEGIN ASSERT (SELECT system = system_identifier::text FROM pg_control_system(),"
        " daybook.relay_state WHERE slot = '%s'); END $$",
        slot);
}

/* The topic keeps what the database has lost: that is noticed once. */
Test(change_feed_place, what_a_restore_took_is_noticed_once) {
    struct publish_mark tails[PARTITIONS] = {{0}};
    static struct seen seen;
    struct err err = {0};

    insert(admin, 1, 1, "1");
    tails[1] = (struct publish_mark){.present = true, .offset = 41};
    memset(&tails[1].event_id, 0xab, sizeof(tails[1].event_id));
    sql(admin, "UPDATE daybook.relay_state SET offsets = '{-1,40}' WHERE slot = '%s'", slot);
    cr_assert_eq(feed->ops->open(feed, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(feed->ops->begin(feed, tails, PARTITIONS, &err), ERR_CONFLICT);
    cr_assert_not_null(strstr(err.message, "restored"), "%s", err.message);
    cr_assert_eq(feed->ops->open(feed, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(feed->ops->begin(feed, tails, PARTITIONS, &err), ERR_OK, "%s", err.message);
    read_changes(&seen, 1);
    cr_assert_eq(feed->ops->confirm(feed, seen.position, &err), ERR_OK, "%s", err.message);
    let_go();
    cr_assert_eq(feed->ops->open(feed, &err), ERR_OK, "%s", err.message);
    cr_assert_eq(feed->ops->begin(feed, tails, PARTITIONS, &err), ERR_OK, "%s", err.message);
    cr_assert_null(feed->ops->catching_up(feed));
}
