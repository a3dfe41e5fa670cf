/* Relays of a test's own: processes with a slot and a topic of the test, on the stack's servers. */
#ifndef DAYBOOK_TESTS_SUPPORT_RELAY_PROCESS_H
#define DAYBOOK_TESTS_SUPPORT_RELAY_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

enum { RELAY_FENCE_MS = 1500 };

struct relay_process {
    const char *slot; /* borrowed */
    const char *topic;
    int port;
    const char *settings; /* "NAME=value …" for all that it runs; NULL: none; borrowed */
    pid_t pid;            /* 0: does not run */
};

/* A slot's and a topic's name that nothing else uses: letters, digits and underscores. Static. */
const char *fresh_name(const char *prefix);
/* One that does not run yet, with a slot and a topic of the test's own. A copy with another port is
 * another relay of the same slot. */
struct relay_process relay_fresh(const char *prefix, int port);
/* Starts it; `extra`: "NAME=value …" for the environment, or "". Its log: build/relay-test.log. */
void relay_start(struct relay_process *relay, const char *extra);
/* Sends the signal; after SIGKILL and SIGTERM waits for the end. */
void relay_signal(struct relay_process *relay, int signal);
/* What /ready says, in a static buffer; "" when nobody answers. */
const char *relay_ready(const struct relay_process *relay);
bool relay_says(const struct relay_process *relay, const char *text, int limit_ms);
/* A metric without labels; -1: not known. */
double relay_metric(const struct relay_process *relay, const char *name);
/* Until the relay is ready, attached to its slot, and has nothing left to publish. */
void relay_await_idle(const struct relay_process *relay, int limit_ms);
/* daybook-relay COMMAND for slot and topic; its exit code, its output in a static buffer. */
int relay_command(const struct relay_process *relay, const char *command, const char **output);
int relay_verify(const struct relay_process *relay, const char **output);
/* Asserts that the topic is the table, event by event; false `repeats`: nothing was repeated. */
void relay_expect_exact(const struct relay_process *relay, bool repeats);
/* Drops the slot, whoever holds it. */
void relay_drop_slot(const char *slot);

/* Runs SQL as superuser in the write database; the first value, in a static buffer. The test fails
 * when it fails. */
const char *relay_sql(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Events in the background: accounts opened and deposits made, straight into the table, by two
 * connections whose transactions interleave, until stopped; outages are waited for. */
struct relay_load;
struct relay_load *relay_load_start(const char *prefix, int events_per_s);
/* How many were committed. */
long relay_load_stop(struct relay_load *load);

#endif
