/*
 * PostgreSQL is stopped, or killed, under load and comes back. Commands get 503 in bounded time,
 * nothing acknowledged is lost, a refused command repeated with its key takes effect once, and no
 * replica has to be restarted. These tests take the stack's own PostgreSQL away: the other
 * processes of the stack live through it too.
 */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/command.h"
#include "../support/crowd.h"
#include "../support/environment.h"
#include "../support/event_log.h"
#include "../support/http_client.h"
#include "../support/replica.h"
#include "rounds.h"

enum {
    REPLICAS = 2,
    CLIENTS = 16,
    ACCOUNTS = 8,
    COMMANDS_MAX = 20000,
    REFUSALS_MAX = 200000,
    OUTCOME_WAIT_MS = 2000,
    STATEMENT_TIMEOUT_MS = 3000,
    CONNECT_TIMEOUT_MS = 1000,
    /* A batch before mine that has to find out, then mine. */
    BOUND_MS = 2 * (OUTCOME_WAIT_MS + STATEMENT_TIMEOUT_MS + CONNECT_TIMEOUT_MS),
};

struct done {
    char key[80];
    size_t account;
    int refusals; /* before it was answered */
    struct reply reply;
};

static struct {
    struct replica replicas[REPLICAS];
    char accounts[ACCOUNTS][96];
    char run[64];
    struct done done[COMMANDS_MAX];
    atomic_size_t begun, acknowledged;
    atomic_bool over;
    atomic_size_t refusals;
    float refusal_seconds[REFUSALS_MAX];
    atomic_int unexpected;
    struct reply unexpected_reply;
} outage;

/* One deposit, repeated with its key at the replicas in turn until it is answered. */
static void deposit_surely(struct done *done, unsigned *random) {
    for (size_t turn = crowd_random(random);; turn++) {
        done->reply = command_send(&(struct command){.base = outage.replicas[turn % REPLICAS].base,
                                                     .stream = outage.accounts[done->account],
                                                     .action = "deposit",
                                                     .amount_minor = 100,
                                                     .key = done->key,
                                                     .correlation_id = done->key});
        if (done->reply.status == 200) {
            atomic_fetch_add(&outage.acknowledged, 1);
            return;
        }
        if (strcmp(done->reply.code, "version_conflict") == 0) {
            continue; /* both replicas write to these accounts */
        }
        if ((done->reply.status != 503 || !done->reply.retry_after) &&
            atomic_fetch_add(&outage.unexpected, 1) == 0) {
            outage.unexpected_reply = done->reply;
        }
        if (atomic_load(&outage.unexpected) > 0) {
            return;
        }
        const size_t refusal = atomic_fetch_add(&outage.refusals, 1);
        if (refusal < REFUSALS_MAX) {
            outage.refusal_seconds[refusal] = (float)done->reply.seconds;
        }
        done->refusals++;
    }
}

static void deposit_until_over(void *context, size_t client) {
    unsigned random = (unsigned)client + 1;
    size_t index;

    (void)context;
    while (!atomic_load(&outage.over) && atomic_load(&outage.unexpected) == 0 &&
           (index = atomic_fetch_add(&outage.begun, 1)) < COMMANDS_MAX) {
        struct done *done = &outage.done[index];
        *done = (struct done){.account = crowd_random(&random) % ACCOUNTS};
        (void)snprintf(done->key, sizeof(done->key), "%s-%zu", outage.run, index);
        deposit_surely(done, &random);
    }
}

static bool enough_acknowledged(void *arg) {
    return atomic_load(&outage.acknowledged) >= *(const size_t *)arg ||
           atomic_load(&outage.unexpected) > 0;
}

static void expect_nothing_unexpected(void) {
    cr_assert_eq(atomic_load(&outage.unexpected), 0, "%d %s", outage.unexpected_reply.status,
                 outage.unexpected_reply.body);
}

static void expect_more_acknowledged(size_t count) {
    size_t enough = atomic_load(&outage.acknowledged) + count;

    cr_assert(eventually(enough_acknowledged, &enough, 60000));
    expect_nothing_unexpected();
}

static bool enough_refused(void *arg) {
    return atomic_load(&outage.refusals) >= *(const size_t *)arg ||
           atomic_load(&outage.unexpected) > 0;
}

static int ready_status(const struct replica *replica) {
    char url[96];

    (void)snprintf(url, sizeof(url), "%s/ready", replica->base);
    struct http_answer a = http_get(url);
    const int status = a.status;
    http_answer_release(&a);
    return status;
}

static bool is_not_ready(void *arg) {
    return ready_status(arg) == 503;
}

static bool is_ready(void *arg) {
    return ready_status(arg) == 200;
}

static int compare_floats(const void *a, const void *b) {
    const float x = *(const float *)a;
    const float y = *(const float *)b;

    return x < y ? -1 : x > y;
}

static void judge(const char *verb) {
    const size_t begun = atomic_load(&outage.begun);
    const size_t count = begun < COMMANDS_MAX ? begun : COMMANDS_MAX;
    const size_t refusals = atomic_load(&outage.refusals);
    size_t repeated = 0;
    size_t replayed = 0;

    expect_nothing_unexpected();
    for (size_t i = 0; i < count; i++) {
        const struct done *done = &outage.done[i];
        char version[32];
        (void)snprintf(version, sizeof(version), "%lld", done->reply.version);
        cr_assert_str_eq(log_text("SELECT string_agg(version::text, ' ') FROM daybook.events"
                                  " WHERE correlation_id = $1",
                                  done->key, NULL),
                         version, "%s", done->reply.body);
        cr_assert(done->refusals > 0 || !done->reply.replayed);
        repeated += done->refusals > 0;
        replayed += done->reply.replayed;
    }
    for (size_t i = 0; i < ACCOUNTS; i++) {
        (void)log_expect_sound(outage.accounts[i]);
    }
    const size_t kept = refusals < REFUSALS_MAX ? refusals : REFUSALS_MAX;
    qsort(outage.refusal_seconds, kept, sizeof(outage.refusal_seconds[0]), compare_floats);
    const double median = (double)outage.refusal_seconds[kept / 2];
    const double worst = (double)outage.refusal_seconds[kept - 1];
    printf("postgresql %s: %zu commands, %zu refused first, %zu of them had taken effect; %zu"
           " refusals, median %.1f ms, worst %.1f ms\n",
           verb, count, repeated, replayed, refusals, median * 1e3, worst * 1e3);
    cr_assert_lt(worst * 1e3, BOUND_MS);
    cr_assert_lt(median, 0.5, "known to be away, it is said at once");
}

static void take_away_and_bring_back(const char *verb) {
    size_t refused = 20 * CLIENTS;

    (void)snprintf(outage.run, sizeof(outage.run), "%s", fresh_id("out"));
    atomic_store(&outage.begun, 0);
    atomic_store(&outage.acknowledged, 0);
    atomic_store(&outage.refusals, 0);
    atomic_store(&outage.over, false);
    struct crowd *crowd = crowd_start(CLIENTS, deposit_until_over, NULL);
    expect_more_acknowledged(10 * CLIENTS);
    cr_assert(stack(verb, "postgres"));
    cr_assert(eventually(enough_refused, &refused, 60000));
    expect_nothing_unexpected();
    for (size_t i = 0; i < REPLICAS; i++) {
        cr_assert(eventually(is_not_ready, &outage.replicas[i], 10000));
    }
    cr_assert(stack("start", "postgres"));
    expect_more_acknowledged(10 * CLIENTS);
    for (size_t i = 0; i < REPLICAS; i++) {
        cr_assert(eventually(is_ready, &outage.replicas[i], 10000));
        cr_assert_gt(replica_metric(&outage.replicas[i],
                                    "daybook_commands_total{command=\"Deposit\""
                                    ",outcome=\"unavailable\"}"),
                     0);
    }
    atomic_store(&outage.over, true);
    crowd_join(crowd);
    judge(verb);
}

static void start_replicas(void) {
    fault_begin();
    for (size_t i = 0; i < REPLICAS; i++) {
        replica_start(&outage.replicas[i],
                      &(struct replica_options){.settings = {"DAYBOOK_OUTCOME_WAIT_MS=2000",
                                                             "DAYBOOK_STATEMENT_TIMEOUT_MS=3000",
                                                             "DAYBOOK_CONNECT_TIMEOUT_MS=1000"}});
    }
    for (size_t i = 0; i < ACCOUNTS; i++) {
        (void)snprintf(outage.accounts[i], sizeof(outage.accounts[i]), "%s",
                       command_open(outage.replicas[0].base, "outage"));
    }
}

static void stop_replicas(void) {
    for (size_t i = 0; i < REPLICAS; i++) {
        replica_stop(&outage.replicas[i]);
    }
}

TestSuite(outage, .init = start_replicas, .fini = stop_replicas, .timeout = FAULT_TIMEOUT_S);

Test(outage, postgresql_stopped_and_started_again) {
    for (int round = 0; round < fault_rounds(); round++) {
        take_away_and_bring_back("stop");
    }
}

Test(outage, postgresql_killed_and_started_again) {
    for (int round = 0; round < fault_rounds(); round++) {
        take_away_and_bring_back("kill");
    }
}
