/* A rebuild whose places can't be made, while its threads read ahead already: it ends, says why and
 * leaves the live model; the next one is as any other. */
#include <criterion/criterion.h>
#include <string.h>

#include "../support/environment.h"
#include "../support/shell.h"

static void let(const char *verb, const char *preposition) {
    (void)read_model_sql("%s EXECUTE ON FUNCTION daybook.build_begin(text, text[], text[]) %s"
                         " daybook_projector",
                         verb, preposition);
}

static void allow(void) {
    let("GRANT", "TO");
}

Test(rebuild_refused, it_ends_and_leaves_the_live_model, .timeout = 60, .fini = allow) {
    projector_expect("rebuild all");
    let("REVOKE", "FROM");
    cr_assert_neq(projector_command("rebuild all"), 0, "%s", projector_output());
    cr_assert_not_null(strstr(projector_output(), "permission denied"), "%s", projector_output());
    projector_expect("verify");
    allow();
    projector_expect("rebuild all");
    projector_expect("verify");
    cr_assert_str_eq(read_model_sql("SELECT count(*) FROM pg_tables WHERE schemaname ="
                                    " 'daybook_build'"),
                     "0");
}
