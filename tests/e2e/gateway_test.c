/* An nginx of the test's own, on a socket: whose rate it counts, and how it ends. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/command.h"
#include "../support/environment.h"
#include "../support/http_client.h"
#include "../support/shell.h"

enum {
    TRIES = 8,
    /* At a rate of one a second: two at once, and what seconds may pass meanwhile. */
    LIMITED_MAX = 5,
};

static struct {
    char folder[64];
    pid_t nginx;
} gateway;

static bool answers(void *arg) {
    char output[64];

    (void)arg;
    return shell(output, sizeof(output),
                 "curl -fs -m 2 --unix-socket %s/socket -o /dev/null http://gateway/health",
                 gateway.folder) == 0;
}

/* `settings`: NAME=value … */
static void start_before(const char *query_api, const char *settings) {
    char output[1024];
    char configuration[96];

    (void)snprintf(gateway.folder, sizeof(gateway.folder), "/tmp/daybook-gateway-XXXXXX");
    cr_assert_not_null(mkdtemp(gateway.folder));
    cr_assert_eq(
        shell(output, sizeof(output),
              "env -u DAYBOOK_TLS_CERTIFICATE -u DAYBOOK_TLS_KEY "
              "GATEWAY_LISTEN=unix:%s/socket GATEWAY_STATE=%s GATEWAY_COMMAND_APIS=127.0.0.1:1 "
              "GATEWAY_QUERY_APIS=%s %s infra/gateway/render.sh 2>&1 >%s/nginx.conf",
              gateway.folder, gateway.folder, query_api, settings, gateway.folder),
        0, "%s", output);
    (void)snprintf(configuration, sizeof(configuration), "%s/nginx.conf", gateway.folder);
    gateway.nginx = fork();
    cr_assert_geq(gateway.nginx, 0);
    if (gateway.nginx == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
        /* It tells of each refusal. */
        (void)dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
        (void)setenv("PATH", "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin", 1);
        (void)execlp("nginx", "nginx", "-e", "stderr", "-p", gateway.folder, "-c", configuration,
                     (char *)NULL);
        _exit(127);
    }
    cr_assert(eventually(answers, NULL, 10000));
}

/* One request a second for each caller. What passes is answered 503, for nobody is behind it, what
 * does not 429. */
static void start(const char *settings) {
    char all[128];

    (void)snprintf(all, sizeof(all), "DAYBOOK_RATE_PER_KEY=1 %s", settings);
    start_before("127.0.0.1:1", all);
}

static void stop(void) {
    char output[64];

    if (gateway.nginx > 0) {
        (void)kill(gateway.nginx, SIGTERM);
        (void)waitpid(gateway.nginx, NULL, 0);
    }
    if (gateway.folder[0] != '\0') {
        (void)shell(output, sizeof(output), "rm -rf %s", gateway.folder);
    }
}

TestSuite(gateway, .fini = stop, .timeout = 60);

/* How many of TRIES requests pass; each with its line of headers, as curl's arguments. One curl
 * sends them all: quicker than the rate. */
static int passing(const char *const headers[TRIES]) {
    char requests[1536] = "";
    char output[256];
    size_t len = 0;
    int passed = 0;
    int refused = 0;

    for (size_t i = 0; i < TRIES; i++) {
        len += (size_t)snprintf(requests + len, sizeof(requests) - len,
                                "%s --unix-socket $at -s -o /dev/null -w '%%{http_code} ' %s $url",
                                i == 0 ? "" : " --next", headers[i]);
        cr_assert_lt(len, sizeof(requests));
    }
    (void)shell(output, sizeof(output),
                "at=%s/socket; url=http://gateway/accounts/a/balance; curl %s", gateway.folder,
                requests);
    for (const char *at = output; strlen(at) >= 4; at += 4) {
        passed += strncmp(at, "503", 3) == 0;
        refused += strncmp(at, "429", 3) == 0;
    }
    cr_assert_eq(passed + refused, TRIES, "%s", output);
    return passed;
}

#define KEYS "DAYBOOK_AUTH_API_KEYS_PATH=/a"

static const char *const one_caller[TRIES] = {"-H 'Authorization: Bearer k'",
                                              "-H 'Authorization: bearer k' -H 'X-API-Key: 1'",
                                              "-H 'authorization: BEARER k' -H 'X-API-Key: 2'",
                                              "-H 'Authorization: Bearer    k' -H 'X-API-Key: 3'",
                                              "-H 'Authorization:   Bearer k  ' -H 'X-API-Key: 4'",
                                              "-H 'Authorization: BeArEr k ' -H 'X-API-Key: 5'",
                                              "-H \"Authorization: Bearer $(printf '\\t')k\"",
                                              "-H \"Authorization: Bearer k$(printf ' \\t')\""};
static const char *const callers[TRIES] = {
    "-H 'Authorization: Bearer a'",   "-H 'Authorization: Bearer b'",
    "-H 'Authorization: Bearer c'",   "-H 'Authorization: Bearer A'",
    "-H 'Authorization: Bearer a b'", "-H 'Authorization: Bearer d.e.f'",
    "-H 'Authorization: Bearer d=='", "-H 'Authorization: Bearer g'"};
static const char *const strangers[TRIES] = {"",
                                             "-H 'X-API-Key: 1'",
                                             "-H 'X-API-Key: 2'",
                                             "-H 'Authorization: Basic YTpi'",
                                             "-H 'Authorization: Basic YTpj'",
                                             "-H 'Authorization: Bearer'",
                                             "-H 'Authorization: Bearer '",
                                             "-H 'Authorization: k'"};

Test(gateway, a_caller_has_one_rate_however_it_spells_itself) {
    start(KEYS);
    const int passed = passing(one_caller);
    cr_assert(passed >= 2 && passed <= LIMITED_MAX, "%d", passed);
}

Test(gateway, callers_do_not_use_up_each_others_rate) {
    start(KEYS);
    cr_assert_eq(passing(callers), TRIES);
}

Test(gateway, who_sends_no_token_has_its_addresss_rate) {
    start("DAYBOOK_AUTH_JWT_KEYS_PATH=/a");
    const int passed = passing(strangers);
    cr_assert(passed >= 2 && passed <= LIMITED_MAX, "%d", passed);
}

Test(gateway, a_token_that_nobody_checks_has_its_addresss_rate) {
    start("DAYBOOK_AUTH=off");
    const int passed = passing(callers);
    cr_assert(passed >= 2 && passed <= LIMITED_MAX, "%d", passed);
}

static bool someone_waits(void *arg) {
    struct http_answer a = http_get(arg);
    const bool is = a.body != NULL && strstr(a.body, "daybook_query_waiters 1") != NULL;

    http_answer_release(&a);
    return is;
}

/* Also when the gateway has been told to end. */
Test(gateway, a_read_that_waits_is_answered) {
    enum { WAIT_MS = 7000 };
    const char *query_api = stack_environment("DAYBOOK_TEST_QUERY_API");
    const char *id = command_open(stack_environment("DAYBOOK_TEST_COMMAND_API"), "waits");
    char line[256];
    char metrics[96];
    char status[8] = "";

    start_before(query_api + strlen("http://"), "");
    (void)snprintf(metrics, sizeof(metrics), "%s/metrics", query_api);
    (void)snprintf(line, sizeof(line),
                   "curl -s -o /dev/null -w '%%{http_code}' --unix-socket %s/socket "
                   "'http://gateway/accounts/%s?min_version=9&timeout_ms=%d'",
                   gateway.folder, id, WAIT_MS);
    FILE *read = popen(line, "r"); /* the test's own line */
    cr_assert_not_null(read);
    cr_assert(eventually(someone_waits, metrics, 5000));
    const double from = now_seconds();
    cr_assert_eq(kill(gateway.nginx, SIGQUIT), 0);
    cr_assert_not_null(fgets(status, sizeof(status), read));
    (void)pclose(read);
    cr_expect_str_eq(status, "504");
    cr_expect_gt(now_seconds() - from, WAIT_MS / 1000.0 / 2);
    cr_expect_eq(waitpid(gateway.nginx, NULL, 0), gateway.nginx);
    gateway.nginx = 0;
}
