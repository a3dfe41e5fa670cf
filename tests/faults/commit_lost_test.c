/*
 * The connection to PostgreSQL, or the service itself, dies at COMMIT. A proxy between the two
 * finds the append by the command's correlation id, which no other statement carries, and loses or
 * holds what the case needs. Each case for a command that is accepted and for one that is rejected.
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "../support/command.h"
#include "../support/crowd.h"
#include "../support/environment.h"
#include "../support/event_log.h"
#include "../support/replica.h"
#include "../support/tcp_proxy.h"
#include "rounds.h"

static struct tcp_proxy *proxy;
static struct replica replica;
static struct replica_options options;
static char database_url[512];
static char session_name[96]; /* of the replica's sessions */

static void start_behind_proxy(void) {
    const char *url = stack_environment("DAYBOOK_TEST_COMMAND_URL");

    fault_begin();
    proxy = tcp_proxy_new(tcp_proxy_port_of_url(url));
    (void)snprintf(session_name, sizeof(session_name), "%s", fresh_id("lost"));
    (void)snprintf(database_url, sizeof(database_url), "%s", tcp_proxy_url(proxy, url));
    options = (struct replica_options){
        .database_url = database_url,
        .session_name = session_name,
        .settings = {"DAYBOOK_SHARDS=1", "DAYBOOK_STATEMENT_TIMEOUT_MS=3000",
                     "DAYBOOK_OUTCOME_WAIT_MS=2000", "DAYBOOK_CONNECT_TIMEOUT_MS=1000"}};
    replica_start(&replica, &options);
}

static void stop_behind_proxy(void) {
    if (replica_is_running(&replica)) {
        replica_stop(&replica);
    }
    tcp_proxy_free(proxy);
}

TestSuite(commit_lost, .init = start_behind_proxy, .fini = stop_behind_proxy,
          .timeout = FAULT_TIMEOUT_S);

/* A command on its way in a thread of its own. */
struct sent {
    struct command command;
    struct reply reply;
    char key[96];
    char correlation_id[96];
    bool accepted; /* what it must become */
};

static void send_one(void *context, size_t index) {
    struct sent *sent = context;

    (void)index;
    sent->reply = command_send(&sent->command);
}

static void prepare(struct sent *sent, bool accepted, bool keyed) {
    const char *id = command_open(replica.base, "lost");

    *sent = (struct sent){.accepted = accepted};
    (void)snprintf(sent->key, sizeof(sent->key), "%s", fresh_id("k"));
    (void)snprintf(sent->correlation_id, sizeof(sent->correlation_id), "%s", fresh_id("c"));
    sent->command = (struct command){.base = replica.base,
                                     .stream = id,
                                     .action = accepted ? "deposit" : "withdraw",
                                     .amount_minor = 1200,
                                     .key = keyed ? sent->key : NULL,
                                     .correlation_id = sent->correlation_id,
                                     .own_connection = true};
}

static bool is_committed(void *arg) {
    const struct sent *sent = arg;

    return sent->accepted
               ? log_number("SELECT count(*) FROM daybook.events WHERE correlation_id = $1",
                            sent->correlation_id, NULL) == 1
               : log_number("SELECT count(*) FROM daybook.command_outcomes"
                            " WHERE stream_id = $1 AND idempotency_key = $2",
                            sent->command.stream, sent->key) == 1;
}

static void expect_committed(struct sent *sent) {
    cr_assert(eventually(is_committed, sent, 10000));
}

static void expect_decided(const struct sent *sent) {
    cr_assert_eq(sent->reply.status, sent->accepted ? 200 : 409, "%d %s", sent->reply.status,
                 sent->reply.body);
    cr_assert_eq(sent->reply.version, sent->accepted ? 2 : 1, "%s", sent->reply.body);
    cr_assert_eq(log_expect_sound(sent->command.stream), sent->accepted ? 2 : 1);
}

/* The same key once more: the true answer, and no second effect. */
static void expect_replay(struct sent *sent) {
    sent->command.base = replica.base;
    sent->reply = command_send(&sent->command);
    cr_assert(sent->reply.replayed, "%d %s", sent->reply.status, sent->reply.body);
    expect_decided(sent);
}

static bool has_sent_batches(void *count) {
    return replica_metric(&replica, "daybook_append_batch_size_count") >= *(const double *)count;
}

static void answer_lost(bool accepted, bool keyed) {
    struct sent sent;

    prepare(&sent, accepted, keyed);
    tcp_proxy_arm(proxy, sent.correlation_id, PROXY_HOLD_ANSWER);
    struct crowd *client = crowd_start(1, send_one, &sent);
    tcp_proxy_expect_hit(proxy);
    expect_committed(&sent);
    tcp_proxy_cut(proxy);
    crowd_join(client);
    cr_assert_not(sent.reply.replayed && !keyed);
    expect_decided(&sent);
    if (keyed) {
        expect_replay(&sent);
    }
}

Test(commit_lost, committed_but_the_answer_is_lost) {
    for (int round = 0; round < fault_rounds(); round++) {
        answer_lost(true, true);
        answer_lost(true, false);
        answer_lost(false, true);
    }
}

static void request_lost(bool accepted, bool keyed) {
    struct sent sent;

    prepare(&sent, accepted, keyed);
    tcp_proxy_arm(proxy, sent.correlation_id, PROXY_LOSE_REQUEST);
    sent.reply = command_send(&sent.command);
    tcp_proxy_expect_hit(proxy);
    expect_decided(&sent);
    if (keyed) {
        expect_replay(&sent);
    }
}

Test(commit_lost, never_committed_and_the_connection_is_lost) {
    for (int round = 0; round < fault_rounds(); round++) {
        request_lost(true, true);
        request_lost(true, false);
        request_lost(false, true);
    }
}

/* The statement runs on in a session that the service has lost. Asked, the log has no such event;
 * appended again, it would be there twice if its versions and ids weren't unique. */
static void still_running(bool accepted) {
    struct sent sent;

    prepare(&sent, accepted, true);
    struct log_hold *hold = log_hold(sent.command.stream, 2, sent.key);
    tcp_proxy_arm(proxy, sent.correlation_id, PROXY_HOLD_ANSWER);
    struct crowd *client = crowd_start(1, send_one, &sent);
    tcp_proxy_expect_hit(proxy);
    log_expect_waiting(session_name, 1);
    tcp_proxy_cut(proxy);
    log_expect_waiting(session_name, 2);
    log_release(hold);
    crowd_join(client);
    expect_decided(&sent);
    expect_replay(&sent);
}

Test(commit_lost, still_running_when_the_connection_is_lost) {
    for (int round = 0; round < fault_rounds(); round++) {
        still_running(true);
        still_running(false);
    }
}

/* Two appends are on their way: the first is committed and its answer held, or it waits for a lock;
 * the second is behind it. */
static void both_lost(bool first_waits) {
    struct sent first;
    struct sent second;
    struct log_hold *hold = NULL;

    prepare(&first, true, true);
    prepare(&second, true, true);
    if (first_waits) {
        hold = log_hold(first.command.stream, 2, first.key);
    }
    const double sent_before = replica_metric(&replica, "daybook_append_batch_size_count");
    tcp_proxy_arm(proxy, first.correlation_id, PROXY_HOLD_ANSWER);
    struct crowd *one = crowd_start(1, send_one, &first);
    tcp_proxy_expect_hit(proxy);
    if (first_waits) {
        log_expect_waiting(session_name, 1);
    } else {
        expect_committed(&first);
    }
    struct crowd *two = crowd_start(1, send_one, &second);
    double batches = sent_before + 2;
    cr_assert(eventually(has_sent_batches, &batches, 10000));
    if (!first_waits) {
        expect_committed(&second);
    }
    tcp_proxy_cut(proxy);
    if (first_waits) {
        log_expect_waiting(session_name, 2);
        log_release(hold);
    }
    crowd_join(one);
    crowd_join(two);
    expect_decided(&first);
    expect_decided(&second);
    expect_replay(&first);
    expect_replay(&second);
}

Test(commit_lost, two_are_on_their_way_when_the_connection_is_lost) {
    for (int round = 0; round < fault_rounds(); round++) {
        both_lost(false);
        both_lost(true);
    }
}

static bool session_is_gone(void *arg) {
    const char *pid = arg;

    return log_number("SELECT count(*) FROM pg_stat_activity WHERE pid = $1::int", pid, NULL) == 0;
}

/* A session that stands still before it reads the append, is given up, and wakes up later. */
Test(commit_lost, a_session_that_wakes_up_late_doubles_nothing) {
    struct sent sent;
    char pid[32] = "";

    replica_stop(&replica);
    options.settings[0] = "DAYBOOK_STATEMENT_TIMEOUT_MS=300";
    options.settings[3] = "DAYBOOK_SHARDS=1";
    replica_start(&replica, &options);
    for (int round = 0; round < fault_rounds(); round++) {
        prepare(&sent, true, round % 2 == 0);
        (void)snprintf(pid, sizeof(pid), "%s",
                       log_text("SELECT pid FROM pg_stat_activity WHERE application_name = $1",
                                session_name, NULL));
        const pid_t session = (pid_t)strtol(pid, NULL, 10);
        cr_assert_gt(session, 0);
        cr_assert_eq(kill(session, SIGSTOP), 0);
        sent.reply = command_send(&sent.command);
        cr_assert_eq(kill(session, SIGCONT), 0);
        expect_decided(&sent);
        cr_assert(eventually(session_is_gone, pid, 10000));
        cr_assert_eq(log_expect_sound(sent.command.stream), 2);
    }
}

static void killed_before_the_answer(bool accepted) {
    struct sent sent;

    prepare(&sent, accepted, true);
    tcp_proxy_arm(proxy, sent.correlation_id, PROXY_HOLD_ANSWER);
    struct crowd *client = crowd_start(1, send_one, &sent);
    tcp_proxy_expect_hit(proxy);
    expect_committed(&sent);
    replica_kill(&replica);
    crowd_join(client);
    cr_assert_eq(sent.reply.status, 0, "no answer");
    replica_start(&replica, &options);
    expect_replay(&sent);
    expect_replay(&sent);
}

Test(commit_lost, killed_between_commit_and_answer) {
    for (int round = 0; round < fault_rounds(); round++) {
        killed_before_the_answer(true);
        killed_before_the_answer(false);
    }
}

Test(commit_lost, killed_before_the_append_arrived) {
    for (int round = 0; round < fault_rounds(); round++) {
        struct sent sent;
        prepare(&sent, true, true);
        struct log_hold *hold = log_hold(sent.command.stream, 2, NULL);
        struct crowd *client = crowd_start(1, send_one, &sent);
        log_expect_waiting(session_name, 1);
        replica_kill(&replica);
        crowd_join(client);
        cr_assert_eq(sent.reply.status, 0, "no answer");
        replica_start(&replica, &options);
        sent.command.base = replica.base;
        client = crowd_start(1, send_one, &sent); /* while the dead one's append still waits */
        log_expect_waiting(session_name, 2);
        log_release(hold);
        crowd_join(client);
        expect_decided(&sent);
        expect_replay(&sent);
    }
}

/* What became of it can't be found out in time: said so, never a plain failure, and the key tells
 * later. */
static void outcome_unknown(enum proxy_fault fault, bool accepted) {
    struct sent sent;

    prepare(&sent, accepted, true);
    tcp_proxy_arm(proxy, sent.correlation_id, fault);
    struct crowd *client = crowd_start(1, send_one, &sent);
    tcp_proxy_expect_hit(proxy);
    if (fault == PROXY_HOLD_ANSWER) {
        expect_committed(&sent);
    }
    tcp_proxy_refuse(proxy, true);
    crowd_join(client);
    cr_assert_eq(sent.reply.status, 503, "%d %s", sent.reply.status, sent.reply.body);
    cr_assert(sent.reply.retry_after);
    cr_assert_str_eq(sent.reply.code, "outcome_unknown");
    cr_assert_lt(sent.reply.seconds, 6.0);
    tcp_proxy_refuse(proxy, false);
    const double deadline = now_seconds() + 20;
    do {
        sent.reply = command_send(&sent.command);
    } while (sent.reply.status == 503 && now_seconds() < deadline);
    cr_assert_eq(sent.reply.replayed, fault == PROXY_HOLD_ANSWER, "%s", sent.reply.body);
    expect_decided(&sent);
}

Test(commit_lost, while_the_database_stays_away_it_is_said_to_be_unknown) {
    outcome_unknown(PROXY_HOLD_ANSWER, true);
    outcome_unknown(PROXY_LOSE_REQUEST, true);
    if (fault_rounds() > 1) {
        outcome_unknown(PROXY_HOLD_ANSWER, false);
        outcome_unknown(PROXY_LOSE_REQUEST, false);
    }
}
