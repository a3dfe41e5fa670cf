/* What an event says about itself beside its payload, and its time, over several replicas. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "../support/command.h"
#include "../support/crowd.h"
#include "../support/environment.h"
#include "../support/event_log.h"
#include "../support/replica.h"

enum { REPLICAS = 3, CLIENTS = 12, DEPOSITS = 10 };

static struct replica replicas[REPLICAS];

static void start_replicas(void) {
    for (size_t i = 0; i < REPLICAS; i++) {
        replica_start(&replicas[i], NULL);
    }
}

static void stop_replicas(void) {
    for (size_t i = 0; i < REPLICAS; i++) {
        replica_stop(&replicas[i]);
    }
}

TestSuite(metadata, .init = start_replicas, .fini = stop_replicas, .timeout = 120);

static const char *last_event(const char *columns, const char *stream) {
    char sql[512];

    (void)snprintf(sql, sizeof(sql),
                   "SELECT concat_ws('|', %s) FROM daybook.events WHERE stream_id = $1"
                   " ORDER BY version DESC LIMIT 1",
                   columns);
    return log_text(sql, stream, NULL);
}

Test(metadata, comes_from_the_headers) {
    const char *id = command_open(replicas[0].base, "meta");

    (void)command_expect(
        &(struct command){.base = replicas[0].base,
                          .stream = id,
                          .action = "deposit",
                          .amount_minor = 100,
                          .correlation_id = "order-77",
                          .causation_id = "invoice-12",
                          .actor = "teller:J\xc3\xbcrgen",
                          .traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        200);
    cr_assert_str_eq(last_event("correlation_id, causation_id, actor, traceparent, command,"
                                " event_type, schema_version",
                                id),
                     "order-77|invoice-12|teller:J\xc3\xbcrgen|"
                     "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01|Deposit|"
                     "MoneyDeposited|1");
}

Test(metadata, without_headers_only_a_correlation_id_is_made) {
    const char *id = command_open(replicas[0].base, "meta");

    cr_assert_str_eq(last_event("length(correlation_id), substr(correlation_id, 15, 1),"
                                " causation_id IS NULL, actor IS NULL, traceparent IS NULL,"
                                " command, event_type",
                                id),
                     "36|7|t|t|t|OpenAccount|AccountCreated");
}

/* W3C Trace Context: what isn't well-formed is not passed on. */
Test(metadata, an_ill_formed_traceparent_is_dropped) {
    static const char *const wrong[] = {
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
    };
    const char *id = command_open(replicas[0].base, "meta");

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        (void)command_expect(&(struct command){.base = replicas[0].base,
                                               .stream = id,
                                               .action = "deposit",
                                               .amount_minor = 100,
                                               .traceparent = wrong[i]},
                             200);
        cr_assert_str_eq(last_event("traceparent IS NULL", id), "t", "%s", wrong[i]);
    }
}

/* Version, variant, and the time inside the id is the recorded one. */
static void expect_event_ids(const char *stream) {
    cr_assert_eq(
        log_number(
            "SELECT count(*) FROM (SELECT replace(event_id::text, '-', '') AS id,"
            "  floor(extract(epoch FROM recorded_at) * 1000)::bigint AS recorded_ms"
            "  FROM daybook.events WHERE stream_id = $1) e"
            " WHERE substr(id, 13, 1) <> '7' OR substr(id, 17, 1) NOT IN ('8', '9', 'a', 'b')"
            "  OR abs(('x' || lpad(substr(id, 1, 12), 16, '0'))::bit(64)::bigint -"
            "   recorded_ms) > 1000",
            stream, NULL),
        0);
}

static void deposit_some(void *context, size_t client) {
    for (size_t i = 0; i < DEPOSITS; i++) {
        struct reply reply;
        do {
            reply = command_send(&(struct command){.base = replicas[(client + i) % REPLICAS].base,
                                                   .stream = context,
                                                   .action = "deposit",
                                                   .amount_minor = 1});
        } while (strcmp(reply.code, "version_conflict") == 0);
    }
}

Test(metadata, recorded_times_never_step_back_over_replicas) {
    char id[96];

    (void)snprintf(id, sizeof(id), "%s", command_open(replicas[0].base, "times"));
    crowd_run(CLIENTS, deposit_some, id);
    cr_assert_eq(log_expect_sound(id), 1 + CLIENTS * DEPOSITS);
    expect_event_ids(id);
}

/* The last event was recorded by a replica whose clock is an hour ahead of all others. */
Test(metadata, a_clock_that_is_behind_stands_still) {
    char id[96];

    (void)snprintf(id, sizeof(id), "%s", command_open(replicas[0].base, "behind"));
    log_write_elsewhere(id, 2, 100, "now() + interval '1 hour'");
    for (size_t i = 0; i < (size_t)2 * REPLICAS; i++) {
        const struct reply reply =
            command_expect(&(struct command){.base = replicas[i % REPLICAS].base,
                                             .stream = id,
                                             .action = "deposit",
                                             .amount_minor = 100},
                           200);
        cr_assert_eq(reply.version, (long long)i + 3);
    }
    (void)log_expect_sound(id);
    cr_assert_eq(log_number("SELECT count(*) FROM daybook.events WHERE stream_id = $1"
                            " AND recorded_at > now() + interval '50 minutes'",
                            id, NULL),
                 1 + 2 * REPLICAS);
    expect_event_ids(id);
}
