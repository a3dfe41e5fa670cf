/* Three replicas and 64 clients fight for five accounts. Every answer is held against the log. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/command.h"
#include "../support/crowd.h"
#include "../support/environment.h"
#include "../support/event_log.h"
#include "../support/replica.h"
#include "rounds.h"

enum { REPLICAS = 3, CLIENTS = 64, ACCOUNTS = 5, TRIES = 24 };

struct attempt {
    size_t account;
    bool withdraw;
    bool repeats; /* the one before, at another replica */
    long long amount_minor;
    char key[64]; /* "": none */
    char correlation_id[64];
    struct reply reply;
};

struct fight {
    struct replica replicas[REPLICAS];
    char accounts[ACCOUNTS][96];
    struct attempt attempts[CLIENTS][TRIES];
    unsigned round; /* each fights in its own way */
};

static struct fight fight;

static struct reply attempt_at(const struct attempt *attempt, const char *base) {
    return command_send(&(struct command){
        .base = base,
        .stream = fight.accounts[attempt->account],
        .action = attempt->withdraw ? "withdraw" : "deposit",
        .amount_minor = attempt->amount_minor,
        .key = attempt->key[0] != '\0' ? attempt->key : NULL,
        .correlation_id = attempt->correlation_id,
    });
}

static void fight_one(void *context, size_t client) {
    const char *run = context;
    unsigned random = fight.round * CLIENTS + (unsigned)client + 1;

    for (size_t i = 0; i < TRIES; i++) {
        struct attempt *attempt = &fight.attempts[client][i];
        const struct attempt *before = i > 0 ? &fight.attempts[client][i - 1] : NULL;
        if (before != NULL && before->key[0] != '\0' && crowd_random(&random) % 4 == 0) {
            *attempt = *before;
            attempt->repeats = true;
        } else {
            attempt->account = crowd_random(&random) % ACCOUNTS;
            attempt->withdraw = crowd_random(&random) % 3 == 0;
            attempt->amount_minor = 1 + crowd_random(&random) % 999;
            if (crowd_random(&random) % 2 == 0) {
                (void)snprintf(attempt->key, sizeof(attempt->key), "k-%s-%zu-%zu", run, client, i);
            }
        }
        (void)snprintf(attempt->correlation_id, sizeof(attempt->correlation_id), "c-%s-%zu-%zu",
                       run, client, i);
        attempt->reply = attempt_at(attempt, fight.replicas[crowd_random(&random) % REPLICAS].base);
    }
}

/* The events this attempt left: by its correlation id. */
static long long events_of(const struct attempt *attempt) {
    return log_number("SELECT count(*) FROM daybook.events WHERE correlation_id = $1",
                      attempt->correlation_id, NULL);
}

static void expect_in_log(const struct attempt *attempt) {
    char found[256];
    char expected[256];

    (void)snprintf(found, sizeof(found), "%s",
                   log_text("SELECT concat_ws(' ', stream_id, version, event_type,"
                            " payload->>'amount_minor', payload->>'balance_minor')"
                            " FROM daybook.events WHERE correlation_id = $1",
                            attempt->correlation_id, NULL));
    (void)snprintf(expected, sizeof(expected), "%s %lld %s %lld %lld",
                   fight.accounts[attempt->account], attempt->reply.version,
                   attempt->withdraw ? "MoneyWithdrawn" : "MoneyDeposited", attempt->amount_minor,
                   attempt->reply.balance_minor);
    cr_assert_str_eq(found, expected, "%s", attempt->reply.body);
    cr_assert_eq(events_of(attempt), 1);
    if (attempt->key[0] != '\0') {
        cr_assert_eq(log_number("SELECT count(*) FROM daybook.command_outcomes"
                                " WHERE stream_id = $1 AND idempotency_key = $2 AND status = 200",
                                fight.accounts[attempt->account], attempt->key),
                     1);
    }
}

struct tally {
    long long accepted, rejected, replayed, conflicts;
    long long accepted_in[ACCOUNTS];
    long long balance_minor[ACCOUNTS];
};

static void judge(const struct attempt *attempt, const struct attempt *before,
                  struct tally *tally) {
    const struct reply *reply = &attempt->reply;

    if (attempt->repeats && before->reply.status == reply->status && reply->replayed) {
        cr_assert_str_eq(reply->body, before->reply.body, "the first answer again");
        cr_assert_eq(reply->etag, before->reply.etag);
        tally->replayed++;
        cr_assert_eq(events_of(attempt), 0);
        return;
    }
    /* An undecided first try leaves no answer to repeat; every other one does. */
    cr_assert(!attempt->repeats || strcmp(before->reply.code, "version_conflict") == 0,
              "%s then %s", before->reply.body, reply->body);
    cr_assert_not(reply->replayed, "%s", reply->body);
    cr_assert_eq(reply->etag, reply->version);
    if (reply->status == 200) {
        tally->accepted++;
        tally->accepted_in[attempt->account]++;
        tally->balance_minor[attempt->account] +=
            attempt->withdraw ? -attempt->amount_minor : attempt->amount_minor;
        expect_in_log(attempt);
        return;
    }
    cr_assert_eq(reply->status, 409, "%d %s", reply->status, reply->body);
    cr_assert_gt(reply->version, 0, "the actual version: %s", reply->body);
    cr_assert_eq(events_of(attempt), 0);
    if (strcmp(reply->code, "version_conflict") == 0) {
        tally->conflicts++;
    } else {
        cr_assert_str_eq(reply->code, "insufficient_funds");
        tally->rejected++;
    }
}

static void fight_once(void) {
    struct tally tally = {0};
    char prefix[96];

    (void)snprintf(prefix, sizeof(prefix), "%s", fresh_id("fight"));
    memset(fight.attempts, 0, sizeof(fight.attempts));
    for (size_t i = 0; i < ACCOUNTS; i++) {
        (void)snprintf(fight.accounts[i], sizeof(fight.accounts[i]), "%s",
                       command_open(fight.replicas[i % REPLICAS].base, prefix));
    }
    const double begin = now_seconds();
    crowd_run(CLIENTS, fight_one, prefix);
    const double seconds = now_seconds() - begin;
    for (size_t client = 0; client < CLIENTS; client++) {
        const struct attempt *before = NULL;
        for (size_t i = 0; i < TRIES; i++) {
            judge(&fight.attempts[client][i], before, &tally);
            before = &fight.attempts[client][i];
        }
    }
    cr_assert_eq(log_expect_sound(prefix), ACCOUNTS + tally.accepted,
                 "an event for each 2xx, and no other");
    for (size_t i = 0; i < ACCOUNTS; i++) {
        const struct reply last =
            command_expect(&(struct command){.base = fight.replicas[i % REPLICAS].base,
                                             .stream = fight.accounts[i],
                                             .action = "deposit",
                                             .amount_minor = 1},
                           200);
        cr_assert_eq(last.balance_minor, tally.balance_minor[i] + 1,
                     "the sum of what was answered");
        cr_assert_eq(last.version, tally.accepted_in[i] + 2);
    }
    printf("contention: %lld accepted, %lld rejected, %lld replayed, %lld conflicts in %.2f s\n",
           tally.accepted, tally.rejected, tally.replayed, tally.conflicts, seconds);
}

static void start_replicas(void) {
    fault_begin();
    for (size_t i = 0; i < REPLICAS; i++) {
        replica_start(&fight.replicas[i], NULL);
    }
}

static void stop_replicas(void) {
    for (size_t i = 0; i < REPLICAS; i++) {
        replica_stop(&fight.replicas[i]);
    }
}

TestSuite(contention, .init = start_replicas, .fini = stop_replicas, .timeout = FAULT_TIMEOUT_S);

Test(contention, every_answer_is_in_the_log_and_nothing_else) {
    for (int round = 0; round < fault_rounds(); round++) {
        fight.round = (unsigned)round;
        fight_once();
    }
}

struct race {
    const char *stream; /* NULL: each client opens `streams` */
    const char *condition;
    struct reply replies[CLIENTS];
};

static void race_one(void *context, size_t client) {
    struct race *race = context;

    race->replies[client] =
        command_send(&(struct command){.base = fight.replicas[client % REPLICAS].base,
                                       .stream = race->stream,
                                       .action = race->condition[3] == 'N' ? NULL : "deposit",
                                       .amount_minor = 100,
                                       .condition = race->condition});
}

static int count_status(const struct race *race, int status) {
    int count = 0;

    for (size_t i = 0; i < CLIENTS; i++) {
        count += race->replies[i].status == status;
    }
    return count;
}

Test(contention, of_all_that_expect_the_same_version_one_wins) {
    for (int round = 0; round < fault_rounds(); round++) {
        struct race race = {.condition = "If-Match: \"1\""};
        race.stream = command_open(fight.replicas[0].base, "match");
        crowd_run(CLIENTS, race_one, &race);
        cr_assert_eq(count_status(&race, 200), 1);
        cr_assert_eq(count_status(&race, 412), CLIENTS - 1, "412, never 409");
        for (size_t i = 0; i < CLIENTS; i++) {
            cr_assert_eq(race.replies[i].version, 2, "the actual version: %s",
                         race.replies[i].body);
            cr_assert_eq(race.replies[i].etag, 2);
        }
        cr_assert_eq(log_expect_sound(race.stream), 2);
    }
}

Test(contention, of_all_that_expect_nothing_one_opens) {
    for (int round = 0; round < fault_rounds(); round++) {
        struct race race = {.condition = "If-None-Match: *"};
        race.stream = fresh_id("none-match");
        crowd_run(CLIENTS, race_one, &race);
        cr_assert_eq(count_status(&race, 201), 1);
        cr_assert_eq(count_status(&race, 412), CLIENTS - 1);
        for (size_t i = 0; i < CLIENTS; i++) {
            cr_assert_eq(race.replies[i].version, 1, "%s", race.replies[i].body);
        }
        cr_assert_eq(log_expect_sound(race.stream), 1);
    }
}

/* A replica that has never seen the stream, or saw it before others wrote to it, must not judge by
 * what it remembers. */
Test(contention, a_star_means_exists_also_where_another_replica_wrote) {
    const struct replica *r = fight.replicas;
    const char *id = fresh_id("star");
    struct command command = {
        .base = r[0].base, .stream = id, .action = "deposit", .condition = "If-Match: *"};

    command.amount_minor = 100;
    struct reply reply = command_expect(&command, 412);
    cr_assert_eq(reply.version, 0);
    (void)command_expect(&(struct command){.base = r[1].base, .stream = id}, 201);
    reply = command_expect(&command, 200); /* it exists by now, elsewhere */
    cr_assert_eq(reply.version, 2);
    command = (struct command){.base = r[2].base, .stream = id, .condition = "If-None-Match: *"};
    reply = command_expect(&command, 412);
    cr_assert_eq(reply.version, 2);
    command = (struct command){.base = r[1].base, .stream = id, .action = "deposit"};
    command.amount_minor = 100;
    command.condition = "If-Match: \"2\""; /* this replica remembers version 1 */
    cr_assert_eq(command_expect(&command, 200).version, 3);
    command.base = r[0].base; /* and this one 2 */
    reply = command_expect(&command, 412);
    cr_assert_eq(reply.version, 3);
    cr_assert_eq(log_expect_sound(id), 3);
}
