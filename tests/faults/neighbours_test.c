/*
 * One command's misfortune is its own. A replica with one shard; its session is held at one append
 * (the first plug) and has another behind it (the second), so that all that comes meanwhile is one
 * batch.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <time.h>

#include "../support/command.h"
#include "../support/crowd.h"
#include "../support/environment.h"
#include "../support/event_log.h"
#include "../support/replica.h"
#include "rounds.h"

enum { NEIGHBOURS = 24, PLUGS = 2 };

static struct replica replica;
static char session_name[96];
static double idle_in_flight; /* the request for the metrics may count itself */

static double in_flight(void) {
    return replica_metric(&replica, "daybook_http_in_flight ");
}

static void start_one_shard(void) {
    fault_begin();
    (void)snprintf(session_name, sizeof(session_name), "%s", fresh_id("one"));
    replica_start(&replica,
                  &(struct replica_options){
                      .session_name = session_name,
                      .settings = {"DAYBOOK_SHARDS=1", "DAYBOOK_STATEMENT_TIMEOUT_MS=20000"}});
    idle_in_flight = in_flight();
}

static void stop_one_shard(void) {
    replica_stop(&replica);
}

TestSuite(neighbours, .init = start_one_shard, .fini = stop_one_shard, .timeout = FAULT_TIMEOUT_S);

struct sent {
    char stream[96];
    char key[96];
    struct command command;
    struct reply reply;
};

struct batch {
    struct log_hold *hold;
    struct crowd *plug_clients[PLUGS];
    struct crowd *clients;
    double batches_before;
    struct sent plugs[PLUGS];
    struct sent sent[NEIGHBOURS];
};

static void prepare(struct sent *sent, const char *prefix) {
    *sent = (struct sent){0};
    (void)snprintf(sent->stream, sizeof(sent->stream), "%s", command_open(replica.base, prefix));
    sent->command = (struct command){
        .base = replica.base, .stream = sent->stream, .action = "deposit", .amount_minor = 100};
}

static void send_plug(void *context, size_t index) {
    struct sent *plug = context;

    (void)index;
    plug->reply = command_send(&plug->command);
}

static void send_one(void *context, size_t index) {
    struct batch *batch = context;

    batch->sent[index].reply = command_send(&batch->sent[index].command);
}

static bool all_wait(void *arg) {
    (void)arg;
    return in_flight() >= idle_in_flight + NEIGHBOURS + PLUGS;
}

static void prepare_batch(struct batch *batch) {
    for (size_t i = 0; i < PLUGS; i++) {
        prepare(&batch->plugs[i], "plug");
    }
    for (size_t i = 0; i < NEIGHBOURS; i++) {
        prepare(&batch->sent[i], "neighbour");
    }
}

static double batches(void) {
    return replica_metric(&replica, "daybook_append_batch_size_count");
}

static bool both_plugs_are_sent(void *arg) {
    const struct batch *batch = arg;

    return batches() - batch->batches_before >= PLUGS;
}

static void start_batch(struct batch *batch) {
    batch->batches_before = batches();
    batch->hold = log_hold(batch->plugs[0].stream, 2, NULL);
    batch->plug_clients[0] = crowd_start(1, send_plug, &batch->plugs[0]);
    log_expect_waiting(session_name, 1);
    batch->plug_clients[1] = crowd_start(1, send_plug, &batch->plugs[1]);
    cr_assert(eventually(both_plugs_are_sent, batch, 10000));
    batch->clients = crowd_start(NEIGHBOURS, send_one, batch);
    cr_assert(eventually(all_wait, NULL, 10000));
}

static void finish_batch(struct batch *batch) {
    log_release(batch->hold);
    for (size_t i = 0; i < PLUGS; i++) {
        crowd_join(batch->plug_clients[i]);
        cr_assert_eq(batch->plugs[i].reply.status, 200, "%s", batch->plugs[i].reply.body);
    }
    crowd_join(batch->clients);
}

/* All but `odd` are accepted; each stream is sound. */
static void expect_accepted_but(const struct batch *batch, size_t odd) {
    for (size_t i = 0; i < NEIGHBOURS; i++) {
        const struct sent *sent = &batch->sent[i];
        if (i != odd) {
            cr_assert_eq(sent->reply.status, 200, "%zu: %d %s", i, sent->reply.status,
                         sent->reply.body);
        }
        (void)log_expect_sound(sent->command.stream);
    }
}

/* The database refuses one command's row. */
Test(neighbours, a_row_that_the_database_refuses_fails_alone) {
    enum { POISONED = NEIGHBOURS / 2 };
    struct batch batch;
    char sql[512];
    char actor[96];

    (void)snprintf(actor, sizeof(actor), "%s", fresh_id("poison"));
    (void)snprintf(sql, sizeof(sql),
                   "ALTER TABLE daybook.events ADD CONSTRAINT \"refused %s\""
                   " CHECK (actor IS DISTINCT FROM '%s') NOT VALID",
                   actor, actor);
    log_execute(sql);
    prepare_batch(&batch);
    struct sent *poisoned = &batch.sent[POISONED];
    poisoned->command.actor = actor;
    poisoned->command.key = "poisoned";
    /* Another one on its stream, and one with a key. */
    batch.sent[POISONED + 1].command.stream = poisoned->stream;
    batch.sent[POISONED + 2].command.key = "healthy";
    start_batch(&batch);
    finish_batch(&batch);
    (void)snprintf(sql, sizeof(sql), "ALTER TABLE daybook.events DROP CONSTRAINT \"refused %s\"",
                   actor);
    log_execute(sql);
    expect_accepted_but(&batch, POISONED);
    cr_assert_eq(batches() - batch.batches_before, PLUGS + 1, "the plugs and one batch");
    cr_assert_eq(poisoned->reply.status, 500, "%d %s", poisoned->reply.status,
                 poisoned->reply.body);
    cr_assert_eq(log_number("SELECT count(*) FROM daybook.events WHERE actor = $1", actor, NULL),
                 0);
    /* Nothing of it was kept: with the cause gone the same key takes effect. */
    const struct reply later = command_expect(&poisoned->command, 200);
    cr_assert_not(later.replayed);
}

/* Another replica was first on one stream: that one is decided again, with its neighbours. */
Test(neighbours, a_conflict_costs_nobody_a_refusal) {
    enum { CONTENDED = 5 };
    struct batch batch;

    prepare_batch(&batch);
    start_batch(&batch);
    log_write_elsewhere(batch.sent[CONTENDED].stream, 2, 100, "now()");
    finish_batch(&batch);
    expect_accepted_but(&batch, NEIGHBOURS);
    cr_assert_eq(batch.sent[CONTENDED].reply.version, 3);
    cr_assert_eq(batch.sent[CONTENDED].reply.balance_minor, 200);
}

static bool nobody_waits(void *arg) {
    (void)arg;
    return in_flight() <= idle_in_flight;
}

/* Clients that leave while their commands are in hand: the commands were taken and take effect
 * once; those who stay are answered. */
Test(neighbours, clients_that_leave_harm_nobody) {
    for (int round = 0; round < fault_rounds(); round++) {
        struct batch batch;
        prepare_batch(&batch);
        for (size_t i = 0; i < NEIGHBOURS; i += 2) {
            struct sent *leaves = &batch.sent[i];
            (void)snprintf(leaves->key, sizeof(leaves->key), "%s", fresh_id("k"));
            leaves->command.key = leaves->key;
            leaves->command.timeout_ms = 400;
            leaves->command.own_connection = true;
        }
        start_batch(&batch);
        const double leave_at = now_seconds() + 0.5;
        const struct timespec pause = {.tv_nsec = 20000000};
        while (now_seconds() < leave_at) {
            (void)nanosleep(&pause, NULL);
        }
        finish_batch(&batch);
        cr_assert(eventually(nobody_waits, NULL, 10000));
        for (size_t i = 0; i < NEIGHBOURS; i++) {
            struct sent *sent = &batch.sent[i];
            cr_assert_eq(sent->reply.status, i % 2 == 0 ? 0 : 200, "%zu: %d %s", i,
                         sent->reply.status, sent->reply.body);
            cr_assert_eq(log_expect_sound(sent->stream), 2);
            if (i % 2 == 0) {
                sent->command.timeout_ms = 0;
                cr_assert(command_expect(&sent->command, 200).replayed);
            }
        }
        cr_assert(replica_is_running(&replica));
    }
}
