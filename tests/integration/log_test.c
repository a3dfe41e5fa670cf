/* The event log's own rules, tried as each role (P2). */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "../support/environment.h"

/* The SQLSTATE of a statement, "" when it succeeds. */
static const char *try_sql(const char *url_variable, const char *sql) {
    static char state[8];
    PGconn *pg = PQconnectdb(stack_environment(url_variable));

    cr_assert_eq(PQstatus(pg), CONNECTION_OK, "%s: %s", url_variable, PQerrorMessage(pg));
    PGresult *result = PQexec(pg, sql);
    const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    (void)snprintf(state, sizeof(state), "%s", code != NULL ? code : "");
    PQclear(result);
    PQfinish(pg);
    return state;
}

#define DENIED "42501"
#define RESTRICTED "23001"

static const char *const changes[] = {
    "UPDATE daybook.events SET version = version",
    "DELETE FROM daybook.events",
    "TRUNCATE daybook.events",
};

Test(log, no_service_may_change_it) {
    static const char *const roles[] = {"DAYBOOK_TEST_COMMAND_URL", "DAYBOOK_TEST_RELAY_URL"};

    for (size_t r = 0; r < 2; r++) {
        for (size_t i = 0; i < 3; i++) {
            cr_assert_str_eq(try_sql(roles[r], changes[i]), DENIED, "%s: %s", roles[r], changes[i]);
        }
    }
    cr_assert_str_eq(try_sql("DAYBOOK_TEST_COMMAND_URL", "DELETE FROM daybook.command_outcomes"),
                     DENIED);
}

Test(log, not_even_its_owner_or_the_superuser) {
    for (size_t i = 0; i < 3; i++) {
        char sql[256];
        cr_assert_str_eq(try_sql("DAYBOOK_TEST_WRITE_ADMIN_URL", changes[i]), RESTRICTED);
        (void)snprintf(sql, sizeof(sql), "SET session_replication_role = replica; %s", changes[i]);
        cr_assert_str_eq(try_sql("DAYBOOK_TEST_SUPERUSER_URL", sql), RESTRICTED, "%s", sql);
    }
}

Test(log, roles_reach_only_what_is_theirs) {
    cr_assert_str_eq(
        try_sql("DAYBOOK_TEST_RELAY_URL", "INSERT INTO daybook.command_outcomes DEFAULT VALUES"),
        DENIED);
    cr_assert_str_eq(try_sql("DAYBOOK_TEST_RELAY_URL", "SELECT * FROM daybook.command_outcomes"),
                     DENIED);
    cr_assert_str_eq(try_sql("DAYBOOK_TEST_QUERY_URL", "DELETE FROM daybook.accounts"), DENIED);
    cr_assert_str_eq(
        try_sql("DAYBOOK_TEST_QUERY_URL", "INSERT INTO daybook.accounts DEFAULT VALUES"), DENIED);
    cr_assert_str_eq(try_sql("DAYBOOK_TEST_QUERY_URL", "SELECT * FROM daybook.accounts LIMIT 1"),
                     "");
    cr_assert_str_eq(try_sql("DAYBOOK_TEST_PROJECTOR_URL", "CREATE TABLE daybook.x (i int)"),
                     DENIED);
    cr_assert_str_eq(try_sql("DAYBOOK_TEST_COMMAND_URL", "CREATE TABLE public.x (i int)"), DENIED);
}
