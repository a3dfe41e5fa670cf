/* What passes by itself is tried again, however often it takes, and parks nothing: a batch that the
 * database ends as the victim of a deadlock, or because it can't be serialized. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../support/environment.h"
#include "../support/http_client.h"
#include "../support/shell.h"

#define GATEWAY "DAYBOOK_TEST_GATEWAY"

enum { REFUSALS = 3 };

static void post(const char *url, const char *body) {
    struct http_answer a = http_post(url, body);

    cr_assert(a.status == 200 || a.status == 201, "%s", a.body);
    http_answer_release(&a);
}

static bool has_version(const char *id, int version) {
    return atoi(read_model_sql("SELECT version FROM daybook.accounts WHERE account_id = '%s'",
                               id)) == version;
}

static bool is_opened(void *id) {
    return has_version(id, 1);
}

static bool is_deposited(void *id) {
    return has_version(id, 2);
}

/* Sequences count what was rolled back, too. */
static bool is_refused_often(void *arg) {
    (void)arg;
    return atoi(read_model_sql("SELECT last_value FROM daybook.test_refusals")) >= REFUSALS;
}

static void refuse(const char *id, const char *state) {
    (void)read_model_sql(
        "CREATE SEQUENCE daybook.test_refusals;"
        " CREATE FUNCTION daybook.test_refuse() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " AS $$BEGIN PERFORM nextval('daybook.test_refusals');"
        " RAISE EXCEPTION 'not now' USING ERRCODE = '%s'; END$$;"
        " CREATE TRIGGER test_refuse BEFORE INSERT OR UPDATE ON daybook.accounts FOR EACH ROW"
        " WHEN (NEW.account_id = '%s' AND NEW.version = 2)"
        " EXECUTE FUNCTION daybook.test_refuse()",
        state, id);
}

static void refuse_no_more(void) {
    (void)read_model_sql("DROP FUNCTION IF EXISTS daybook.test_refuse() CASCADE;"
                         " DROP SEQUENCE IF EXISTS daybook.test_refusals");
}

static void expect_retries(const char *state) {
    char id[96];
    char body[160];

    projector_expect("rebuild all");
    (void)snprintf(id, sizeof(id), "%s", fresh_id("transient"));
    (void)snprintf(body, sizeof(body), "{\"id\":\"%s\"}", id);
    post(url_of(GATEWAY, "/accounts"), body);
    cr_assert(eventually(is_opened, id, 10000));
    refuse(id, state);
    post(url_of(GATEWAY, "/accounts/%s/deposit", id), "{\"amount\":1}");
    cr_assert(eventually(is_refused_often, NULL, 20000), "it is not tried again");
    projector_expect("parked list");
    cr_assert_null(strstr(projector_output(), id), "%s", projector_output());
    cr_assert_not(has_version(id, 2));
    refuse_no_more();
    cr_assert(eventually(is_deposited, id, 10000));
    projector_expect("verify");
}

TestSuite(transient, .timeout = 90, .fini = refuse_no_more);

Test(transient, the_victim_of_a_deadlock_is_tried_again) {
    expect_retries("40P01");
}

Test(transient, what_could_not_be_serialized_is_tried_again) {
    expect_retries("40001");
}
