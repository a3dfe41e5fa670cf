/* PostgreSQL's sink in a process that is stopped (SIGSTOP, a suspended machine) while the server
 * has a part of its batch: the rest doesn't come, and the checkpoint is locked until the server
 * ends the session. That takes a minute, which a trigger makes short here. */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/environment.h"
#include "../support/shell.h"
#include "common/adapters/sink_pg.h"
#include "common/base/mem.h"

extern const struct projection activity_projection;

enum {
    DAY,
    TOPIC_PARTITION,
    CURRENCY,
    OPENED,
    CLOSED,
    DEPOSITS,
    WITHDRAWALS,
    DEPOSITED,
    WITHDRAWN
};
enum { STREAM_ID, STREAM_VERSION };
enum {
    PARTITION = 3,
    SHORT_MS = 3000,
    STATEMENT_MS = 15000,
    /* More than the sockets between a client and the server can hold. */
    PAYLOAD_BYTES = 48 * 1024 * 1024,
};

/* Sums, in which what is written twice shows, under names that nobody else uses. */
static struct projection projection;
static char name[64];

static PGconn *watcher;
static pid_t writer;
static int session; /* the writer's */

/* Who may be idle in a transaction for a minute at most may be so for SHORT_MS when he has moved
 * the test's checkpoint; whose time is not limited keeps it. */
static void shorten(void) {
    (void)snprintf(name, sizeof(name), "%s", fresh_id("stopped"));
    projection = activity_projection;
    projection.name = name;
    (void)read_model_sql(
        "CREATE OR REPLACE FUNCTION daybook.test_shorten() RETURNS trigger LANGUAGE plpgsql"
        " AS $$BEGIN"
        " PERFORM set_config(name, '%d', false) FROM pg_settings"
        " WHERE name = 'idle_in_transaction_session_timeout'"
        " AND setting::integer BETWEEN 1 AND 60000; RETURN NEW; END$$;"
        " CREATE OR REPLACE TRIGGER test_shorten BEFORE UPDATE ON daybook.checkpoints FOR EACH ROW"
        " WHEN (NEW.projection = '%s') EXECUTE FUNCTION daybook.test_shorten()",
        SHORT_MS, name);
}

static void leave_nothing(void) {
    PQfinish(watcher);
    if (writer > 0) {
        (void)kill(writer, SIGKILL);
        (void)waitpid(writer, NULL, 0);
    }
    (void)read_model_sql("DROP TRIGGER IF EXISTS test_shorten ON daybook.checkpoints;"
                         " DROP FUNCTION IF EXISTS daybook.test_shorten();"
                         " DELETE FROM daybook.activity WHERE currency = '%s';"
                         " DELETE FROM daybook.activity_streams WHERE account_id = '%s';"
                         " DELETE FROM daybook.parked_events WHERE projection = '%s';"
                         " DELETE FROM daybook.checkpoints WHERE projection = '%s'",
                         name, name, name, name);
}

static struct projection_sink *make(void) {
    return sink_pg_new(&(struct sink_pg_options){
        .url = stack_environment("DAYBOOK_TEST_PROJECTOR_URL"),
        .projection = &projection,
        .connect_timeout_ms = 5000,
        .statement_timeout_ms = STATEMENT_MS,
    });
}

static struct sink_checkpoint at(int64_t next) {
    return (struct sink_checkpoint){.next = next, .version = 1};
}

static enum err_code move(struct projection_sink *sink, int64_t expected, int64_t next) {
    const struct sink_batch batch = {
        .partition = PARTITION, .expected = at(expected), .next = at(next)};

    return sink->ops->apply(sink, &batch, NULL);
}

/* From checkpoint 1 to 2: a deposit, and behind it in the batch a parked event. */
static enum err_code deposit(struct projection_sink *sink, struct str payload) {
    struct row rows[] = {{.table = projection.tables[0]}, {.table = projection.tables[1]}};
    const struct parked_event parked = {.stream_id = STR("poisoned"),
                                        .offset = 1,
                                        .version = 2,
                                        .event_type = STR("MoneyDeposited"),
                                        .payload = payload,
                                        .reason = STR("poison")};
    const struct sink_batch batch = {.partition = PARTITION,
                                     .expected = at(1),
                                     .next = at(2),
                                     .rows = rows,
                                     .row_count = ARRAY_LEN(rows),
                                     .parked = &parked,
                                     .parked_count = 1};

    row_i64(&rows[0], DAY, 0);
    row_i64(&rows[0], TOPIC_PARTITION, PARTITION);
    row_text(&rows[0], CURRENCY, str_from(name));
    for (int column = OPENED; column <= WITHDRAWN; column++) {
        row_i64(&rows[0], column, 0);
    }
    row_i64(&rows[0], DEPOSITS, 1);
    row_i64(&rows[0], DEPOSITED, 500);
    row_text(&rows[1], STREAM_ID, str_from(name));
    row_i64(&rows[1], STREAM_VERSION, 2);
    return sink->ops->apply(sink, &batch, NULL);
}

/* Tries again once, as a replica would that doesn't look at the checkpoint first. Its exit code: 0,
 * or the try that ended in another way than it should. */
static pid_t start_writer(void) {
    const pid_t pid = fork();

    if (pid != 0) {
        return pid;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when it is stopped */
    struct projection_sink *sink = make();
    char *payload = mem_zalloc(PAYLOAD_BYTES);
    if (deposit(sink, str_of(payload, PAYLOAD_BYTES)) != ERR_UNAVAILABLE) {
        _exit(1);
    }
    _exit(deposit(sink, str_of(payload, PAYLOAD_BYTES)) != ERR_FENCED ? 2 : 0);
}

/* The first value, or "". As the projectors' role, which alone sees what its sessions do. */
static const char *ask(const char *format, ...) {
    static char value[64];
    char sql[256];
    va_list args;

    va_start(args, format);
    cr_assert_lt(vsnprintf(sql, sizeof(sql), format, args), (int)sizeof(sql));
    va_end(args);
    PGresult *result = PQexec(watcher, sql);
    const ExecStatusType status = PQresultStatus(result);
    cr_assert(status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK, "%s: %s", sql,
              PQerrorMessage(watcher));
    (void)snprintf(value, sizeof(value), "%s",
                   PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return value;
}

static bool waits_for_the_checkpoint(void *arg) {
    (void)arg;
    session = atoi(ask("SELECT pid FROM pg_locks"
                       " WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"));
    return session != 0;
}

static bool is_idle_in_its_transaction(void *arg) {
    (void)arg;
    return strcmp(ask("SELECT state FROM pg_stat_activity WHERE pid = %d", session),
                  "idle in transaction") == 0;
}

/* Stopped while its batch waits for the checkpoint. Then the server moves that, writes the deposit,
 * and waits for the rest. */
static void stop_writer(void) {
    int status = 0;

    watcher = PQconnectdb(stack_environment("DAYBOOK_TEST_PROJECTOR_URL"));
    (void)ask("BEGIN");
    cr_assert_str_eq(ask("SELECT next_offset FROM daybook.checkpoints WHERE projection = '%s'"
                         " FOR UPDATE",
                         name),
                     "1");
    writer = start_writer();
    cr_assert(eventually(waits_for_the_checkpoint, NULL, 10000));
    cr_assert_eq(kill(writer, SIGSTOP), 0);
    cr_assert_eq(waitpid(writer, &status, WUNTRACED), writer);
    cr_assert(WIFSTOPPED(status));
    (void)ask("ROLLBACK");
    cr_assert(eventually(is_idle_in_its_transaction, NULL, 10000), "not in the middle of it");
}

static void expect_one_deposit(void) {
    cr_assert_str_eq(read_model_sql("SELECT string_agg(deposits || ' ' || deposited_minor, ',')"
                                    " FROM daybook.activity WHERE currency = '%s'",
                                    name),
                     "1 500");
    cr_assert_str_eq(read_model_sql("SELECT count(*) || ' ' || sum(length(payload))"
                                    " FROM daybook.parked_events WHERE projection = '%s'",
                                    name),
                     "1 2");
    cr_assert_str_eq(read_model_sql("SELECT string_agg(next_offset::text, ',')"
                                    " FROM daybook.checkpoints WHERE projection = '%s'",
                                    name),
                     "2");
}

TestSuite(sink_pg, .timeout = 60, .init = shorten, .fini = leave_nothing);

Test(sink_pg, who_is_stopped_in_the_middle_of_a_batch_loses_the_checkpoint_to_another) {
    struct projection_sink *other = make();
    int status = 0;

    cr_assert_eq(move(other, SINK_NO_CHECKPOINT, 1), ERR_OK);
    stop_writer();
    cr_assert_eq(deposit(other, STR("{}")), ERR_OK, "the checkpoint is held");
    expect_one_deposit();
    cr_assert_eq(kill(writer, SIGCONT), 0);
    cr_assert_eq(waitpid(writer, &status, 0), writer);
    writer = 0;
    cr_assert(WIFEXITED(status));
    cr_assert_neq(WEXITSTATUS(status), 1, "its batch has not failed for now");
    cr_assert_neq(WEXITSTATUS(status), 2, "it is not fenced");
    cr_assert_eq(WEXITSTATUS(status), 0);
    expect_one_deposit();
    cr_assert_eq(move(other, 2, 3), ERR_OK, "the other one goes on");
    other->ops->free(other);
}
