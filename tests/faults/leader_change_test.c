/* A second broker leads half of the topic's partitions and is killed, and told to end, under load:
 * leadership moves to the first one, and back when the second is there again. In the end the topic
 * has each event of the table once, per stream in order. */
#include <criterion/criterion.h>
#include <librdkafka/rdkafka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "../support/environment.h"
#include "../support/relay_process.h"
#include "../support/topic.h"
#include "rounds.h"

enum { PORT = 17985, RATE = 2000, LIMIT_MS = 90000, SECOND = 2, LOAD_MS = 700 };

static struct relay_process relay;

static void set_up(void) {
    fault_begin();
    relay = relay_fresh("leader", PORT);
}

static void tear_down(void) {
    relay_signal(&relay, SIGTERM);
    relay_drop_slot(relay.slot);
    (void)stack("stop", "kafka-2");
}

TestSuite(leader_change, .init = set_up, .fini = tear_down, .timeout = FAULT_TIMEOUT_S);

static bool leads(void *arg) {
    return topic_led_by(relay.topic, SECOND) == *(const int *)arg;
}

static void expect_led_by_second(int partitions) {
    cr_assert(eventually(leads, &partitions, LIMIT_MS), "the second broker leads %d, not %d",
              topic_led_by(relay.topic, SECOND), partitions);
}

/* Leadership goes away and comes back; events are published before, between and after. */
static void move_leadership(const char *verb, const char *how) {
    const double begin = now_seconds();

    cr_assert(stack(verb, "kafka-2"));
    expect_led_by_second(0);
    (void)fprintf(stderr, "leadership moved from a broker that was %s in %.1f s\n", how,
                  now_seconds() - begin);
    const double published = relay_metric(&relay, "daybook_relay_events_published_total");
    const double deadline = now_seconds() + LIMIT_MS / 1000.0;
    while (relay_metric(&relay, "daybook_relay_events_published_total") <= published + RATE / 2) {
        cr_assert_lt(now_seconds(), deadline, "nothing is published: %s", relay_ready(&relay));
        pause_ms(20);
    }
    cr_assert(stack("start", "kafka-2"));
    expect_led_by_second(3);
    pause_ms(LOAD_MS);
}

Test(leader_change, each_event_is_there_once_when_leadership_moves_under_load) {
    cr_assert(stack("start", "kafka-2"));
    relay_start(&relay, "DAYBOOK_TOPIC_REPLICATION=2");
    relay_await_idle(&relay, LIMIT_MS);
    expect_led_by_second(3);
    struct relay_load *load = relay_load_start("leader", RATE);
    pause_ms(LOAD_MS);
    for (int i = 0; i < fault_rounds(); i++) {
        move_leadership("kill", "killed");
        move_leadership("stop", "told to end");
    }
    cr_assert_gt(relay_load_stop(load), 0);
    relay_await_idle(&relay, LIMIT_MS);
    relay_expect_exact(&relay, false);
}
