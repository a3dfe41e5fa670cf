#include "environment.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

double now_seconds(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void pause_ms(long ms) {
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&pause, NULL);
}

const char *stack_environment(const char *name) {
    const char *value = getenv(name);

    cr_assert_not_null(value, "%s is not set: run the tests through scripts/test.sh", name);
    return value;
}

const char *url_of(const char *base_variable, const char *format, ...) {
    static char texts[4][8192];
    static unsigned turn;
    char *text = texts[turn++ % 4];
    va_list args;

    int len = snprintf(text, sizeof(texts[0]), "%s", stack_environment(base_variable));
    va_start(args, format);
    len += vsnprintf(text + len, sizeof(texts[0]) - (size_t)len, format, args);
    va_end(args);
    cr_assert_lt((size_t)len, sizeof(texts[0]));
    return text;
}

const char *fresh_id(const char *prefix) {
    static char texts[8][96];
    static unsigned turn;
    struct timespec now;
    char *text = texts[turn % 8];

    clock_gettime(CLOCK_REALTIME, &now);
    (void)snprintf(text, sizeof(texts[0]), "%s-%lld-%ld-%d-%u", prefix, (long long)now.tv_sec,
                   now.tv_nsec, (int)getpid(), turn);
    turn++;
    return text;
}

bool stack(const char *verb, const char *name) {
    char command[256];

    (void)snprintf(command, sizeof(command), "scripts/stack.sh %s %s >/dev/null", verb, name);
    const int status = system(command); /* both words are the test's own */
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void stack_signal(const char *name, int signal) {
    char path[256];
    int pid = 0;

    (void)snprintf(path, sizeof(path), "build/%s/run/%s.pid",
                   stack_environment("DAYBOOK_TEST_STACK"), name);
    FILE *file = fopen(path, "re");
    cr_assert_not_null(file, "%s", path);
    cr_assert_eq(fscanf(file, "%d", &pid), 1);
    (void)fclose(file);
    cr_assert_eq(kill(pid, signal), 0, "%s", name);
}

bool eventually(bool (*fn)(void *arg), void *arg, int limit_ms) {
    const double deadline = now_seconds() + limit_ms / 1000.0;
    const struct timespec pause = {.tv_nsec = 10000000};

    while (!fn(arg)) {
        if (now_seconds() > deadline) {
            return false;
        }
        (void)nanosleep(&pause, NULL);
    }
    return true;
}
