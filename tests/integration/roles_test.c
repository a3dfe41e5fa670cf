/*
 * The database's roles, each tried against what it must not do (the threat table in
 * infra/README.md). What it may do is tried, too, so that a refusal means the right and not a
 * mistyped statement.
 */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "../support/environment.h"
#include "../support/shell.h"
#include "common/base/attr.h"

#define DENIED "42501"
#define WRITE "daybook_write"
#define READ "daybook_read"

struct attempt {
    const char *role, *database, *sql, *state; /* SQLSTATE; "": it works */
};

/* The role's URL, with another database. */
static void url_for(char url[512], const char *role, const char *database) {
    char variable[64];

    (void)snprintf(variable, sizeof(variable), "DAYBOOK_TEST_%s_URL", role);
    const char *own = stack_environment(variable);
    const char *slash = strrchr(own, '/');
    cr_assert_not_null(slash);
    cr_assert_lt(snprintf(url, 512, "%.*s%s", (int)(slash + 1 - own), own, database), 512);
}

/* The SQLSTATE of a statement that is taken back again, "" when it works. */
static void try_it(const struct attempt *attempt, char state[8]) {
    char url[512];

    url_for(url, attempt->role, attempt->database);
    PGconn *pg = PQconnectdb(url);
    cr_assert_eq(PQstatus(pg), CONNECTION_OK, "%s in %s: %s", attempt->role, attempt->database,
                 PQerrorMessage(pg));
    PQclear(PQexec(pg, "BEGIN"));
    PGresult *result = PQexec(pg, attempt->sql);
    const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    (void)snprintf(state, 8, "%s", code != NULL ? code : "");
    PQclear(result);
    PQclear(PQexec(pg, "ROLLBACK"));
    PQfinish(pg);
}

static void try_all(const struct attempt *attempts, size_t count) {
    char state[8];

    for (size_t i = 0; i < count; i++) {
        try_it(&attempts[i], state);
        cr_expect_str_eq(state, attempts[i].state, "%s in %s: %s: \"%s\", expected \"%s\"",
                         attempts[i].role, attempts[i].database, attempts[i].sql, state,
                         attempts[i].state);
    }
}

Test(roles, the_command_api_adds_to_the_log_and_no_more) {
    static const struct attempt attempts[] = {
        {"COMMAND", WRITE, "SELECT FROM daybook.events LIMIT 1", ""},
        {"COMMAND", WRITE, "SELECT FROM daybook.command_outcomes LIMIT 1", ""},
        {"COMMAND", WRITE, "UPDATE daybook.snapshots SET version = version WHERE false", ""},
        {"COMMAND", WRITE, "UPDATE daybook.events SET payload = payload WHERE false", DENIED},
        {"COMMAND", WRITE, "DELETE FROM daybook.events WHERE false", DENIED},
        {"COMMAND", WRITE, "TRUNCATE daybook.events", DENIED},
        {"COMMAND", WRITE, "UPDATE daybook.command_outcomes SET status = 200", DENIED},
        {"COMMAND", WRITE, "DELETE FROM daybook.command_outcomes", DENIED},
        {"COMMAND", WRITE, "DELETE FROM daybook.snapshots", DENIED},
        {"COMMAND", WRITE, "SELECT FROM daybook.relay_state", DENIED},
        {"COMMAND", WRITE, "UPDATE daybook.relay_state SET offsets = '{}'", DENIED},
        {"COMMAND", WRITE, "SELECT pg_drop_replication_slot('daybook_relay')", DENIED},
    };
    try_all(attempts, ARRAY_LEN(attempts));
}

Test(roles, the_relay_reads_the_log_and_keeps_its_own_row) {
    static const struct attempt attempts[] = {
        {"RELAY", WRITE, "SELECT FROM daybook.events LIMIT 1", ""},
        {"RELAY", WRITE, "UPDATE daybook.relay_state SET holder = holder WHERE false", ""},
        {"RELAY", WRITE, "INSERT INTO daybook.events DEFAULT VALUES", DENIED},
        {"RELAY", WRITE, "UPDATE daybook.events SET payload = payload WHERE false", DENIED},
        {"RELAY", WRITE, "DELETE FROM daybook.events WHERE false", DENIED},
        {"RELAY", WRITE, "TRUNCATE daybook.events", DENIED},
        {"RELAY", WRITE, "DELETE FROM daybook.relay_state", DENIED},
        {"RELAY", WRITE, "SELECT FROM daybook.command_outcomes", DENIED},
        {"RELAY", WRITE, "SELECT FROM daybook.snapshots", DENIED},
        {"RELAY", WRITE, "DROP PUBLICATION daybook_events", DENIED},
        {"RELAY", WRITE, "ALTER PUBLICATION daybook_events ADD TABLE daybook.snapshots", DENIED},
        {"RELAY", WRITE, "CREATE PUBLICATION mine FOR TABLE daybook.snapshots", DENIED},
    };
    try_all(attempts, ARRAY_LEN(attempts));
}

Test(roles, the_projector_writes_read_models_and_changes_none_of_their_shapes) {
    static const struct attempt attempts[] = {
        {"PROJECTOR", READ, "DELETE FROM daybook.accounts WHERE false", ""},
        {"PROJECTOR", READ, "DELETE FROM daybook.checkpoints WHERE false", ""},
        {"PROJECTOR", READ, "DROP TABLE daybook.accounts", DENIED},
        {"PROJECTOR", READ, "ALTER TABLE daybook.accounts ADD COLUMN more text", DENIED},
        {"PROJECTOR", READ, "CREATE TABLE daybook_build.mine (i int)", DENIED},
        {"PROJECTOR", READ, "SELECT daybook.build_indexes('accounts')", DENIED},
    };
    try_all(attempts, ARRAY_LEN(attempts));
}

Test(roles, the_query_api_reads_and_changes_nothing) {
    static const struct attempt attempts[] = {
        {"QUERY", READ, "SELECT FROM daybook.accounts LIMIT 1", ""},
        {"QUERY", READ, "SELECT FROM daybook.statements LIMIT 1", ""},
        {"QUERY", READ, "SELECT FROM daybook.activity LIMIT 1", ""},
        {"QUERY", READ, "SELECT FROM daybook.checkpoints LIMIT 1", ""},
        {"QUERY", READ, "INSERT INTO daybook.accounts DEFAULT VALUES", DENIED},
        {"QUERY", READ, "UPDATE daybook.accounts SET version = version WHERE false", DENIED},
        {"QUERY", READ, "DELETE FROM daybook.statements WHERE false", DENIED},
        {"QUERY", READ, "TRUNCATE daybook.activity", DENIED},
        {"QUERY", READ, "DELETE FROM daybook.checkpoints", DENIED},
        {"QUERY", READ, "SELECT FROM daybook.parked_events", DENIED},
        {"QUERY", READ, "SELECT daybook.build_drop('accounts', '{accounts}')", DENIED},
        {"QUERY", WRITE, "SELECT FROM daybook.events LIMIT 1", ""},
        {"QUERY", WRITE, "INSERT INTO daybook.events DEFAULT VALUES", DENIED},
        {"QUERY", WRITE, "DELETE FROM daybook.events WHERE false", DENIED},
        {"QUERY", WRITE, "SELECT FROM daybook.command_outcomes", DENIED},
        {"QUERY", WRITE, "SELECT FROM daybook.snapshots", DENIED},
        {"QUERY", WRITE, "SELECT FROM daybook.relay_state", DENIED},
    };
    try_all(attempts, ARRAY_LEN(attempts));
}

static const struct {
    const char *role, *home;
} services[] = {{"COMMAND", WRITE}, {"RELAY", WRITE}, {"PROJECTOR", READ}, {"QUERY", READ}};

Test(roles, no_service_owns_governs_or_leaves_the_database) {
    static const char *const statements[] = {
        "CREATE TABLE daybook.mine (i int)",
        "CREATE TABLE public.mine (i int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION daybook.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "INSERT INTO migrations.applied (number, name, sha256) VALUES (999, 'x', 'x')",
        "SET ROLE daybook_migrator",
        "SET session_replication_role = replica",
        "CREATE ROLE mine",
        "ALTER ROLE daybook_migrator PASSWORD 'mine'",
        "GRANT daybook_migrator TO CURRENT_USER",
        "SELECT pg_reload_conf()",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/daybook-mine'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT rolpassword FROM pg_authid",
    };
    char state[8];

    for (size_t s = 0; s < ARRAY_LEN(services); s++) {
        for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
            const struct attempt attempt = {services[s].role, services[s].home, statements[i], ""};
            try_it(&attempt, state);
            cr_expect_str_eq(state, DENIED, "%s: %s: \"%s\"", services[s].role, statements[i],
                             state);
        }
    }
}

/* The server doesn't let the role in: `why` says so. */
static void stays_out(const char *role, const char *database, const char *parameters,
                      const char *why) {
    char url[512];
    size_t len;

    url_for(url, role, database);
    len = strlen(url);
    (void)snprintf(url + len, sizeof(url) - len, "%s", parameters);
    PGconn *pg = PQconnectdb(url);
    cr_expect_eq(PQstatus(pg), CONNECTION_BAD, "%s in %s%s", role, database, parameters);
    cr_expect_not_null(strstr(PQerrorMessage(pg), why), "%s", PQerrorMessage(pg));
    PQfinish(pg);
}

#define NO_ENTRY "no pg_hba.conf entry"

Test(roles, no_service_enters_another_database) {
    static const char *const databases[] = {WRITE, READ, "postgres", "template1"};

    for (size_t s = 0; s < ARRAY_LEN(services); s++) {
        for (size_t d = 0; d < ARRAY_LEN(databases); d++) {
            const bool both = strcmp(services[s].role, "QUERY") == 0 && d < 2;
            if (!both && strcmp(databases[d], services[s].home) != 0) {
                stays_out(services[s].role, databases[d], "", NO_ENTRY);
            }
        }
    }
}

/* Were the server's pg_hba.conf another one, the databases themselves would still refuse. */
Test(roles, only_those_who_are_named_may_connect) {
    static const char *const rights =
        "SELECT string_agg(datname || ' ' || rolname, ',' ORDER BY datname, rolname) "
        "FROM pg_database, pg_roles WHERE datname ~ '^daybook' AND rolname ~ '^daybook' "
        "AND rolname <> 'daybook_migrator' AND has_database_privilege(rolname, datname, 'CONNECT')";

    cr_expect_str_eq(read_model_sql("%s", rights),
                     "daybook_read daybook_projector,daybook_read daybook_query,"
                     "daybook_write daybook_command,daybook_write daybook_query,"
                     "daybook_write daybook_relay");
}

/* PostgreSQL can't narrow REPLICATION: who has it can read the whole cluster. So nobody else does.
 */
Test(roles, the_relay_alone_has_replication) {
    for (size_t s = 0; s < ARRAY_LEN(services); s++) {
        stays_out(services[s].role, services[s].home, "?replication=true",
                  "rejects replication connection");
        if (strcmp(services[s].role, "RELAY") != 0) {
            stays_out(services[s].role, services[s].home, "?replication=database",
                      "must be superuser or replication role");
        }
    }
    stays_out("RELAY", READ, "?replication=database", NO_ENTRY);
    stays_out("RELAY", "postgres", "?replication=database", NO_ENTRY);
}

/* What redis-cli prints as that user; words are a shell's. */
static const char *redis_as(const char *user, const char *words) {
    static char output[1024];

    (void)shell(output, sizeof(output),
                "url=$DAYBOOK_TEST_REDIS_%s_URL; url=${url#redis://}; at=${url#*@}; "
                "who=${url%%%%@*}; REDISCLI_AUTH=${who#*:} redis-cli --user ${who%%%%:*} "
                "-h ${at%%%%:*} -p $(echo ${at#*:} | cut -d/ -f1) %s 2>&1",
                user, words);
    return output;
}

static void may_in_redis(const char *user, const char *words) {
    const char *output = redis_as(user, words);

    cr_expect(strstr(output, "NOPERM") == NULL && strstr(output, "NOAUTH") == NULL &&
                  strstr(output, "WRONGPASS") == NULL,
              "%s: %s: %s", user, words, output);
}

static void may_not_in_redis(const char *user, const char *words) {
    const char *output = redis_as(user, words);

    cr_expect_not_null(strstr(output, "NOPERM"), "%s: %s: %s", user, words, output);
}

/* What no service may: stop the server or its clients, read its settings, see what all keys are. */
static const char *const redis_dangerous[] = {"client pause 1",
                                              "client kill id 1",
                                              "client list",
                                              "client no-evict on",
                                              "randomkey",
                                              "dbsize",
                                              "keys '*'",
                                              "config get '*'",
                                              "config set dir /",
                                              "acl list",
                                              "acl getuser x",
                                              "acl setuser x",
                                              "flushall",
                                              "flushdb",
                                              "swapdb 0 1",
                                              "shutdown nosave",
                                              "replicaof 127.0.0.1 1",
                                              "script flush",
                                              "script kill",
                                              "function flush",
                                              "module list",
                                              "slowlog get",
                                              "monitor",
                                              "bgrewriteaof",
                                              "bgsave",
                                              "info",
                                              "latency latest",
                                              "publish daybook x",
                                              "get other",
                                              "subscribe x"};

Test(roles, the_query_api_changes_nothing_in_redis) {
    static const char *const refused[] = {"set daybook:partitions 1",
                                          "del daybook:partitions",
                                          "eval 'return 1' 0",
                                          "scan 0",
                                          "get daybook:models:accounts",
                                          "getrange '{p0}:account:x' 0 1",
                                          "get '{p0}:parked:accounts'",
                                          "client reply off",
                                          "wait 0 0"};

    may_in_redis("QUERY", "get daybook:partitions");
    may_in_redis("QUERY", "get '{p0}:account:nobody'");
    may_in_redis("QUERY", "get '{p0}:checkpoint:accounts'");
    for (size_t i = 0; i < ARRAY_LEN(redis_dangerous); i++) {
        may_not_in_redis("QUERY", redis_dangerous[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        may_not_in_redis("QUERY", refused[i]);
    }
}

Test(roles, the_projector_writes_models_in_redis_and_governs_nothing) {
    may_in_redis("PROJECTOR", "eval 'return 1' 0");
    may_in_redis("PROJECTOR", "script load 'return 1'");
    may_in_redis("PROJECTOR", "scan 0 count 1");
    may_in_redis("PROJECTOR", "unlink daybook:roles-test");
    for (size_t i = 0; i < ARRAY_LEN(redis_dangerous); i++) {
        may_not_in_redis("PROJECTOR", redis_dangerous[i]);
    }
    may_not_in_redis("PROJECTOR", "set other 1");
    may_not_in_redis("PROJECTOR", "blpop daybook:roles-test 1");
}
