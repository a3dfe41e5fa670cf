/* Commands for a shard, and what became of them. */
#ifndef DAYBOOK_TESTS_UNIT_COMMAND_API_JOBS_H
#define DAYBOOK_TESTS_UNIT_COMMAND_API_JOBS_H

#include "command-api/shard.h"
#include "common/domain/account.h"

enum { JOBS_MAX = 64 };

struct jobs_fixture {
    struct event_store *store; /* in memory */
    struct shard *shard;
    struct metrics *metrics;
};

extern struct jobs_fixture jobs_fixture;
extern struct command_job jobs_all[JOBS_MAX]; /* in the order made */
extern size_t jobs_count;

/* Starts the shard on `store`: jobs_fixture.store or something around it. */
void jobs_start_on(struct event_store *store);
void jobs_set_up(void);
void jobs_tear_down(void);

/* `key`: "" for none. */
struct command_job *jobs_make(const char *stream, enum account_command which, int64_t dollars,
                              const char *key);
void jobs_submit(struct command_job *job);
size_t jobs_finished(void);
/* Until all that were made are finished. */
void jobs_wait_all(void);
/* Makes, submits and waits. */
struct command_job *jobs_run(const char *stream, enum account_command which, int64_t dollars,
                             const char *key);
/* The answer has this text. */
void jobs_expect_text(const struct command_job *job, const char *text);
/* Another replica: deposits 1.00 behind the shard's back. */
void jobs_write_elsewhere(const char *stream, int64_t version, int64_t balance_minor);

#endif
