/* Publication once: two relays share a slot and a topic, events are committed all the time, and at
 * random moments one relay is killed, told to end, or stopped for a while (also until the other has
 * taken over); now and then PostgreSQL or the broker is restarted. In the end the topic has each
 * event of the table once, per stream in order.
 *
 * DAYBOOK_TEST_KILLS: how many blows (20). DAYBOOK_TEST_SEED: of the random choices (the time). */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../support/environment.h"
#include "../support/relay_process.h"

enum { PORT = 17990, RELAYS = 2, RATE = 1500, LIMIT_MS = 90000, DEFAULT_KILLS = 20 };

/* What a blow is; how often of 100. Outages are counted out: one of each in every OUTAGE_EVERY. */
enum blow {
    BLOW_KILL,
    BLOW_TERMINATE,
    BLOW_STOP,
    BLOW_TAKE_OVER,
    BLOW_POSTGRES,
    BLOW_KAFKA,
    BLOWS
};
enum { OUTAGE_EVERY = 40, FIRST_POSTGRES = 7, FIRST_KAFKA = 14 };

static const char *const names[BLOWS] = {"killed",    "terminated",         "stopped",
                                         "took over", "postgres restarted", "kafka restarted"};
static struct relay_process relays[RELAYS];
static unsigned long long random_state;

static unsigned random_below(unsigned limit) {
    random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (unsigned)(random_state >> 33) % limit;
}

static long number_from(const char *name, long otherwise) {
    const char *value = getenv(name);

    return value != NULL && strtol(value, NULL, 10) > 0 ? strtol(value, NULL, 10) : otherwise;
}

static void set_up(void) {
    relays[0] = relay_fresh("kills", PORT);
    for (int i = 1; i < RELAYS; i++) {
        relays[i] = relays[0];
        relays[i].port = PORT + i;
    }
}

static void tear_down(void) {
    for (int i = 0; i < RELAYS; i++) {
        relay_signal(&relays[i], SIGCONT);
        relay_signal(&relays[i], SIGTERM);
    }
    relay_drop_slot(relays[0].slot);
}

static enum blow choose(long number) {
    if (number % OUTAGE_EVERY == FIRST_POSTGRES) {
        return BLOW_POSTGRES;
    }
    if (number % OUTAGE_EVERY == FIRST_KAFKA) {
        return BLOW_KAFKA;
    }
    const unsigned dice = random_below(100);
    return dice < 50   ? BLOW_KILL
           : dice < 70 ? BLOW_TERMINATE
           : dice < 95 ? BLOW_STOP
                       : BLOW_TAKE_OVER;
}

/* The holder is stopped, loses the slot, and goes on when the other one publishes. */
static void make_take_over(void) {
    const char *pid = relay_sql("SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots"
                                " WHERE slot_name = '%s'",
                                relays[0].slot);
    char walsender[32];

    (void)snprintf(walsender, sizeof(walsender), "%s", pid);
    const int holder = relay_metric(&relays[0], "daybook_relay_in_flight") > 0 ? 0 : 1;
    relay_signal(&relays[holder], SIGSTOP);
    (void)relay_sql("SELECT pg_terminate_backend(%s, 5000) WHERE %s > 0", walsender, walsender);
    (void)relay_says(&relays[1 - holder], "\"status\":\"ready\"", 8000);
    relay_signal(&relays[holder], SIGCONT);
}

/* Its port may be taken for a moment after a kill: the kernel closes what a process had. */
static void restart(const char *name) {
    const double deadline = now_seconds() + 60;

    cr_assert(stack("kill", name));
    while (!stack("start", name)) {
        cr_assert_lt(now_seconds(), deadline, "%s does not start", name);
        pause_ms(200);
    }
}

static void strike(enum blow blow) {
    struct relay_process *relay = &relays[random_below(RELAYS)];

    switch (blow) {
    case BLOW_KILL:
    case BLOW_TERMINATE:
        relay_signal(relay, blow == BLOW_KILL ? SIGKILL : SIGTERM);
        relay_start(relay, "");
        break;
    case BLOW_STOP:
        relay_signal(relay, SIGSTOP);
        pause_ms(20 + (long)random_below(400));
        relay_signal(relay, SIGCONT);
        break;
    case BLOW_TAKE_OVER:
        make_take_over();
        break;
    case BLOW_POSTGRES:
        restart("postgres");
        break;
    case BLOW_KAFKA:
        restart("kafka");
        break;
    case BLOWS:
        break;
    }
}

TestSuite(relay_kills, .init = set_up, .fini = tear_down, .timeout = 3600);

Test(relay_kills, each_event_is_in_the_topic_once_and_in_order_whatever_is_killed) {
    const long kills = number_from("DAYBOOK_TEST_KILLS", DEFAULT_KILLS);
    const long seed = number_from("DAYBOOK_TEST_SEED", (long)time(NULL));
    long counts[BLOWS] = {0};

    random_state = (unsigned long long)seed;
    (void)fprintf(stderr, "relay_kills: DAYBOOK_TEST_SEED=%ld\n", seed);
    relay_start(&relays[0], "");
    relay_await_idle(&relays[0], LIMIT_MS);
    relay_start(&relays[1], "");
    struct relay_load *load = relay_load_start("kills", RATE);
    for (long i = 0; i < kills; i++) {
        const enum blow blow = choose(i);
        /* Half of the time a relay gets to publish, half of the time it is hit while starting. */
        pause_ms((long)random_below(random_below(2) == 0 ? 300 : 1500));
        strike(blow);
        counts[blow]++;
    }
    const long committed = relay_load_stop(load);
    cr_assert_gt(committed, kills);
    relay_signal(&relays[1], SIGTERM);
    relay_await_idle(&relays[0], LIMIT_MS);
    relay_expect_exact(&relays[0], false);
    (void)fprintf(stderr, "relay_kills: %ld events committed;", committed);
    for (int i = 0; i < BLOWS; i++) {
        (void)fprintf(stderr, " %s %ld", names[i], counts[i]);
    }
    (void)fprintf(stderr, "\n");
}
