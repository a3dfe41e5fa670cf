/* What an operator asks of the projectors, on a live system: parked streams, verification of damage
 * done by hand, rebuilds while reads go on, a fourth projection, a raised version. */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "../support/environment.h"
#include "../support/event_log.h"
#include "../support/held_rebuild.h"
#include "../support/http_client.h"
#include "../support/shell.h"
#include "../support/topic.h"
#include "common/base/hash.h"

#define GATEWAY "DAYBOOK_TEST_GATEWAY"

static const char *open_account(const char *prefix) {
    static char ids[4][96];
    static unsigned turn;
    char *id = ids[turn++ % 4];
    char body[160];

    (void)snprintf(id, sizeof(ids[0]), "%s", fresh_id(prefix));
    (void)snprintf(body, sizeof(body), "{\"id\":\"%s\"}", id);
    struct http_answer a = http_post(url_of(GATEWAY, "/accounts"), body);
    cr_assert_eq(a.status, 201, "%s", a.body);
    http_answer_release(&a);
    return id;
}

static void deposit(const char *id, int times) {
    for (int i = 0; i < times; i++) {
        struct http_answer a =
            http_post(url_of(GATEWAY, "/accounts/%s/deposit", id), "{\"amount\":1}");
        cr_assert_eq(a.status, 200, "%s", a.body);
        http_answer_release(&a);
    }
}

static bool is_at(const char *id, int version, int timeout_ms) {
    struct http_answer a = http_get(
        url_of(GATEWAY, "/accounts/%s?min_version=%d&timeout_ms=%d", id, version, timeout_ms));
    const bool is = a.status == 200 && http_answer_number(&a, "version") >= version;

    http_answer_release(&a);
    return is;
}

/* Redis itself, since a read falls back on PostgreSQL. */
static bool redis_has_account(void *arg) {
    const char *id = arg;
    const int32_t p = hash_kafka_partition(str_from(id), 6);

    return strncmp(redis_command("EXISTS '{p%d}:account:%s'", (int)p, id), "1", 1) == 0;
}

static bool all_is_verified(void *arg) {
    (void)arg;
    return projector_command("verify") == 0;
}

/* --- records that the relay would never write --- */

struct listing {
    const char *id;
    int lines; /* in how many stores of how many projections */
};

static bool is_parked(void *arg) {
    const struct listing *listing = arg;

    return projector_parked_lines(listing->id) == listing->lines;
}

static void expect_parked(const char *id, int lines) {
    struct listing listing = {id, lines};

    cr_assert(eventually(is_parked, &listing, 20000), "not %d: %s", lines, projector_output());
}

static bool is_degraded(void *arg) {
    struct http_answer a = http_get(url_of("DAYBOOK_TEST_PROJECTOR", "/ready"));
    const bool is = a.status == 200 &&
                    (strcmp(http_answer_text(&a, "status"), "degraded") == 0) == *(const bool *)arg;

    http_answer_release(&a);
    return is;
}

static void start_clean(void) {
    projector_expect("rebuild all");
}

/* Some tests stop it; who fails in between leaves it so. */
static void leave_running(void) {
    (void)stack("start", "projector");
}

TestSuite(projector, .timeout = 120, .init = start_clean, .fini = leave_running);

Test(projector, poison_parks_its_stream_until_it_is_discarded) {
    const char *id = open_account("poison");
    const char *other = open_account("healthy");
    bool degraded = true;

    cr_assert(is_at(id, 1, 5000));
    topic_append_event(id, 2, "{\"amount_minor\":");
    deposit(id, 2); /* the real versions 2 and 3 wait behind it */
    deposit(other, 1);
    cr_assert(is_at(other, 2, 5000), "another stream is held up");
    expect_parked(id, 5);
    cr_assert_not(is_at(id, 2, 100));
    cr_assert(eventually(is_degraded, &degraded, 5000));
    struct http_answer a = http_get(url_of("DAYBOOK_TEST_PROJECTOR", "/metrics"));
    cr_assert_not_null(strstr(a.body, "daybook_projector_parked_streams{projection=\"accounts\""));
    http_answer_release(&a);
    projector_expect("verify"); /* parked as the fold parks it */
    projector_expect("rebuild all");
    expect_parked(id, 5);
    projector_expect("verify");
    projector_parked("show", id);
    cr_assert_not_null(strstr(projector_output(), "{\"amount_minor\":"), "%s", projector_output());
    projector_parked("retry", id); /* it is poison still */
    expect_parked(id, 5);
    projector_parked("discard", id);
    expect_parked(id, 0);
    cr_assert(is_at(id, 3, 5000));
    deposit(id, 1);
    cr_assert(is_at(id, 4, 5000), "the replica doesn't know that the stream is free");
    projector_expect("parked list");
    degraded = strstr(projector_output(), "\n0 parked") == NULL; /* streams of other tests */
    cr_assert(eventually(is_degraded, &degraded, 5000));
    projector_expect("verify");
    projector_expect("rebuild all"); /* what was declared void stays void */
    projector_expect("verify");
    expect_parked(id, 0);
}

Test(projector, a_gap_parks_its_stream_until_it_is_given_up) {
    const char *id = open_account("gap");

    cr_assert(is_at(id, 1, 5000));
    topic_append_event(id, 4, "{\"amount_minor\":100,\"balance_minor\":300,\"currency\":\"USD\"}");
    expect_parked(id, 5);
    projector_parked("discard", id); /* versions 2 and 3 are given up */
    cr_assert(is_at(id, 4, 5000));
    expect_parked(id, 0);
    deposit(id, 1); /* the real version 2: void */
    projector_expect("verify");
    /* A store that lost its data learns again what was given up, which no log tells. */
    (void)redis_command("FLUSHALL");
    cr_assert(eventually(redis_has_account, (void *)(uintptr_t)id, 20000));
    cr_assert(eventually(all_is_verified, NULL, 20000), "%s", projector_output());
    expect_parked(id, 0);
    cr_assert(is_at(id, 4, 5000));
}

/* --- a replica of its own --- */

static bool says_why_it_stalls(void *arg) {
    struct http_answer a = http_get(projector_url(*(const int *)arg, "/ready"));
    const bool says = a.status == 503 && strstr(a.body, "no progress") != NULL;

    http_answer_release(&a);
    return says;
}

static bool is_ready(void *arg) {
    struct http_answer a = http_get(projector_url(*(const int *)arg, "/ready"));
    const bool is = a.status == 200;

    http_answer_release(&a);
    return is;
}

static void end_replica(pid_t pid) {
    (void)kill(pid, SIGTERM);
    (void)waitpid(pid, NULL, 0);
}

Test(projector, a_stall_makes_ready_fail_with_the_reason) {
    const char *const variables[] = {"DAYBOOK_STALL_MS=1500", "DAYBOOK_PROJECTIONS=accounts", NULL};
    const char *id = open_account("stall");
    int port = 7993;

    cr_assert(is_at(id, 1, 5000));
    cr_assert(stack("stop", "projector"));
    const pid_t replica = projector_start(NULL, port, variables);
    cr_assert(eventually(is_ready, &port, 20000));
    PGconn *pg = PQconnectdb(stack_environment("DAYBOOK_TEST_READ_ADMIN_URL"));
    PQclear(PQexec(pg, "BEGIN"));
    PGresult *held = PQexec(pg, "SELECT FROM daybook.checkpoints FOR UPDATE");
    cr_assert_gt(PQntuples(held), 0, "%s", PQerrorMessage(pg));
    PQclear(held);
    deposit(id, 1);
    cr_assert(eventually(says_why_it_stalls, &port, 20000));
    PQfinish(pg);
    cr_assert(eventually(is_ready, &port, 20000), "the stall is over");
    cr_assert(is_at(id, 2, 5000));
    end_replica(replica);
    cr_assert(stack("start", "projector"));
}

Test(projector, only_chosen_projections_are_served) {
    const char *const variables[] = {"DAYBOOK_PROJECTIONS=accounts,activity", NULL};
    int port = 7994;

    const pid_t replica = projector_start(NULL, port, variables);
    cr_assert(eventually(is_ready, &port, 20000));
    struct http_answer a = http_get(projector_url(port, "/metrics"));
    cr_assert_not_null(strstr(a.body, "projection=\"activity\""));
    cr_assert_null(strstr(a.body, "projection=\"statements\""));
    http_answer_release(&a);
    end_replica(replica);
    cr_assert_eq(projector_command("--projections=accounts,nothing"), 2, "%s", projector_output());
    cr_assert_not_null(strstr(projector_output(), "nothing"), "%s", projector_output());
}

/* --- verification --- */

static void expect_difference(const char *projection, const char *what) {
    char words[64];

    (void)snprintf(words, sizeof(words), "verify %s", projection);
    cr_assert_eq(projector_command(words), 1, "not found: %s", projector_output());
    cr_assert_not_null(strstr(projector_output(), what), "%s", projector_output());
}

Test(projector, a_row_damaged_by_hand_is_found) {
    const char *id = open_account("damage");

    deposit(id, 2);
    cr_assert(is_at(id, 3, 5000));
    projector_expect("verify");
    (void)read_model_sql("UPDATE daybook.accounts SET balance_minor = 7 WHERE account_id = '%s'",
                         id);
    expect_difference("accounts", "balance_minor=7");
    (void)read_model_sql("DELETE FROM daybook.accounts WHERE account_id = '%s'", id);
    expect_difference("accounts", "missing");
    (void)read_model_sql("UPDATE daybook.statements SET kind = 'opened' WHERE account_id = '%s'"
                         " AND version = 2",
                         id);
    expect_difference("statements", "a row differs");
    (void)read_model_sql("DELETE FROM daybook.statements WHERE account_id = '%s' AND version = 3",
                         id);
    expect_difference("statements", "missing");
    (void)read_model_sql("UPDATE daybook.activity SET deposits = deposits + 1");
    expect_difference("activity", "a row differs");
    projector_expect("rebuild all");
    projector_expect("verify");
}

static int64_t model_of(const char *projection, int32_t partition) {
    long long next = 0;
    long long version = 0;
    long long model = 0;

    (void)sscanf(redis_command("GET '{p%d}:checkpoint:%s'", (int)partition, projection),
                 "%lld %lld %lld", &next, &version, &model);
    return model;
}

static bool redis_says_three(void *words) {
    return strcmp(redis_command("%s", (const char *)words), "3\n") == 0;
}

/* Each store has a lane of its own, and reads fall back on PostgreSQL: Redis may get there later.
 */
static void await_three(const char *verb, const char *key, const char *field) {
    char words[256];

    (void)snprintf(words, sizeof(words), "%s %s %s", verb, key, field);
    cr_assert(eventually(redis_says_three, words, 10000), "%s: %s", words,
              redis_command("%s", words));
}

Test(projector, a_key_damaged_by_hand_is_found) {
    const char *id = open_account("damage");
    const int32_t p = hash_kafka_partition(str_from(id), 6);
    char key[160];

    deposit(id, 2);
    cr_assert(is_at(id, 3, 5000));
    (void)snprintf(key, sizeof(key), "'{p%d}:account#%lld:%s'", (int)p,
                   (long long)model_of("accounts", p), id);
    await_three("GETRANGE", key, "0 0");
    (void)redis_command("SET %s '3\topen\tUSD\t\\0\t9\t1\t2'", key);
    expect_difference("accounts", "balance_minor=9");
    (void)redis_command("SET %s nonsense", key);
    expect_difference("accounts", "a row differs");
    (void)redis_command("DEL %s", key);
    expect_difference("accounts", "missing");
    (void)snprintf(key, sizeof(key), "'{p%d}:statement#%lld:%s'", (int)p,
                   (long long)model_of("statements", p), id);
    await_three("LLEN", key, "");
    (void)redis_command("LPOP %s", key);
    expect_difference("statements", "should not stand there");
    (void)redis_command("DEL %s", key);
    expect_difference("statements", "missing");
    projector_expect("rebuild all");
    projector_expect("verify");
}

Test(projector, a_checkpoint_damaged_by_hand_is_found) {
    const char *id = open_account("damage");
    const int32_t p = hash_kafka_partition(str_from(id), 6);

    deposit(id, 2);
    cr_assert(is_at(id, 3, 5000));
    cr_assert(stack("stop", "projector"));
    (void)read_model_sql("UPDATE daybook.checkpoints SET next_offset = next_offset - 1 WHERE"
                         " projection = 'accounts' AND topic_partition = %d",
                         (int)p);
    /* Whatever the last event did, it is there and should not be. */
    expect_difference("accounts", "accounts postgresql partition");
    (void)read_model_sql("UPDATE daybook.checkpoints SET next_offset = next_offset + 1000000 WHERE"
                         " projection = 'accounts' AND topic_partition = %d",
                         (int)p);
    expect_difference("accounts", "the log ends at");
    cr_assert(stack("start", "projector"));
    projector_expect("rebuild all");
    projector_expect("verify");
}

/* --- rebuild --- */

Test(projector, a_rebuild_is_not_noticed_by_readers) {
    const char *id = open_account("rebuild");
    int reads = 0;
    int status = 0;

    deposit(id, 3);
    cr_assert(is_at(id, 4, 5000));
    /* The statement is another projection: it may get there later. */
    struct http_answer there =
        http_get(url_of(GATEWAY, "/accounts/%s/transactions?min_version=4&timeout_ms=5000", id));
    cr_assert_eq(there.status, 200, "%s", there.body);
    http_answer_release(&there);
    for (int i = 0; i < 3; i++) {
        const pid_t pid = fork();
        if (pid == 0) {
            _exit(projector_command("rebuild all"));
        }
        while (waitpid(pid, &status, WNOHANG) == 0) {
            struct http_answer a = http_get(url_of(GATEWAY, "/accounts/%s", id));
            cr_assert_eq(a.status, 200, "%s", a.body);
            cr_assert_str_eq(http_answer_text(&a, "balance"), "3.00");
            http_answer_release(&a);
            a = http_get(url_of(GATEWAY, "/accounts/%s/transactions", id));
            cr_assert_eq(a.status, 200, "%s", a.body);
            cr_assert_eq(json_array_size(json_object_get(a.json, "transactions")), 4, "%s", a.body);
            http_answer_release(&a);
            reads += 2;
        }
        cr_assert_eq(status, 0);
    }
    cr_assert_gt(reads, 20);
    deposit(id, 1);
    cr_assert(is_at(id, 5, 5000), "live application doesn't go on in the new model");
    projector_expect("verify");
    cr_assert_str_eq(read_model_sql("SELECT count(*) FROM pg_tables WHERE schemaname ="
                                    " 'daybook_build'"),
                     "0");
    cr_assert(strlen(redis_command("--scan --pattern '*#build'")) < 2);
}

Test(projector, a_killed_rebuild_leaves_the_live_model_and_can_be_run_again) {
    const char *id = open_account("killed");

    deposit(id, 1);
    for (int i = 0; i < 6; i++) {
        const struct timespec pause = {.tv_nsec = 40000000L * (i + 1)};
        const pid_t pid = projector_start_rebuild();
        (void)nanosleep(&pause, NULL);
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        cr_assert(is_at(id, 2, 5000));
    }
    deposit(id, 1);
    cr_assert(is_at(id, 3, 5000));
    projector_expect("verify");
    projector_expect("rebuild all");
    projector_expect("verify");
}

/* Stopped for so long that the server has ended its sessions, and with them its lock. */
static void resume_after_its_lock_went(enum held_at point) {
    const char *id = open_account("resumed");
    int status = 0;

    deposit(id, 1);
    struct held_rebuild *held = rebuild_hold(point);
    const pid_t pid = projector_start_rebuild();
    rebuild_await_held(held);
    cr_assert_eq(kill(pid, SIGSTOP), 0);
    end_rebuilds_sessions();
    rebuild_let_go(held);
    projector_expect("rebuild all");
    deposit(id, 1);
    (void)kill(pid, SIGCONT);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) != 0, "it says that it has failed");
    cr_assert(is_at(id, 3, 5000));
    projector_expect("verify");
    projector_expect("rebuild all");
}

Test(projector, a_rebuild_that_is_resumed_after_its_lock_went_leaves_the_model_alone) {
    resume_after_its_lock_went(HELD_WITH_PLACES);
}

Test(projector, a_rebuild_that_is_resumed_at_its_switch_leaves_the_model_alone) {
    resume_after_its_lock_went(HELD_AT_SWITCHING);
}

/* More accounts in each partition than a batch has rows. */
Test(projector, a_rebuild_of_many_accounts_is_whole) {
    char sql[1024];
    char last[128];
    const char *prefix = fresh_id("many");

    (void)snprintf(sql, sizeof(sql),
                   "INSERT INTO daybook.events (event_id, aggregate_type, stream_id, version,"
                   " event_type, schema_version, payload, recorded_at) SELECT gen_random_uuid(),"
                   " 'account', '%s-' || n, 1, 'AccountCreated', 1,"
                   " json_build_object('currency', 'USD'), now() FROM generate_series(1, 18000) n",
                   prefix);
    log_execute(sql);
    (void)snprintf(last, sizeof(last), "%s-18000", prefix);
    cr_assert(is_at(last, 1, 10000) || is_at(last, 1, 10000)); /* the most that may be asked */
    projector_expect("verify");
    projector_expect("rebuild all");
    projector_expect("verify");
}

/* --- a fourth projection, and its second version --- */

struct expected_moves {
    const char *id;
    int moves;
    int before; /* what else may be read meanwhile; 0: nothing */
};

static bool has_moves(void *arg) {
    const struct expected_moves *e = arg;
    const int moves =
        atoi(read_model_sql("SELECT moves FROM daybook.moves WHERE account_id = '%s'", e->id));

    cr_assert(moves == e->moves || e->before == 0 || moves == e->before, "%d is read", moves);
    return moves == e->moves;
}

/* A new projection equals the log when it has caught up with all of it. */
static bool four_is_verified(void *program) {
    return projector_command_of(program, "verify moves") == 0;
}

/* A replica of an older version looks at the model once a second, if no event makes it look. */
static bool names_version_10(void *arg) {
    struct http_answer a = http_get(projector_url(*(const int *)arg, "/ready"));
    const bool it_does = a.status == 503 && strstr(a.body, "version 10") != NULL;

    http_answer_release(&a);
    return it_does;
}

Test(projector, a_fourth_projection_is_a_file_and_a_line_and_its_version_can_be_raised) {
    char program[512];
    const char *const first[] = {"DAYBOOK_PROJECTIONS=moves", NULL};
    const char *const second[] = {"DAYBOOK_PROJECTIONS=moves", "MOVES_VERSION=10", NULL};
    const char *id = open_account("moves");
    struct expected_moves e = {id, 3, 0};

    (void)snprintf(program, sizeof(program), "%s/../tests/daybook-projector-four",
                   stack_environment("DAYBOOK_BIN_DIR"));
    (void)read_model_sql(
        "DROP TABLE IF EXISTS daybook.moves; CREATE TABLE daybook.moves (account_id"
        " text PRIMARY KEY, version bigint NOT NULL, moves bigint NOT NULL);"
        " DELETE FROM daybook.checkpoints WHERE projection = 'moves';"
        " DELETE FROM daybook.parked_events WHERE projection = 'moves';"
        " GRANT SELECT, INSERT, UPDATE, DELETE ON daybook.moves TO"
        " daybook_projector");
    deposit(id, 3);
    const pid_t older = projector_start(program, 7990, first);
    cr_assert(eventually(has_moves, &e, 20000));
    cr_assert(eventually(four_is_verified, program, 30000), "%s", projector_output());
    const pid_t newer = projector_start(program, 7991, second);
    e = (struct expected_moves){id, 30, 3};
    cr_assert(eventually(has_moves, &e, 20000), "not rebuilt");
    deposit(id, 1);
    e = (struct expected_moves){id, 40, 30};
    cr_assert(eventually(has_moves, &e, 20000), "the newer replica doesn't go on");
    cr_assert(eventually(names_version_10, &(int){7990}, 10000), "the older one claims to serve");
    end_replica(older);
    end_replica(newer);
    (void)read_model_sql("DROP TABLE daybook.moves; DELETE FROM daybook.checkpoints WHERE"
                         " projection = 'moves'");
}

/* --- a killed replica --- */

static bool has_a_share(void *arg) {
    static const char *const names[] = {"accounts", "statements", "activity"};
    struct http_answer a = http_get(projector_url(*(const int *)arg, "/metrics"));
    char gauge[96];
    bool has = a.status == 200;

    for (size_t i = 0; has && i < 3; i++) {
        (void)snprintf(gauge, sizeof(gauge), "daybook_projector_lag_events{projection=\"%s\"",
                       names[i]);
        has = strstr(a.body, gauge) != NULL;
    }
    http_answer_release(&a);
    return has;
}

Test(projector, a_killed_replicas_partitions_are_served_again) {
    const char *const variables[] = {NULL};
    int port = 7992;
    const char *ids[12];
    char kept[12][96];

    const pid_t other = projector_start(NULL, port, variables);
    for (int i = 0; i < 12; i++) {
        (void)snprintf(kept[i], sizeof(kept[i]), "%s", open_account("takeover"));
        ids[i] = kept[i];
    }
    for (int i = 0; i < 12; i++) {
        cr_assert(is_at(ids[i], 1, 10000));
    }
    cr_assert(eventually(has_a_share, &port, 20000), "the other replica gets nothing to do");
    (void)kill(other, SIGKILL);
    (void)waitpid(other, NULL, 0);
    const double begin = now_seconds();
    for (int i = 0; i < 12; i++) {
        deposit(ids[i], 1);
    }
    for (int i = 0; i < 12; i++) {
        while (!is_at(ids[i], 2, 500)) {
            cr_assert_lt(now_seconds() - begin, 30.0, "a partition isn't served");
        }
    }
    (void)printf("projector: a killed replica's partitions were served again after %.1f s\n",
                 now_seconds() - begin);
}
