/* The broker is away while events are committed all the time: commands go on, the relay holds what
 * it has within its bounds, and goes on where it was.
 *
 * DAYBOOK_TEST_OUTAGE_S: for how long (8). */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../support/command.h"
#include "../support/environment.h"
#include "../support/relay_process.h"

/* Few enough to be reached before the relay holds back because the broker is late. */
enum { PORT = 17994, RATE = 2000, LIMIT_MS = 90000, DEFAULT_OUTAGE_S = 8, IN_FLIGHT = 200 };
enum { GROWTH_KIB_MAX = 32 * 1024, DEPOSIT_MS_MAX = 5000 };

static struct relay_process relay;

static void set_up(void) {
    static char settings[64];

    (void)snprintf(settings, sizeof(settings), "DAYBOOK_IN_FLIGHT_MAX=%d", IN_FLIGHT);
    relay = relay_fresh("outage", PORT);
    relay.settings = settings;
}

static void tear_down(void) {
    relay_signal(&relay, SIGTERM);
    relay_drop_slot(relay.slot);
}

TestSuite(relay_outage, .init = set_up, .fini = tear_down, .timeout = 900);

static long resident_kib(pid_t pid) {
    char path[64];
    char line[128];
    long kib = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "VmRSS:", 6) == 0) {
            kib = strtol(line + 6, NULL, 10);
        }
    }
    (void)fclose(file);
    return kib;
}

struct outage {
    long deposits;
    double slowest_s;
    double in_flight;
    long resident_kib;
};

/* One deposit after the other, as a user who notices nothing makes them. */
static void live_through(struct outage *outage, const char *account, double seconds) {
    const char *base = stack_environment("DAYBOOK_TEST_COMMAND_API");
    const double until = now_seconds() + seconds;

    while (now_seconds() < until) {
        const struct command deposit = {
            .base = base, .stream = account, .action = "deposit", .amount_minor = 100};
        const struct reply reply = command_expect(&deposit, 200);
        outage->deposits++;
        outage->slowest_s = reply.seconds > outage->slowest_s ? reply.seconds : outage->slowest_s;
        const double in_flight = relay_metric(&relay, "daybook_relay_in_flight");
        outage->in_flight = in_flight > outage->in_flight ? in_flight : outage->in_flight;
        const long kib = resident_kib(relay.pid);
        outage->resident_kib = kib > outage->resident_kib ? kib : outage->resident_kib;
        pause_ms(20);
    }
}

static double outage_seconds(void) {
    const char *value = getenv("DAYBOOK_TEST_OUTAGE_S");

    return value != NULL && strtod(value, NULL) > 0 ? strtod(value, NULL) : DEFAULT_OUTAGE_S;
}

static void start_broker(void) {
    const double deadline = now_seconds() + 60;

    while (!stack("start", "kafka")) {
        cr_assert_lt(now_seconds(), deadline, "the broker does not start");
        pause_ms(200);
    }
}

Test(relay_outage, commands_go_on_without_a_broker_and_the_relay_goes_on_where_it_was) {
    struct outage outage = {0};

    relay_start(&relay, "");
    relay_await_idle(&relay, LIMIT_MS);
    const char *account =
        command_open(stack_environment("DAYBOOK_TEST_COMMAND_API"), "without-broker");
    struct relay_load *load = relay_load_start("outage", RATE);
    pause_ms(2000);
    const long before_kib = resident_kib(relay.pid);
    cr_assert(stack("kill", "kafka"));
    live_through(&outage, account, outage_seconds());
    cr_assert_not_null(strstr(relay_ready(&relay), "not_ready"), "%s", relay_ready(&relay));
    cr_assert_gt(relay_metric(&relay, "daybook_relay_lag_seconds"), 0);
    start_broker();
    const double back = now_seconds();
    cr_assert(relay_says(&relay, "\"status\":\"ready\"", LIMIT_MS), "%s", relay_ready(&relay));
    const double ready_s = now_seconds() - back;
    const long committed = relay_load_stop(load);
    relay_await_idle(&relay, LIMIT_MS);
    (void)fprintf(stderr,
                  "relay_outage: %.0f s without a broker, %ld events committed, %ld deposits, the "
                  "slowest %.0f ms; in flight at most %.0f, resident %ld KiB before, %ld at most; "
                  "ready %.1f s and nothing left %.1f s after it was back\n",
                  outage_seconds(), committed, outage.deposits, outage.slowest_s * 1000,
                  outage.in_flight, before_kib, outage.resident_kib, ready_s, now_seconds() - back);
    cr_assert_eq(outage.in_flight, IN_FLIGHT, "the bound is reached, and kept");
    cr_assert_lt(outage.resident_kib, before_kib + GROWTH_KIB_MAX);
    cr_assert_lt(outage.slowest_s * 1000, DEPOSIT_MS_MAX);
    relay_expect_exact(&relay, false);
}
