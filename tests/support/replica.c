#include "replica.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "environment.h"
#include "http_client.h"

enum { START_LIMIT_MS = 20000, ENVIRONMENT_MAX = 3 + REPLICA_SETTINGS_MAX };

/* What runs in the child: only calls that are safe after a fork of a program with threads. */
static void become(char *program, const char *log_path, char *const *environment) {
    char *const argv[] = {program, NULL};

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int log = open(log_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (log >= 0) {
        (void)dup2(log, STDERR_FILENO);
        (void)dup2(log, STDOUT_FILENO);
    }
    (void)execve(program, argv, environment);
    _exit(127);
}

static bool has_said_its_port(void *arg) {
    struct replica *replica = arg;
    char line[1024];
    FILE *log = fopen(replica->log_path, "r");

    while (log != NULL && replica->port == 0 && fgets(line, sizeof(line), log) != NULL) {
        const char *port = strstr(line, "\"port\":");
        if (strstr(line, "http.listening") != NULL && port != NULL) {
            replica->port = (int)strtol(port + strlen("\"port\":"), NULL, 10);
        }
    }
    if (log != NULL) {
        (void)fclose(log);
    }
    return replica->port != 0 || !replica_is_running(replica);
}

static bool is_ready(void *arg) {
    const struct replica *replica = arg;
    char url[96];

    (void)snprintf(url, sizeof(url), "%s/ready", replica->base);
    struct http_answer a = http_call(&(struct http_call){
        .method = "GET", .url = url, .own_connection = true, .timeout_ms = 2000});
    const bool is = a.status == 200;
    http_answer_release(&a);
    return is;
}

void replica_start(struct replica *replica, const struct replica_options *options) {
    static unsigned number;
    const struct replica_options none = {0};
    const struct replica_options *o = options != NULL ? options : &none;
    char program[512];
    char database[512];
    char port[] = "DAYBOOK_HTTP_PORT=0";
    char *environment[ENVIRONMENT_MAX] = {port, database};
    size_t count = 2;

    *replica = (struct replica){0};
    (void)snprintf(program, sizeof(program), "%s/%s", stack_environment("DAYBOOK_BIN_DIR"),
                   o->program != NULL ? o->program : "daybook-command-api");
    (void)snprintf(database, sizeof(database), "DAYBOOK_WRITE_DATABASE_URL=%s%s%s",
                   o->database_url != NULL ? o->database_url
                                           : stack_environment("DAYBOOK_TEST_COMMAND_URL"),
                   o->session_name != NULL ? "?application_name=" : "",
                   o->session_name != NULL ? o->session_name : "");
    (void)snprintf(replica->log_path, sizeof(replica->log_path), "%s/../tests/replica-%d-%u.log",
                   stack_environment("DAYBOOK_BIN_DIR"), (int)getpid(), number++);
    for (size_t i = 0; i < REPLICA_SETTINGS_MAX && o->settings[i] != NULL; i++) {
        environment[count++] = strdup(o->settings[i]);
    }
    (void)unlink(replica->log_path);
    replica->pid = fork();
    cr_assert_geq(replica->pid, 0);
    if (replica->pid == 0) {
        become(program, replica->log_path, environment);
    }
    for (size_t i = 2; i < count; i++) {
        free(environment[i]);
    }
    cr_assert(eventually(has_said_its_port, replica, START_LIMIT_MS) && replica->port != 0,
              "it did not start: %s", replica->log_path);
    (void)snprintf(replica->base, sizeof(replica->base), "http://127.0.0.1:%d", replica->port);
    cr_assert(eventually(is_ready, replica, START_LIMIT_MS), "not ready: %s", replica->log_path);
}

bool replica_is_running(struct replica *replica) {
    if (replica->pid != 0 && waitpid(replica->pid, NULL, WNOHANG) == replica->pid) {
        replica->pid = 0;
    }
    return replica->pid != 0;
}

void replica_kill(struct replica *replica) {
    cr_assert(replica_is_running(replica), "it ended by itself: %s", replica->log_path);
    cr_assert_eq(kill(replica->pid, SIGKILL), 0);
    cr_assert_eq(waitpid(replica->pid, NULL, 0), replica->pid);
    replica->pid = 0;
}

void replica_terminate(struct replica *replica) {
    cr_assert(replica_is_running(replica), "it ended by itself: %s", replica->log_path);
    cr_assert_eq(kill(replica->pid, SIGTERM), 0);
}

void replica_await_end(struct replica *replica) {
    int status = 0;

    cr_assert_eq(waitpid(replica->pid, &status, 0), replica->pid);
    replica->pid = 0;
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d: %s", status,
              replica->log_path);
}

void replica_stop(struct replica *replica) {
    replica_terminate(replica);
    replica_await_end(replica);
}

long replica_rss_kib(const struct replica *replica) {
    char path[64];
    char line[256];
    long kib = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)replica->pid);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    while (kib == 0 && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "VmRSS:", 6) == 0) {
            kib = strtol(line + 6, NULL, 10);
        }
    }
    (void)fclose(file);
    return kib;
}

double replica_metric(const struct replica *replica, const char *prefix) {
    char url[96];
    double sum = 0;

    (void)snprintf(url, sizeof(url), "%s/metrics", replica->base);
    struct http_answer a = http_get(url);
    cr_assert_eq(a.status, 200);
    for (const char *line = a.body; line != NULL && *line != '\0';) {
        const char *end = strchr(line, '\n');
        const char *value = end;
        while (value != NULL && value > line && value[-1] != ' ') {
            value--;
        }
        if (strncmp(line, prefix, strlen(prefix)) == 0 && value != NULL) {
            sum += strtod(value, NULL);
        }
        line = end != NULL ? end + 1 : NULL;
    }
    http_answer_release(&a);
    return sum;
}
