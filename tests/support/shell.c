#include "shell.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "environment.h"

static char projector_said[262144];

static int run_line(const char *line, char *output, size_t size) {
    FILE *pipe = popen(line, "r"); /* lines are the tests' own */
    size_t len = 0;
    char rest[4096];

    cr_assert_not_null(pipe);
    while (len < size - 1) {
        const size_t got = fread(output + len, 1, size - 1 - len, pipe);
        if (got == 0) {
            break;
        }
        len += got;
    }
    output[len] = '\0';
    while (fread(rest, 1, sizeof(rest), pipe) > 0) {
    }
    const int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int shell(char *output, size_t size, const char *format, ...) {
    char line[2048];
    va_list args;

    va_start(args, format);
    cr_assert_lt(vsnprintf(line, sizeof(line), format, args), (int)sizeof(line));
    va_end(args);
    return run_line(line, output, size);
}

static const char *program_path(const char *program) {
    static char path[512];

    if (program != NULL) {
        return program;
    }
    (void)snprintf(path, sizeof(path), "%s/daybook-projector",
                   stack_environment("DAYBOOK_BIN_DIR"));
    return path;
}

static void keep(const char *words, const char *output) {
    char path[256];

    (void)snprintf(path, sizeof(path), "build/%s/logs/verify.log",
                   stack_environment("DAYBOOK_TEST_STACK"));
    FILE *file = fopen(path, "ae");
    cr_assert_not_null(file, "%s", path);
    (void)fprintf(file, "%s\n%s\n", words, output);
    (void)fclose(file);
}

int projector_command_of(const char *program, const char *words) {
    const int code = shell(projector_said, sizeof(projector_said),
                           "DAYBOOK_KAFKA_BROKERS=$DAYBOOK_TEST_KAFKA_BROKERS "
                           "DAYBOOK_READ_DATABASE_URL=$DAYBOOK_TEST_PROJECTOR_URL "
                           "DAYBOOK_REDIS_URL=$DAYBOOK_TEST_REDIS_PROJECTOR_URL '%s' %s 2>&1",
                           program_path(program), words);

    if (code != 0 && strncmp(words, "verify", strlen("verify")) == 0) {
        keep(words, projector_said);
    }
    return code;
}

int projector_command(const char *words) {
    return projector_command_of(NULL, words);
}

void projector_expect(const char *words) {
    cr_assert_eq(projector_command(words), 0, "%s: %s", words, projector_said);
}

const char *projector_output(void) {
    return projector_said;
}

void projector_parked(const char *verb, const char *id) {
    static const char *const names[] = {"accounts", "statements", "activity"};
    char words[256];

    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(words, sizeof(words), "parked %s %s '%s'", verb, names[i], id);
        projector_expect(words);
    }
}

int projector_parked_lines(const char *id) {
    int lines = 0;

    projector_expect("parked list");
    for (const char *at = strstr(projector_said, id); at != NULL; at = strstr(at + 1, id)) {
        lines++;
    }
    return lines;
}

static void add(char **list, size_t *count, const char *name, const char *value) {
    char text[1024];

    (void)snprintf(text, sizeof(text), "%s=%s", name, value);
    list[(*count)++] = strdup(text);
}

static int port_offset(void) {
    return (int)strtol(stack_environment("DAYBOOK_PORT_OFFSET"), NULL, 10);
}

const char *projector_url(int port, const char *path) {
    static char url[128];

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", port + port_offset(), path);
    return url;
}

pid_t projector_start(const char *program, int port, const char *const *variables) {
    const char *path = program_path(program);
    char *environment[32] = {0};
    char number[16];
    char log[256];
    size_t count = 0;

    (void)snprintf(number, sizeof(number), "%d", port + port_offset());
    (void)snprintf(log, sizeof(log), "build/%s/logs/replica-%d.log",
                   stack_environment("DAYBOOK_TEST_STACK"), port);
    add(environment, &count, "DAYBOOK_HTTP_PORT", number);
    add(environment, &count, "DAYBOOK_KAFKA_BROKERS",
        stack_environment("DAYBOOK_TEST_KAFKA_BROKERS"));
    add(environment, &count, "DAYBOOK_READ_DATABASE_URL",
        stack_environment("DAYBOOK_TEST_PROJECTOR_URL"));
    add(environment, &count, "DAYBOOK_REDIS_URL",
        stack_environment("DAYBOOK_TEST_REDIS_PROJECTOR_URL"));
    for (size_t i = 0; variables != NULL && variables[i] != NULL; i++) {
        environment[count++] = strdup(variables[i]);
    }
    char *arguments[] = {strdup(path), NULL};
    const pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that is cut short leaves nothing behind */
        const int fd = open(log, O_CREAT | O_APPEND | O_WRONLY, 0644);
        (void)dup2(fd, STDERR_FILENO);
        (void)dup2(fd, STDOUT_FILENO);
        (void)execve(arguments[0], arguments, environment);
        _exit(127);
    }
    free(arguments[0]);
    for (size_t i = 0; i < count; i++) {
        free(environment[i]);
    }
    return pid;
}

pid_t projector_start_rebuild(void) {
    const pid_t pid = fork();
    const char *path = program_path(NULL);

    if (pid != 0) {
        return pid;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when it is stopped */
    (void)setenv("DAYBOOK_KAFKA_BROKERS", stack_environment("DAYBOOK_TEST_KAFKA_BROKERS"), 1);
    (void)setenv("DAYBOOK_READ_DATABASE_URL", stack_environment("DAYBOOK_TEST_PROJECTOR_URL"), 1);
    (void)setenv("DAYBOOK_REDIS_URL", stack_environment("DAYBOOK_TEST_REDIS_PROJECTOR_URL"), 1);
    (void)execl(path, path, "rebuild", "all", (char *)NULL);
    _exit(127);
}

const char *read_model_sql(const char *format, ...) {
    static char value[256];
    char sql[1024];
    va_list args;

    va_start(args, format);
    cr_assert_lt(vsnprintf(sql, sizeof(sql), format, args), (int)sizeof(sql));
    va_end(args);
    PGconn *pg = PQconnectdb(stack_environment("DAYBOOK_TEST_READ_ADMIN_URL"));
    PGresult *result = PQexec(pg, sql);
    const ExecStatusType status = PQresultStatus(result);
    cr_assert(status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK, "%s: %s", sql,
              PQerrorMessage(pg));
    (void)snprintf(value, sizeof(value), "%s",
                   PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    PQfinish(pg);
    return value;
}

const char *redis_command(const char *format, ...) {
    static char output[4096];
    char words[1024];
    va_list args;

    va_start(args, format);
    cr_assert_lt(vsnprintf(words, sizeof(words), format, args), (int)sizeof(words));
    va_end(args);
    /* redis-cli takes ":password@" for a user without a name. */
    cr_assert_eq(shell(output, sizeof(output),
                       "url=${DAYBOOK_TEST_REDIS_URL#redis://:}; at=${url#*@}; "
                       "REDISCLI_AUTH=${url%%%%@*} redis-cli -h ${at%%%%:*} -p "
                       "$(echo ${at#*:} | cut -d/ -f1) %s 2>&1",
                       words),
                 0, "%s", output);
    cr_assert_null(strstr(output, "NOAUTH"), "%s", output);
    return output;
}

void end_rebuilds_sessions(void) {
    PGconn *pg = PQconnectdb(stack_environment("DAYBOOK_TEST_PROJECTOR_URL"));
    PGresult *result = PQexec(pg, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                                  " WHERE application_name = 'daybook-projector rebuild'");

    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(pg));
    cr_assert_gt(PQntuples(result), 0);
    PQclear(result);
    PQfinish(pg);
}
