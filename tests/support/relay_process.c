#include "relay_process.h"

#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "environment.h"
#include "http_client.h"

enum { SQL_BYTES = 4096, OUTPUT_BYTES = 16384, LOADERS = 2, STREAMS = 40, BATCHES_PER_S = 40 };

const char *fresh_name(const char *prefix) {
    static char names[8][96];
    static unsigned turn;
    char *name = names[turn++ % 8];

    (void)snprintf(name, sizeof(names[0]), "%s", fresh_id(prefix));
    for (char *c = name; *c != '\0'; c++) {
        *c = *c == '-' ? '_' : *c;
    }
    name[50] = '\0';
    return name;
}

/* --- processes --- */

static const char *environment_of(const struct relay_process *relay, const char *extra) {
    static char text[SQL_BYTES];

    (void)snprintf(text, sizeof(text),
                   "DAYBOOK_HTTP_PORT=%d DAYBOOK_SLOT=%s DAYBOOK_TOPIC=%s DAYBOOK_FENCE_MS=%d "
                   "DAYBOOK_WRITE_DATABASE_URL='%s' DAYBOOK_KAFKA_BROKERS=%s "
                   "DAYBOOK_STANDBY_RETRY_MS=100 %s %s",
                   relay->port, relay->slot, relay->topic, RELAY_FENCE_MS,
                   stack_environment("DAYBOOK_TEST_RELAY_URL"),
                   stack_environment("DAYBOOK_TEST_KAFKA_BROKERS"),
                   relay->settings != NULL ? relay->settings : "", extra);
    return text;
}

struct relay_process relay_fresh(const char *prefix, int port) {
    static char slot[64];
    static char topic[64];

    (void)snprintf(slot, sizeof(slot), "%s", fresh_name(prefix));
    (void)snprintf(topic, sizeof(topic), "%s", fresh_name(prefix));
    return (struct relay_process){.slot = slot, .topic = topic, .port = port};
}

void relay_start(struct relay_process *relay, const char *extra) {
    char line[SQL_BYTES + 256];

    (void)snprintf(line, sizeof(line), "exec env %s '%s/daybook-relay' >>build/relay-test.log 2>&1",
                   environment_of(relay, extra), stack_environment("DAYBOOK_BIN_DIR"));
    relay->pid = fork();
    cr_assert_geq(relay->pid, 0);
    if (relay->pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that is cut short leaves nothing behind */
        (void)execl("/bin/sh", "sh", "-c", line, (char *)NULL);
        _exit(127);
    }
}

void relay_signal(struct relay_process *relay, int signal) {
    if (relay->pid == 0) {
        return;
    }
    (void)kill(relay->pid, signal);
    if (signal == SIGKILL || signal == SIGTERM) {
        (void)waitpid(relay->pid, NULL, 0);
        relay->pid = 0;
    }
}

const char *relay_ready(const struct relay_process *relay) {
    static char text[2048];
    char url[64];

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/ready", relay->port);
    struct http_answer a = http_get(url);
    (void)snprintf(text, sizeof(text), "%s", a.body != NULL ? a.body : "");
    http_answer_release(&a);
    return text;
}

bool relay_says(const struct relay_process *relay, const char *text, int limit_ms) {
    const double deadline = now_seconds() + limit_ms / 1000.0;

    while (strstr(relay_ready(relay), text) == NULL) {
        if (now_seconds() > deadline) {
            return false;
        }
        pause_ms(20);
    }
    return true;
}

double relay_metric(const struct relay_process *relay, const char *name) {
    char url[64];
    char line[128];
    double value = -1;

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/metrics", relay->port);
    (void)snprintf(line, sizeof(line), "\n%s ", name);
    struct http_answer a = http_get(url);
    const char *at = a.body != NULL ? strstr(a.body, line) : NULL;
    if (at != NULL) {
        value = strtod(at + strlen(line), NULL);
    }
    http_answer_release(&a);
    return value;
}

const char *relay_sql(const char *format, ...) {
    static char value[256];
    char text[SQL_BYTES];
    va_list args;

    va_start(args, format);
    const int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    cr_assert_lt(len, SQL_BYTES);
    PGconn *pg = PQconnectdb(stack_environment("DAYBOOK_TEST_SUPERUSER_URL"));
    PGresult *result = PQexec(pg, text);
    const ExecStatusType status = PQresultStatus(result);
    cr_assert(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK, "%s: %s", text,
              PQerrorMessage(pg));
    (void)snprintf(value, sizeof(value), "%s",
                   PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    PQfinish(pg);
    return value;
}

void relay_await_idle(const struct relay_process *relay, int limit_ms) {
    const double deadline = now_seconds() + limit_ms / 1000.0;
    const char *state = "";
    char mark[64];

    /* All that was committed before lies before it in the log; and it is long enough for a slot
     * that has nothing else to confirm. */
    (void)snprintf(mark, sizeof(mark), "%s",
                   relay_sql("SELECT pg_logical_emit_message(true, 'test', repeat('-', 100000))"));
    for (;;) {
        state = relay_sql("SELECT active AND confirmed_flush_lsn > '%s' FROM pg_replication_slots"
                          " WHERE slot_name = '%s'",
                          mark, relay->slot);
        if (strcmp(state, "t") == 0 && strstr(relay_ready(relay), "\"status\":\"ready\"") != NULL &&
            relay_metric(relay, "daybook_relay_in_flight") == 0 &&
            relay_metric(relay, "daybook_relay_catching_up") <= 0) {
            return;
        }
        cr_assert_lt(now_seconds(), deadline, "slot %s: %s, ready: %s", relay->slot, state,
                     relay_ready(relay));
        pause_ms(20);
    }
}

int relay_command(const struct relay_process *relay, const char *command, const char **output) {
    static char text[OUTPUT_BYTES];
    char line[SQL_BYTES + 256];
    size_t len = 0;

    (void)snprintf(line, sizeof(line), "env %s '%s/daybook-relay' %s 2>&1",
                   environment_of(relay, ""), stack_environment("DAYBOOK_BIN_DIR"), command);
    FILE *pipe = popen(line, "r");
    cr_assert_not_null(pipe);
    for (size_t got = 1; got > 0 && len < sizeof(text) - 1; len += got) {
        got = fread(text + len, 1, sizeof(text) - 1 - len, pipe);
    }
    text[len] = '\0';
    *output = text;
    const int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int relay_verify(const struct relay_process *relay, const char **output) {
    return relay_command(relay, "verify", output);
}

void relay_expect_exact(const struct relay_process *relay, bool repeats) {
    const char *output = "";

    cr_assert_eq(relay_verify(relay, &output), 0, "%s", output);
    if (!repeats) {
        cr_assert_not_null(strstr(output, " 0 repeated"), "%s", output);
    }
}

void relay_drop_slot(const char *slot) {
    const double deadline = now_seconds() + 15;

    for (;;) {
        (void)relay_sql("SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
                        " WHERE slot_name = '%s' AND active",
                        slot);
        (void)relay_sql("DO $$ BEGIN PERFORM pg_drop_replication_slot(slot_name) FROM"
                        " pg_replication_slots WHERE slot_name = '%s'; EXCEPTION WHEN OTHERS THEN"
                        " NULL; END $$",
                        slot);
        if (strcmp(
                relay_sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '%s'", slot),
                "0") == 0) {
            return;
        }
        cr_assert_lt(now_seconds(), deadline, "the slot can't be dropped");
    }
}

/* --- load --- */

struct loader {
    struct relay_load *load;
    pthread_t thread;
    int number;
    long committed;
};

struct relay_load {
    atomic_bool stopped;
    char prefix[96];
    char url[512];
    int batch;
    struct loader loaders[LOADERS];
};

/* One transaction: some streams get their next events. What a lost connection left open is seen by
 * the next one's max(version). */
static bool append_some(PGconn *pg, const struct loader *loader, unsigned turn) {
    char sql[SQL_BYTES];
    const int streams = loader->load->batch < STREAMS ? loader->load->batch : STREAMS;

    (void)snprintf(
        sql, sizeof(sql),
        "BEGIN; SET LOCAL synchronous_commit = off; INSERT INTO daybook.events (event_id,"
        " aggregate_type, stream_id, version, event_type, schema_version, payload, recorded_at)"
        " SELECT gen_random_uuid(), 'account', s.id, s.last + v, CASE s.last + v WHEN 1 THEN"
        " 'AccountCreated' ELSE 'MoneyDeposited' END, 1, CASE s.last + v WHEN 1 THEN"
        " json_build_object('currency', 'USD') ELSE json_build_object('amount_minor', 1,"
        " 'balance_minor', s.last + v - 1, 'currency', 'USD') END, now()"
        " FROM (SELECT id, coalesce((SELECT max(version) FROM daybook.events e WHERE e.stream_id ="
        " id), 0) AS last FROM (SELECT format('%s-%d-%%s', (n + %u) %% %d) AS id FROM"
        " generate_series(1, %d) n) i) s, generate_series(1, %d) v; SELECT pg_sleep(0.002); %s",
        loader->load->prefix, loader->number, turn * 7, STREAMS, streams,
        loader->load->batch / streams, turn % 10 == 9 ? "ROLLBACK" : "COMMIT");
    PGresult *result = PQexec(pg, sql);
    const bool done = PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);
    return done && turn % 10 != 9;
}

static void *loader_main(void *arg) {
    struct loader *loader = arg;
    PGconn *pg = NULL;

    for (unsigned turn = 0; !loader->load->stopped; turn++) {
        if (pg == NULL || PQstatus(pg) != CONNECTION_OK) {
            PQfinish(pg);
            pg = PQconnectdb(loader->load->url);
        }
        if (PQstatus(pg) == CONNECTION_OK && append_some(pg, loader, turn)) {
            loader->committed += loader->load->batch;
        }
        pause_ms(1000 / (BATCHES_PER_S / LOADERS));
    }
    PQfinish(pg);
    return NULL;
}

struct relay_load *relay_load_start(const char *prefix, int events_per_s) {
    struct relay_load *load = calloc(1, sizeof(*load));

    cr_assert_not_null(load);
    (void)snprintf(load->prefix, sizeof(load->prefix), "%s", fresh_id(prefix));
    (void)snprintf(load->url, sizeof(load->url), "%s",
                   stack_environment("DAYBOOK_TEST_SUPERUSER_URL"));
    load->batch = events_per_s / BATCHES_PER_S > 0 ? events_per_s / BATCHES_PER_S : 1;
    for (int i = 0; i < LOADERS; i++) {
        load->loaders[i] = (struct loader){.load = load, .number = i};
        cr_assert_eq(pthread_create(&load->loaders[i].thread, NULL, loader_main, &load->loaders[i]),
                     0);
    }
    return load;
}

long relay_load_stop(struct relay_load *load) {
    long committed = 0;

    load->stopped = true;
    for (int i = 0; i < LOADERS; i++) {
        (void)pthread_join(load->loaders[i].thread, NULL);
        committed += load->loaders[i].committed;
    }
    free(load);
    return committed;
}
