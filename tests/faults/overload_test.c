/* Full means 503 at once, bounded memory, and recovery without help (P14). */
#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/command.h"
#include "../support/crowd.h"
#include "../support/environment.h"
#include "../support/event_log.h"
#include "../support/replica.h"
#include "rounds.h"

enum {
    CLIENTS = 64,
    QUEUE_MAX = 8,
    PROBES = 21,
    FLOOD_SECONDS = 2, /* per round */
    FLOOD_SECONDS_MAX = 600,
    FLOOD_ACCOUNTS = 8,
    RSS_GROWTH_KIB_MAX = 16 * 1024,
};

static struct replica replica;
static char session_name[96];

static void start_small(void) {
    fault_begin();
    (void)snprintf(session_name, sizeof(session_name), "%s", fresh_id("small"));
    replica_start(
        &replica,
        &(struct replica_options){
            .session_name = session_name,
            .settings = {"DAYBOOK_SHARDS=1", "DAYBOOK_SHARD_QUEUE_MAX=8",
                         "DAYBOOK_SHARD_BATCH_MAX=4", "DAYBOOK_STATEMENT_TIMEOUT_MS=20000",
                         /* A sanitized build keeps freed memory for later checks. */
                         "ASAN_OPTIONS=quarantine_size_mb=1"},
        });
}

static void stop_small(void) {
    replica_stop(&replica);
}

TestSuite(overload, .init = start_small, .fini = stop_small, .timeout = FAULT_TIMEOUT_S);

struct rush {
    char stream[96];
    struct reply replies[CLIENTS];
    atomic_size_t answered;
};

static void rush_one(void *context, size_t client) {
    struct rush *rush = context;

    rush->replies[client] = command_send(&(struct command){
        .base = replica.base, .stream = rush->stream, .action = "deposit", .amount_minor = 100});
    atomic_fetch_add(&rush->answered, 1);
}

static bool all_but_the_queued_are_answered(void *arg) {
    struct rush *rush = arg;

    return atomic_load(&rush->answered) == CLIENTS - QUEUE_MAX;
}

static void expect_refusal(const struct reply *reply) {
    cr_assert_eq(reply->status, 503, "%d %s", reply->status, reply->body);
    cr_assert_str_eq(reply->code, "overloaded");
    cr_assert(reply->retry_after);
}

static double refusals_metric(void) {
    return replica_metric(&replica, "daybook_http_requests_total{method=\"POST\",route=\"/accounts/"
                                    "{id}/deposit\",status=\"503\"}");
}

static int compare_seconds(const void *a, const void *b) {
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* How long a refusal takes, one after another on one connection: the median. */
static double probe_refusals(const char *stream) {
    double seconds[PROBES];

    for (size_t i = 0; i < PROBES; i++) {
        const struct reply reply = command_send(&(struct command){
            .base = replica.base, .stream = stream, .action = "deposit", .amount_minor = 100});
        expect_refusal(&reply);
        seconds[i] = reply.seconds;
    }
    qsort(seconds, PROBES, sizeof(seconds[0]), compare_seconds);
    return seconds[PROBES / 2];
}

static double append_batches(void) {
    return replica_metric(&replica, "daybook_append_batch_size_count");
}

static bool both_plugs_are_sent(void *arg) {
    return append_batches() >= *(const double *)arg;
}

/* The shard is held in an append and has another behind it: eight commands fit its queue, all
 * others are refused while it is still held. */
static void overload_once(void) {
    struct rush rush = {0};
    struct rush plugs[2] = {{.answered = 0}, {.answered = 0}};
    struct crowd *plug_clients[2];
    double worst = 0;
    int refused = 0;
    const double refusals_before = refusals_metric();

    (void)snprintf(rush.stream, sizeof(rush.stream), "%s", command_open(replica.base, "rush"));
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(plugs[i].stream, sizeof(plugs[i].stream), "%s",
                       command_open(replica.base, "plug"));
    }
    struct log_hold *hold = log_hold(plugs[0].stream, 2, NULL);
    double batches = append_batches() + 2;
    plug_clients[0] = crowd_start(1, rush_one, &plugs[0]);
    log_expect_waiting(session_name, 1);
    plug_clients[1] = crowd_start(1, rush_one, &plugs[1]);
    cr_assert(eventually(both_plugs_are_sent, &batches, 10000));
    struct crowd *crowd = crowd_start(CLIENTS, rush_one, &rush);
    cr_assert(eventually(all_but_the_queued_are_answered, &rush, 10000), "%zu answered",
              atomic_load(&rush.answered));
    cr_assert_eq(refusals_metric() - refusals_before, CLIENTS - QUEUE_MAX, "and it is counted");
    const double median = probe_refusals(rush.stream);
    log_release(hold);
    crowd_join(plug_clients[0]);
    crowd_join(plug_clients[1]);
    crowd_join(crowd);
    for (size_t i = 0; i < CLIENTS; i++) {
        const struct reply *reply = &rush.replies[i];
        if (reply->status != 200) {
            expect_refusal(reply);
            worst = reply->seconds > worst ? reply->seconds : worst;
            refused++;
        }
    }
    printf("overload: %d of %d refused, the slowest after %.1f ms; one by one %.2f ms\n", refused,
           CLIENTS, worst * 1e3, median * 1e3);
    cr_assert_eq(refused, CLIENTS - QUEUE_MAX);
    cr_assert_lt(worst, 1.0);
    cr_assert_lt(median, 0.01);
    cr_assert_eq(plugs[0].replies[0].status, 200);
    cr_assert_eq(plugs[1].replies[0].status, 200);
    cr_assert_eq(log_expect_sound(rush.stream), 1 + QUEUE_MAX, "refused means not done");
    (void)command_expect(
        &(struct command){
            .base = replica.base, .stream = rush.stream, .action = "deposit", .amount_minor = 100},
        200);
}

Test(overload, full_queues_refuse_at_once_and_recover) {
    for (int round = 0; round < fault_rounds(); round++) {
        overload_once();
    }
}

struct flood {
    char accounts[FLOOD_ACCOUNTS][96];
    atomic_bool over;
    atomic_long accepted, refused, other;
    struct reply last_other;
};

static void flood_one(void *context, size_t client) {
    struct flood *flood = context;
    unsigned random = (unsigned)client + 1;

    while (!atomic_load(&flood->over)) {
        const struct reply reply = command_send(
            &(struct command){.base = replica.base,
                              .stream = flood->accounts[crowd_random(&random) % FLOOD_ACCOUNTS],
                              .action = "deposit",
                              .amount_minor = 1});
        if (reply.status == 200) {
            atomic_fetch_add(&flood->accepted, 1);
        } else if (reply.status == 503 && strcmp(reply.code, "overloaded") == 0) {
            atomic_fetch_add(&flood->refused, 1);
        } else if (atomic_fetch_add(&flood->other, 1) == 0) {
            flood->last_other = reply;
        }
    }
}

static bool is_past(void *arg) {
    return now_seconds() >= *(const double *)arg;
}

Test(overload, memory_stays_flat_under_a_flood) {
    struct flood flood = {0};
    const int rounds = fault_rounds();
    const int wanted = FLOOD_SECONDS * rounds;
    const int seconds = wanted < FLOOD_SECONDS_MAX ? wanted : FLOOD_SECONDS_MAX;
    char prefix[96];

    (void)snprintf(prefix, sizeof(prefix), "%s", fresh_id("flood"));
    for (size_t i = 0; i < FLOOD_ACCOUNTS; i++) {
        (void)snprintf(flood.accounts[i], sizeof(flood.accounts[i]), "%s",
                       command_open(replica.base, prefix));
    }
    struct crowd *crowd = crowd_start(CLIENTS, flood_one, &flood);
    double until = now_seconds() + 1.0;
    cr_assert(eventually(is_past, &until, 10000));
    const long warm_kib = replica_rss_kib(&replica);
    until = now_seconds() + seconds;
    cr_assert(eventually(is_past, &until, seconds * 1000 + 10000));
    const long rss_kib = replica_rss_kib(&replica);
    atomic_store(&flood.over, true);
    crowd_join(crowd);
    printf("flood of %d s: %ld accepted, %ld refused; RSS %ld KiB, then %ld KiB\n", seconds,
           atomic_load(&flood.accepted), atomic_load(&flood.refused), warm_kib, rss_kib);
    cr_assert_eq(atomic_load(&flood.other), 0, "%d %s", flood.last_other.status,
                 flood.last_other.body);
    cr_assert_gt(atomic_load(&flood.accepted), 0);
    cr_assert_gt(atomic_load(&flood.refused), 0, "it was no overload");
    cr_assert_lt(rss_kib - warm_kib, RSS_GROWTH_KIB_MAX);
    cr_assert_eq(log_expect_sound(prefix), FLOOD_ACCOUNTS + atomic_load(&flood.accepted));
    (void)command_expect(&(struct command){.base = replica.base,
                                           .stream = flood.accounts[0],
                                           .action = "deposit",
                                           .amount_minor = 1},
                         200);
}
