/* Tables that had rows before their keys were given an order of their own get it with a rebuild;
 * readers, whose statements were prepared before, don't notice. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "../support/command.h"
#include "../support/environment.h"
#include "../support/http_client.h"
#include "../support/shell.h"

static const char *ordered_columns(void) {
    return read_model_sql(
        "SELECT count(*) FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation"
        " WHERE a.attrelid IN ('daybook.accounts'::regclass, 'daybook.activity'::regclass)"
        " AND a.attname IN ('account_id', 'currency') AND a.attnum = ANY (SELECT unnest("
        "indkey::smallint[]) FROM pg_index WHERE indrelid = a.attrelid) AND c.collname = 'C'");
}

/* From each of the connections to PostgreSQL that the query API reads these through. */
static void expect_lists(void) {
    static const char *const paths[] = {"/accounts?limit=1", "/accounts?limit=1&order=balance",
                                        "/activity?from=2026-01-01&to=2026-01-02"};

    for (int i = 0; i < 24; i++) {
        struct http_answer a = http_get(url_of("DAYBOOK_TEST_QUERY_API", "%s", paths[i % 3]));
        cr_assert_eq(a.status, 200, "%s: %s", paths[i % 3], a.body);
        http_answer_release(&a);
    }
}

Test(rebuild_order, keys_are_ordered_by_their_bytes_and_readers_do_not_notice, .timeout = 120) {
    (void)command_open(stack_environment("DAYBOOK_TEST_COMMAND_API"), "ordered");
    expect_lists();
    (void)read_model_sql("ALTER TABLE daybook.accounts ALTER account_id TYPE text"
                         " COLLATE \"default\"");
    (void)read_model_sql("ALTER TABLE daybook.activity ALTER currency TYPE text"
                         " COLLATE \"default\"");
    cr_assert_str_eq(ordered_columns(), "0");
    expect_lists();
    projector_expect("rebuild all");
    cr_assert_str_eq(ordered_columns(), "2");
    expect_lists();
    projector_expect("verify");
}
