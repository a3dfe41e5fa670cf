/*
 * What the tests ask of Criterion, in place of its library, for SANITIZE=thread: the library's own
 * place for its processes lies where ThreadSanitizer has its shadow. One process for each test, one
 * after the other; the same options, as far as scripts/test.sh and a hand need them, and the same
 * last line. A check in a .fini counts.
 */
#include <criterion/criterion.h>
#include <fnmatch.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SLOWER = 5, TIMEOUT_S = 300 };

extern struct criterion_test *__start_cr_tst[];
extern struct criterion_test *__stop_cr_tst[];
extern struct criterion_suite *__start_cr_sts[] __attribute__((weak)); /* there may be none */
extern struct criterion_suite *__stop_cr_sts[] __attribute__((weak));

struct criterion_options criterion_options;

static const struct criterion_test *current;
static const struct criterion_test_extra_data *suite; /* of the current test; NULL: none */
static jmp_buf leave;
static int failed_checks;

/* --- what the macros call --- */

int cr_asprintf(char **out, const char *format, ...) {
    va_list args;

    va_start(args, format);
    const int len = vasprintf(out, format, args);
    va_end(args);
    return len;
}

void cr_asprintf_free(char *text) {
    free(text);
}

char *cr_translate_assert_msg(int message, ...) {
    char *text = NULL;

    (void)asprintf(&text, "a check of kind %d", message);
    return text;
}

void cri_asserts_passed_incr(void) {
}

void criterion_send_assert(struct criterion_assert_stats *stats) {
    failed_checks += !stats->passed;
    (void)printf("[----] %s:%u: %s\n", stats->file, stats->line, stats->message);
}

void criterion_abort_test(void) {
    longjmp(leave, 1);
}

void criterion_continue_test(void) {
}

void criterion_skip_test(const char *format, ...) {
    (void)format;
    longjmp(leave, 1);
}

void criterion_internal_test_setup(void) {
    if (suite != NULL && suite->init != NULL) {
        suite->init();
    }
    if (current->data->init != NULL) {
        current->data->init();
    }
}

void criterion_internal_test_main(void (*body)(void)) {
    jmp_buf outer;

    memcpy(&outer, &leave, sizeof(outer));
    if (setjmp(leave) == 0) {
        body();
    }
    memcpy(&leave, &outer, sizeof(outer)); /* .fini comes whatever the body has met */
}

void criterion_internal_test_teardown(void) {
    if (current->data->fini != NULL) {
        current->data->fini();
    }
    if (suite != NULL && suite->fini != NULL) {
        suite->fini();
    }
}

/* --- one test, and all --- */

static const struct criterion_test_extra_data *suite_of(const struct criterion_test *test) {
    for (struct criterion_suite **s = __start_cr_sts; s < __stop_cr_sts; s++) {
        if (strcmp((*s)->name, test->category) == 0) {
            return (*s)->data;
        }
    }
    return NULL;
}

_Noreturn static void run_here(void) {
    double limit_s = current->data->timeout;

    if (suite != NULL && suite->timeout > limit_s) {
        limit_s = suite->timeout;
    }
    (void)alarm(SLOWER * (limit_s > 0 ? (unsigned)limit_s : TIMEOUT_S));
    if (setjmp(leave) == 0) {
        current->test();
    }
    exit(failed_checks > 0);
}

static bool passes(const struct criterion_test *test) {
    int status = 0;

    current = test;
    suite = suite_of(test);
    (void)fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        run_here();
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        return false;
    }
    const bool passed = test->data->signal != 0
                            ? WIFSIGNALED(status) && WTERMSIG(status) == test->data->signal
                            : WIFEXITED(status) && WEXITSTATUS(status) == test->data->exit_code;
    if (!passed) {
        (void)printf("[FAIL] %s::%s: status %#x\n", test->category, test->name, (unsigned)status);
    }
    return passed;
}

int main(int argc, char **argv) {
    const char *filter = "*";
    char name[256];
    int tested = 0;
    int passed = 0;

    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--filter") == 0) {
            filter = argv[i + 1];
        }
    }
    for (struct criterion_test **test = __start_cr_tst; test < __stop_cr_tst; test++) {
        (void)snprintf(name, sizeof(name), "%s/%s", (*test)->category, (*test)->name);
        if (fnmatch(filter, name, FNM_EXTMATCH) == 0 && !(*test)->data->disabled) {
            tested++;
            passed += passes(*test);
        }
    }
    (void)printf("[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: 0\n", tested,
                 passed, tested - passed);
    return passed == tested ? 0 : 1;
}
