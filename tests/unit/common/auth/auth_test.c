/* Files of keys as they change, and when a process may do without. */
#include "common/auth/auth.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../../support/environment.h"
#include "../../../support/token.h"

static struct {
    struct auth_settings settings;
    struct metrics *metrics;
    struct auth *auth;
    struct token_maker *maker;
    char directory[64], api_path[96], jwt_path[96];
} fixture;

static void write_api_key(const char *name, const char *scopes, const char *key) {
    char line[256];

    (void)snprintf(line, sizeof(line), "%s %s %s\n", name, scopes, api_key_hash(key));
    replace_key_file(fixture.api_path, line);
}

static void set_up(void) {
    (void)snprintf(fixture.directory, sizeof(fixture.directory), "/tmp/daybook-auth-XXXXXX");
    cr_assert_not_null(mkdtemp(fixture.directory));
    (void)snprintf(fixture.api_path, sizeof(fixture.api_path), "%s/api", fixture.directory);
    (void)snprintf(fixture.jwt_path, sizeof(fixture.jwt_path), "%s/jwt", fixture.directory);
    fixture.metrics = metrics_new();
    fixture.maker = token_maker_new();
    fixture.settings = (struct auth_settings){.mode = "auto",
                                              .api_keys_path = "",
                                              .jwt_keys_path = "",
                                              .jwt_issuer = "",
                                              .jwt_audience = "daybook"};
}

static void tear_down(void) {
    auth_stop(fixture.auth);
    token_maker_free(fixture.maker);
    metrics_free(fixture.metrics);
    (void)unlink(fixture.api_path);
    (void)unlink(fixture.jwt_path);
    (void)rmdir(fixture.directory);
}

TestSuite(auth, .init = set_up, .fini = tear_down, .timeout = 60);

static enum err_code start(const char *address, struct err *err) {
    return auth_start(&fixture.settings, address, NULL, fixture.metrics, &fixture.auth, err);
}

static enum auth_verdict check(const char *scheme, const char *token, struct auth_subject *out) {
    char value[4096];

    (void)snprintf(value, sizeof(value), "%s%s", scheme, token);
    return auth_check(fixture.auth, str_from(value), 1800000000, out);
}

Test(auth, only_loopback_may_do_without_and_whoever_says_so) {
    struct err err;

    cr_assert_eq(start("127.0.0.1", &err), ERR_OK);
    cr_assert_null(fixture.auth);
    cr_assert_eq(start("0.0.0.0", &err), ERR_INVALID);
    cr_assert_not_null(strstr(err.message, "DAYBOOK_AUTH"), "%s", err.message);
    cr_assert_eq(start("10.0.0.1", &err), ERR_INVALID);
    fixture.settings.mode = "off";
    cr_assert_eq(start("0.0.0.0", &err), ERR_OK);
    cr_assert_null(fixture.auth);
}

Test(auth, off_does_not_go_with_a_file_of_keys) {
    struct err err;

    write_api_key("billing", "write", "k-0123456789");
    fixture.settings.api_keys_path = fixture.api_path;
    fixture.settings.mode = "off";
    cr_assert_eq(start("127.0.0.1", &err), ERR_INVALID);
    cr_assert_eq(start("0.0.0.0", &err), ERR_INVALID);
    cr_assert_not_null(strstr(err.message, "DAYBOOK_AUTH=off"), "%s", err.message);
}

Test(auth, a_file_that_is_wrong_at_the_start_is_told) {
    struct err err;

    fixture.settings.api_keys_path = fixture.api_path;
    cr_assert_eq(start("127.0.0.1", &err), ERR_INVALID);
    cr_assert_not_null(strstr(err.message, fixture.api_path), "%s", err.message);
    replace_key_file(fixture.api_path, "nonsense\n");
    cr_assert_eq(start("127.0.0.1", &err), ERR_INVALID);
    cr_assert_not_null(strstr(err.message, "line 1"), "%s", err.message);
}

Test(auth, api_keys_and_tokens_go_together) {
    struct auth_subject subject;
    struct err err;

    write_api_key("billing", "write", "k-0123456789");
    replace_key_file(fixture.jwt_path, token_key_set(fixture.maker));
    fixture.settings.api_keys_path = fixture.api_path;
    fixture.settings.jwt_keys_path = fixture.jwt_path;
    cr_assert_eq(start("127.0.0.1", &err), ERR_OK, "%s", err.message);
    cr_assert_eq(check("", "", &subject), AUTH_MISSING);
    cr_assert_eq(check("Basic ", "YTpi", &subject), AUTH_INVALID);
    cr_assert_eq(check("Bearer", "", &subject), AUTH_INVALID);
    cr_assert_eq(check("Bearer ", "", &subject), AUTH_INVALID);
    cr_assert_eq(check("Bearer ", "k-9876543210", &subject), AUTH_INVALID);
    cr_assert_eq(check("bearer  ", "k-0123456789 ", &subject), AUTH_OK);
    cr_assert_str_eq(subject.name, "billing");
    const char *claims =
        "{\"sub\":\"alice\",\"aud\":\"daybook\",\"scope\":\"read\",\"exp\":1800000100}";
    cr_assert_eq(
        check("Bearer ", token_rs256(fixture.maker, "{\"alg\":\"RS256\"}", claims), &subject),
        AUTH_OK);
    cr_assert_str_eq(subject.name, "alice");
    cr_assert_eq(subject.scopes, AUTH_READ);
}

static bool is_known(void *key) {
    struct auth_subject subject;

    return check("Bearer ", key, &subject) == AUTH_OK;
}

static bool was_refused(void *arg) {
    (void)arg;
    return metric_counter_value(
               metrics_counter(fixture.metrics, "daybook_auth_reload_failures_total", "", "")) == 1;
}

Test(auth, a_changed_file_is_read_again_and_a_wrong_one_changes_nothing) {
    char first[] = "k-first";
    char second[] = "k-second";
    struct err err;

    write_api_key("billing", "write", first);
    fixture.settings.api_keys_path = fixture.api_path;
    cr_assert_eq(start("127.0.0.1", &err), ERR_OK);
    cr_assert(is_known(first));
    write_api_key("billing", "write", second);
    cr_assert(eventually(is_known, second, 10000));
    cr_assert_not(is_known(first), "it was taken out");
    replace_key_file(fixture.api_path, "half a li");
    cr_assert(eventually(was_refused, NULL, 10000));
    cr_assert(is_known(second));
    (void)unlink(fixture.api_path);
    write_api_key("billing", "write", first);
    cr_assert(eventually(is_known, first, 10000));
}
