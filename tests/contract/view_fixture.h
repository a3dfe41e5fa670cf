/* The views under test on a loop of their own thread, how their stores are filled, and how they are
 * asked. */
#ifndef DAYBOOK_TESTS_CONTRACT_VIEW_FIXTURE_H
#define DAYBOOK_TESTS_CONTRACT_VIEW_FIXTURE_H

#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <semaphore.h>

#include "common/adapters/view_mem.h"
#include "common/adapters/view_pg.h"
#include "common/adapters/view_redis.h"

enum { PARTITIONS = 6, REDIS_DATABASE = 9, REDIS_DATABASE_TO_KILL = 10 };
#define T0 INT64_C(1767225600000000) /* 2026-01-01T00:00:00Z */

enum kind { KIND_MEMORY, KIND_REAL };

struct views {
    enum kind kind;
    char prefix[48];
    char ids[8][64]; /* results of id() */
    size_t next_id;
    struct loop *loop;
    pthread_t thread;
    struct metrics *metrics;
    struct key_view keys;
    struct row_view rows;
    struct view_mem *mem;
    struct view_mem_client *mem_client;
    struct view_redis *redis_view;
    struct pg_pool *pg;
    struct pg_pool_client *pg_client;
    redisContext *redis; /* to fill */
    PGconn *database;    /* to fill */
    char redis_url[512];
    char query_url[512];
};

/* The one under test; each test runs in a process of its own. */
extern struct views v;

/* Order: begin, then for the real ones begin_redis or begin_pg, fill, serve, ask, end. The real
 * ones skip the test when the environment names no servers. */
void begin(enum kind kind);
void begin_redis(int database);
void begin_pg(size_t threads, size_t queue_max);
void serve(void);
void end(void);

const char *environment(const char *name); /* or the test is skipped */

/* A name of this run; valid for seven further calls. */
const char *id(const char *name);

extern const struct account_view sample;
void put_key(const char *name, const struct account_view *account);
void put_row(const char *name, const struct account_view *account);
/* The account's entries 1 … count: opened, deposits of 5.00 each a second later, the last one
 * closed if asked. */
void put_lines(const char *name, int64_t count, bool closed);
/* On the Redis that is being filled. */
void command(const char *format, ...) PRINTF_LIKE(1, 2);

struct copied_rows {
    struct statement_line lines[ROW_VIEW_LIMIT_MAX];
    struct account_line accounts[ROW_VIEW_LIMIT_MAX];
};

/* One question to a view and what came back. */
struct ask {
    sem_t answered;
    struct str id;
    struct row_query query;
    struct copied_rows *rows; /* NULL: only the result's head is kept */
    bool inside;              /* the call to the view is running */
    bool refused;
    enum err_code code;
    struct account_view account;
    struct row_result result;
};

/* On the loop's thread (for loop_post): puts the question. */
void post_key(void *ask);
void post_row(void *ask);
/* Waits for the answer; fails the test when none comes. */
void await(struct ask *ask);

/* The same until the view is connected; the in-memory ones always are. */
struct ask ask_key(const char *name);
/* Valid until the next call. */
const struct ask *ask_row(const struct row_query *query);

void same_account(const struct account_view *seen, const struct account_view *wanted);

#endif
