/*
 * kill -9 of command-api under load, again and again. What was answered is in the log; what was not
 * answered is in it once or not at all, and for a command with a key the same key says which.
 */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "../support/command.h"
#include "../support/crowd.h"
#include "../support/environment.h"
#include "../support/event_log.h"
#include "../support/replica.h"
#include "rounds.h"

enum { CLIENTS = 16, ACCOUNTS = 8, SENT_MAX = 20000, KILLS = 3, ACKED_BEFORE_KILL = 150 };

struct sent {
    size_t account;
    bool keyed;
    char id[80]; /* correlation id, and the key */
    struct reply reply;
};

static struct {
    struct replica replica;
    char accounts[ACCOUNTS][96];
    char run[64];
    struct sent sent[SENT_MAX];
    atomic_size_t sent_count;
    atomic_size_t acked_count;
} killing;

static struct command command_of(const struct sent *sent) {
    return (struct command){.base = killing.replica.base,
                            .stream = killing.accounts[sent->account],
                            .action = "deposit",
                            .amount_minor = 100,
                            .key = sent->keyed ? sent->id : NULL,
                            .correlation_id = sent->id,
                            .own_connection = !sent->keyed};
}

/* Deposits, every second one with a key, until there is no answer any more. */
static void deposit_until_killed(void *context, size_t client) {
    unsigned random = (unsigned)client + 1;
    size_t index;

    (void)context;
    while ((index = atomic_fetch_add(&killing.sent_count, 1)) < SENT_MAX) {
        struct sent *sent = &killing.sent[index];
        sent->account = crowd_random(&random) % ACCOUNTS;
        sent->keyed = client % 2 == 0;
        (void)snprintf(sent->id, sizeof(sent->id), "%s-%zu", killing.run, index);
        const struct command command = command_of(sent);
        sent->reply = command_send(&command);
        if (sent->reply.status == 0) {
            return;
        }
        atomic_fetch_add(&killing.acked_count, 1);
    }
}

static bool enough_acked(void *arg) {
    return atomic_load(&killing.acked_count) >= *(const size_t *)arg;
}

struct tally {
    long long acked, unanswered, unanswered_in_log, took_effect_later;
};

static long long events_of(const struct sent *sent) {
    return log_number("SELECT count(*) FROM daybook.events WHERE correlation_id = $1", sent->id,
                      NULL);
}

static void judge(struct sent *sent, struct tally *tally) {
    const long long found = events_of(sent);

    if (sent->reply.status != 0) {
        cr_assert_eq(sent->reply.status, 200, "%d %s", sent->reply.status, sent->reply.body);
        cr_assert_eq(found, 1, "acknowledged, and %lld times in the log: %s", found, sent->id);
        cr_assert_eq(log_number("SELECT version FROM daybook.events WHERE correlation_id = $1",
                                sent->id, NULL),
                     sent->reply.version);
        tally->acked++;
    } else {
        cr_assert_leq(found, 1, "%s", sent->id);
        tally->unanswered++;
        tally->unanswered_in_log += found;
    }
    if (sent->keyed) {
        const struct command command = command_of(sent);
        const struct reply again = command_expect(&command, 200);
        cr_assert_eq(again.replayed, found == 1, "%s", again.body);
        cr_assert(sent->reply.status == 0 || again.version == sent->reply.version);
        cr_assert_eq(events_of(sent), 1);
        tally->took_effect_later += found == 0;
    }
}

Test(kills, what_was_acknowledged_is_in_the_log_once, .timeout = FAULT_TIMEOUT_S) {
    struct tally tally = {0};
    size_t judged = 0;

    fault_begin();
    replica_start(&killing.replica, NULL);
    for (size_t i = 0; i < ACCOUNTS; i++) {
        (void)snprintf(killing.accounts[i], sizeof(killing.accounts[i]), "%s",
                       command_open(killing.replica.base, "killed"));
    }
    for (int kills = 0; kills < KILLS * fault_rounds(); kills++) {
        size_t enough = ACKED_BEFORE_KILL + (size_t)(kills % 7) * 13;
        atomic_store(&killing.acked_count, 0);
        atomic_store(&killing.sent_count, 0);
        (void)snprintf(killing.run, sizeof(killing.run), "%s", fresh_id("kill"));
        struct crowd *crowd = crowd_start(CLIENTS, deposit_until_killed, NULL);
        cr_assert(eventually(enough_acked, &enough, 30000));
        replica_kill(&killing.replica);
        crowd_join(crowd);
        replica_start(&killing.replica, NULL);
        judged = atomic_load(&killing.sent_count);
        for (size_t i = 0; i < judged && i < SENT_MAX; i++) {
            judge(&killing.sent[i], &tally);
        }
    }
    for (size_t i = 0; i < ACCOUNTS; i++) {
        (void)log_expect_sound(killing.accounts[i]);
    }
    cr_assert_eq(tally.unanswered, CLIENTS * KILLS * fault_rounds(), "each client lost one");
    printf("kill -9, %d times: %lld acknowledged and all in the log; %lld unanswered, of them %lld "
           "in the log; %lld done when repeated\n",
           KILLS * fault_rounds(), tally.acked, tally.unanswered, tally.unanswered_in_log,
           tally.took_effect_later);
    replica_stop(&killing.replica);
}
