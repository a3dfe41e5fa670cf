/* One key, one effect (P4): over replicas, over restarts, while the first is still running. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "../support/command.h"
#include "../support/crowd.h"
#include "../support/environment.h"
#include "../support/event_log.h"
#include "../support/replica.h"
#include "rounds.h"

static struct replica here, there;

static void start_replicas(void) {
    fault_begin();
    replica_start(&here, NULL);
    replica_start(&there, NULL);
}

static void stop_replicas(void) {
    replica_stop(&here);
    replica_stop(&there);
}

TestSuite(keys, .init = start_replicas, .fini = stop_replicas, .timeout = FAULT_TIMEOUT_S);

/* `first` again at `base`: the same answer, marked. */
static void expect_replay(struct command command, const char *base, const struct reply *first) {
    command.base = base;
    const struct reply again = command_expect(&command, first->status);
    cr_assert(again.replayed, "%s", again.body);
    cr_assert_str_eq(again.body, first->body);
    cr_assert_eq(again.etag, first->etag);
}

static void expect_reused(struct command command, const char *base) {
    command.base = base;
    const struct reply reply = command_expect(&command, 422);
    cr_assert_str_eq(reply.code, "idempotency_key_reused");
    cr_assert_not(reply.replayed);
}

/* Accepted and rejected, each with its repetitions; the second round after a restart. */
Test(keys, the_first_answer_stands_over_replicas_and_restarts) {
    const char *id = command_open(here.base, "keys");
    struct command deposit = {
        .base = here.base, .stream = id, .action = "deposit", .amount_minor = 500, .key = "d"};
    struct command withdraw = {
        .base = there.base, .stream = id, .action = "withdraw", .amount_minor = 90000, .key = "w"};
    struct command wrong = {0};

    const struct reply accepted = command_expect(&deposit, 200);
    const struct reply rejected = command_expect(&withdraw, 409);
    cr_assert_str_eq(rejected.code, "insufficient_funds");
    (void)command_expect(
        &(struct command){
            .base = here.base, .stream = id, .action = "deposit", .amount_minor = 100000},
        200); /* it would be accepted now */
    for (int round = 0; round < 2; round++) {
        const char *const bases[] = {here.base, there.base};
        for (size_t i = 0; i < 2; i++) {
            expect_replay(deposit, bases[i], &accepted);
            expect_replay(withdraw, bases[i], &rejected);
            wrong = deposit;
            wrong.amount_minor = 501;
            expect_reused(wrong, bases[i]);
            wrong = withdraw;
            wrong.action = "deposit";
            expect_reused(wrong, bases[i]);
        }
        deposit.key = "\"d\""; /* the quoted form is the same key */
        replica_stop(&here);
        replica_start(&here, NULL);
    }
    cr_assert_eq(log_expect_sound(id), 3);
}

Test(keys, scope_is_the_stream) {
    const char *ids[] = {command_open(here.base, "scope"), command_open(here.base, "scope")};

    for (size_t i = 0; i < 2; i++) {
        const struct reply reply = command_expect(&(struct command){.base = here.base,
                                                                    .stream = ids[i],
                                                                    .action = "deposit",
                                                                    .amount_minor = 100 + (int)i,
                                                                    .key = "same"},
                                                  200);
        cr_assert_not(reply.replayed);
    }
}

Test(keys, without_one_each_request_is_a_command) {
    const char *id = command_open(here.base, "no-key");

    for (int i = 0; i < 6; i++) {
        const struct reply reply =
            command_expect(&(struct command){.base = i % 2 == 0 ? here.base : there.base,
                                             .stream = id,
                                             .action = "deposit",
                                             .amount_minor = 100},
                           200);
        cr_assert_eq(reply.version, i + 2);
    }
    cr_assert_eq(log_expect_sound(id), 7);
}

enum { SENDERS = 12 };

struct senders {
    struct command command;
    struct reply replies[SENDERS];
};

static void send_one(void *context, size_t index) {
    struct senders *senders = context;
    struct command command = senders->command;

    command.base = index % 2 == 0 ? here.base : there.base;
    senders->replies[index] = command_send(&command);
}

/* The first can't finish while appends are held back; all others wait for it and get its answer. */
static void repeat_while_running(const char *action, int status, int events) {
    const char *id = command_open(here.base, "running");
    struct senders senders = {
        .command = {.stream = id, .action = action, .amount_minor = 700, .key = "r"}};
    int first = 0;

    struct log_hold *hold = log_hold(id, 2, "r");
    struct crowd *crowd = crowd_start(SENDERS, send_one, &senders);
    log_expect_waiting("daybook-command-api", 2); /* one append of each replica */
    log_release(hold);
    crowd_join(crowd);
    for (size_t i = 0; i < SENDERS; i++) {
        const struct reply *reply = &senders.replies[i];
        cr_assert_eq(reply->status, status, "%d %s", reply->status, reply->body);
        cr_assert_str_eq(reply->body, senders.replies[0].body);
        first += !reply->replayed;
    }
    cr_assert_eq(first, 1, "%d", first);
    cr_assert_eq(log_expect_sound(id), 1 + events);
}

Test(keys, repeated_while_the_first_runs_it_waits_for_it) {
    repeat_while_running("deposit", 200, 1);
}

Test(keys, repeated_while_a_rejected_one_runs_it_waits_for_it) {
    repeat_while_running("withdraw", 409, 0);
}

static void send_other_body(void *context, size_t index) {
    struct senders *senders = context;
    struct command command = senders->command;

    (void)index;
    command.amount_minor++;
    senders->replies[1] = command_send(&command);
}

/* In one replica the first one has the key, of two whichever PostgreSQL takes first. */
static void other_body_while_running(const char *second_base) {
    const char *id = command_open(here.base, "other-body");
    struct senders senders = {
        .command = {.stream = id, .action = "deposit", .amount_minor = 700, .key = "r"}};
    struct log_hold *hold = log_hold(id, 2, "r");
    struct crowd *first = crowd_start(1, send_one, &senders);

    log_expect_waiting("daybook-command-api", 1);
    senders.command.base = second_base;
    struct crowd *second = crowd_start(1, send_other_body, &senders);
    if (second_base == there.base) {
        log_expect_waiting("daybook-command-api", 2);
    }
    log_release(hold);
    crowd_join(first);
    crowd_join(second);
    const size_t winner = senders.replies[0].status == 200 ? 0 : 1;
    cr_assert(winner == 0 || second_base == there.base);
    cr_assert_eq(senders.replies[winner].status, 200, "%s", senders.replies[winner].body);
    cr_assert_eq(senders.replies[1 - winner].status, 422, "%s", senders.replies[1 - winner].body);
    cr_assert_str_eq(senders.replies[1 - winner].code, "idempotency_key_reused");
    cr_assert_eq(log_expect_sound(id), 2);
}

Test(keys, another_body_is_refused_while_the_first_runs) {
    other_body_while_running(here.base);
    other_body_while_running(there.base);
}
