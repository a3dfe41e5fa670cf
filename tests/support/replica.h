/* command-api processes of a test's own, beside the stack's, on the stack's database, or other
 * services. They die with the test. Their logs are kept beside the test programs: replica-<pid of
 * the test>-<n>.log.
 */
#ifndef DAYBOOK_TESTS_SUPPORT_REPLICA_H
#define DAYBOOK_TESTS_SUPPORT_REPLICA_H

#include <stdbool.h>
#include <sys/types.h>

enum { REPLICA_SETTINGS_MAX = 8 };

struct replica_options {
    const char *program; /* NULL: daybook-command-api; another finds all it needs in `settings` */
    const char *database_url;                   /* NULL: the stack's */
    const char *session_name;                   /* its sessions' application_name, or NULL */
    const char *settings[REPLICA_SETTINGS_MAX]; /* "NAME=value"; NULL ends */
};

struct replica {
    pid_t pid; /* 0: not running */
    int port;
    char base[64]; /* "http://127.0.0.1:<port>" */
    char log_path[256];
};

/* Started and ready when it returns; `options` NULL: as the stack's. */
void replica_start(struct replica *replica, const struct replica_options *options);
/* SIGKILL; gone when it returns. */
void replica_kill(struct replica *replica);
/* SIGTERM; the test fails unless it exits with 0. */
void replica_stop(struct replica *replica);
/* The same in two steps. */
void replica_terminate(struct replica *replica);
void replica_await_end(struct replica *replica);
bool replica_is_running(struct replica *replica);

long replica_rss_kib(const struct replica *replica);
/* The sum of the samples whose line starts with `prefix`: "name{label=", or "name " for all. */
double replica_metric(const struct replica *replica, const char *prefix);

#endif
