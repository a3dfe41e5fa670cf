#include "held_rebuild.h"

#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <stdint.h>
#include <stdlib.h>

#include "environment.h"
#include "shell.h"

enum { WAIT_MS = 20000 };

struct held_rebuild {
    PGconn *pg;
    enum held_at point;
};

/* What is declared void is read after the places are made and before anything is written; a switch
 * waits until nobody reads the table. */
static const char *const locks[] = {
    [HELD_WITH_PLACES] = "BEGIN; LOCK TABLE daybook.void_versions IN ACCESS EXCLUSIVE MODE",
    [HELD_AT_SWITCHING] = "BEGIN; LOCK TABLE daybook.accounts IN ACCESS SHARE MODE",
};

struct held_rebuild *rebuild_hold(enum held_at point) {
    struct held_rebuild *held = calloc(1, sizeof(*held));

    cr_assert_not_null(held);
    held->point = point;
    held->pg = PQconnectdb(stack_environment("DAYBOOK_TEST_READ_ADMIN_URL"));
    PGresult *result = PQexec(held->pg, locks[point]);
    cr_assert_eq(PQresultStatus(result), PGRES_COMMAND_OK, "%s", PQerrorMessage(held->pg));
    PQclear(result);
    return held;
}

/* The last partition is claimed last. */
static bool has_places(void) {
    return atoi(redis_command("EXISTS '{p5}:checkpoint:accounts#build'"
                              " '{p5}:checkpoint:statements#build'")) == 2 &&
           atoi(read_model_sql("SELECT count(DISTINCT projection) FROM daybook.checkpoints WHERE"
                               " stage = 'build'")) == 3;
}

static bool is_switching(void) {
    return atoi(read_model_sql("SELECT count(*) FROM pg_locks WHERE NOT granted AND mode ="
                               " 'AccessExclusiveLock' AND relation ="
                               " 'daybook.accounts'::regclass")) > 0;
}

static bool is_held(void *arg) {
    const struct held_rebuild *held = arg;

    return held->point == HELD_WITH_PLACES ? has_places() : is_switching();
}

void rebuild_await_held(const struct held_rebuild *held) {
    cr_assert(eventually(is_held, (void *)(uintptr_t)held, WAIT_MS), "no rebuild gets there");
}

void rebuild_let_go(struct held_rebuild *held) {
    PQfinish(held->pg);
    free(held);
}
