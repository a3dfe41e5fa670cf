/* A rebuild whose places can't be made, while its threads read ahead already: it ends, says why and
 * leaves the live model; the next one is as any other. */
#include <criterion/criterion.h>
#include <string.h>

#include "../support/environment.h"
#include "../support/shell.h"

static char output[65536];

static void let(const char *verb, const char *preposition) {
    (void)read_model_sql("%s EXECUTE ON FUNCTION daybook.build_begin(text, text[], text[]) %s"
                         " daybook_projector",
                         verb, preposition);
}

static void allow(void) {
    let("GRANT", "TO");
}

static int command(const char *words) {
    return projector_command(output, sizeof(output), NULL, words);
}

Test(rebuild_refused, it_ends_and_leaves_the_live_model, .timeout = 60, .fini = allow) {
    cr_assert_eq(command("rebuild all"), 0, "%s", output);
    let("REVOKE", "FROM");
    cr_assert_neq(command("rebuild all"), 0, "%s", output);
    cr_assert_not_null(strstr(output, "permission denied"), "%s", output);
    cr_assert_eq(command("verify"), 0, "%s", output);
    allow();
    cr_assert_eq(command("rebuild all"), 0, "%s", output);
    cr_assert_eq(command("verify"), 0, "%s", output);
    cr_assert_str_eq(read_model_sql("SELECT count(*) FROM pg_tables WHERE schemaname ="
                                    " 'daybook_build'"),
                     "0");
}
