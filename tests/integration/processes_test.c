/* Each process as an operator meets it: --help, --version, --check, probes, SIGTERM. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "../support/environment.h"
#include "../support/http_client.h"

static const char *const programs[] = {"daybook-command-api", "daybook-relay", "daybook-projector",
                                       "daybook-query-api"};

/* Runs a shell line; its output (both streams) and exit code. */
static int run(const char *line, char *output, size_t size) {
    FILE *pipe = popen(line, "r");
    size_t len = 0;

    cr_assert_not_null(pipe);
    while (len < size - 1) {
        const size_t got = fread(output + len, 1, size - 1 - len, pipe);
        if (got == 0) {
            break;
        }
        len += got;
    }
    output[len] = '\0';
    const int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Test(processes, help_lists_every_variable) {
    static char output[32768];
    char line[512];

    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(line, sizeof(line), "env -i \"$DAYBOOK_BIN_DIR/%s\" --help 2>&1",
                       programs[i]);
        cr_assert_eq(run(line, output, sizeof(output)), 0, "%s", output);
        cr_assert_not_null(strstr(output, "DAYBOOK_HTTP_PORT"));
        cr_assert_not_null(strstr(output, "Exit codes"));
        (void)snprintf(line, sizeof(line), "\"$DAYBOOK_BIN_DIR/%s\" --version 2>&1", programs[i]);
        cr_assert_eq(run(line, output, sizeof(output)), 0);
        cr_assert_not_null(strstr(output, programs[i]));
        (void)snprintf(line, sizeof(line), "\"$DAYBOOK_BIN_DIR/%s\" --wrong 2>&1", programs[i]);
        cr_assert_eq(run(line, output, sizeof(output)), 2);
        cr_assert_not_null(strstr(output, "--wrong"));
    }
}

Test(processes, check_says_all_that_is_wrong_at_once_and_no_secret) {
    static char output[32768];

    cr_assert_eq(run("env -i DAYBOOK_HTTP_PORT=99999 DAYBOOK_SHARDS=65 "
                     "\"$DAYBOOK_BIN_DIR/daybook-command-api\" --check 2>&1",
                     output, sizeof(output)),
                 2);
    cr_assert_not_null(strstr(output, "DAYBOOK_HTTP_PORT: must be 0 to 65535"));
    cr_assert_not_null(strstr(output, "DAYBOOK_SHARDS: must be 0 to 64"));
    cr_assert_not_null(strstr(output, "DAYBOOK_WRITE_DATABASE_URL: required"));
    cr_assert_eq(run("env -i DAYBOOK_WRITE_DATABASE_URL=postgresql://me:hunter2@h/d "
                     "\"$DAYBOOK_BIN_DIR/daybook-command-api\" --check 2>&1",
                     output, sizeof(output)),
                 0);
    cr_assert_not_null(strstr(output, "configuration ok"));
    cr_assert_null(strstr(output, "hunter2"));
}

Test(processes, each_answers_health_ready_and_metrics) {
    static const struct {
        const char *base, *metric;
    } all[] = {
        {"DAYBOOK_TEST_COMMAND_API", "daybook_events_appended_total"},
        {"DAYBOOK_TEST_COMMAND_API", "daybook_append_batch_size_bucket"},
        {"DAYBOOK_TEST_RELAY", "daybook_relay_lag_bytes"},
        {"DAYBOOK_TEST_RELAY", "daybook_relay_lag_seconds"},
        {"DAYBOOK_TEST_PROJECTOR",
         "daybook_projector_lag_events{projection=\"accounts\",partition="},
        {"DAYBOOK_TEST_PROJECTOR", "daybook_projector_batch_size_bucket"},
        {"DAYBOOK_TEST_QUERY_API", "daybook_http_request_seconds_bucket"},
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct http_answer a = http_get(url_of(all[i].base, "/health"));
        cr_assert_eq(a.status, 200);
        http_answer_release(&a);
        a = http_get(url_of(all[i].base, "/ready"));
        cr_assert_eq(a.status, 200, "%s", a.body);
        cr_assert_gt(json_array_size(json_object_get(a.json, "components")), 0);
        http_answer_release(&a);
        a = http_get(url_of(all[i].base, "/metrics"));
        cr_assert_eq(a.status, 200);
        cr_assert_not_null(strstr(a.body, all[i].metric), "%s has no %s", all[i].base,
                           all[i].metric);
        http_answer_release(&a);
    }
}

/* SIGTERM while commands come in: each that was taken is answered, the exit is clean and bounded.
 */
Test(processes, sigterm_drains_and_exits_0, .timeout = 60) {
    static char output[32768];

    cr_assert_eq(
        run("port=17999; log=$(mktemp); "
            "DAYBOOK_HTTP_PORT=$port DAYBOOK_WRITE_DATABASE_URL=$DAYBOOK_TEST_COMMAND_URL "
            "\"$DAYBOOK_BIN_DIR/daybook-command-api\" 2>$log & pid=$!; "
            "for i in $(seq 100); do curl -fs -m 2 -o /dev/null http://127.0.0.1:$port/ready && "
            "break; sleep 0.05; done; "
            "for i in 1 2 3 4; do (while :; do curl -s -m 5 -o /dev/null -w '%{http_code}\\n' "
            "-X POST -H 'Content-Type: application/json' -d '{}' "
            "http://127.0.0.1:$port/accounts || exit 0; done) & done; "
            "sleep 0.5; kill -TERM $pid; wait $pid; code=$?; wait; "
            "grep -c '\"event\":\"stopped\"' $log; rm -f $log; exit $code",
            output, sizeof(output)),
        0, "%s", output);
    /* 201, at the end 503 (draining) or 000 (no connection); nothing else. */
    for (const char *line = output; *line != '\0'; line += strcspn(line, "\n") + 1) {
        cr_assert(strncmp(line, "201\n", 4) == 0 || strncmp(line, "503\n", 4) == 0 ||
                      strncmp(line, "000\n", 4) == 0 || strncmp(line, "1\n", 2) == 0,
                  "%.20s", line);
    }
    cr_assert_not_null(strstr(output, "201"));
}

Test(processes, starting_without_servers_waits_and_says_so, .timeout = 60) {
    static char output[65536];

    cr_assert_eq(
        run("port=17998; "
            "DAYBOOK_HTTP_PORT=$port DAYBOOK_KAFKA_BROKERS=127.0.0.1:1 "
            "DAYBOOK_REDIS_URL=redis://127.0.0.1:1 "
            "DAYBOOK_READ_DATABASE_URL=postgresql://x@127.0.0.1:1/x "
            "timeout -s TERM 3 \"$DAYBOOK_BIN_DIR/daybook-projector\" 2>&1 & pid=$!; "
            "sleep 2; curl -s -w '\\nready:%{http_code}\\n' http://127.0.0.1:$port/ready; "
            "curl -s -w '\\nhealth:%{http_code}\\n' http://127.0.0.1:$port/health; wait $pid",
            output, sizeof(output)),
        124, "%s", output);
    cr_assert_not_null(strstr(output, "ready:503"), "%s", output);
    cr_assert_not_null(strstr(output, "health:200"), "%s", output);
    cr_assert_not_null(strstr(output, "retry_in_ms"), "%s", output);
    cr_assert_not_null(strstr(output, "\"event\":\"stopped\""), "%s", output);
}
