#include "command-api/rejections.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(rejections, are_counted_by_code) {
    struct metrics *metrics = metrics_new();
    struct rejections rejections;
    struct buf out;

    rejections_init(&rejections, metrics);
    rejections_add(&rejections, "insufficient_funds");
    rejections_add(&rejections, "insufficient_funds");
    rejections_add(&rejections, "account_closed");
    buf_init(&out, 1 << 20);
    metrics_render(metrics, &out);
    buf_put_char(&out, '\0');
    cr_assert_not_null(
        strstr(out.ptr, "daybook_commands_rejected_total{code=\"insufficient_funds\"} 2\n"));
    cr_assert_not_null(
        strstr(out.ptr, "daybook_commands_rejected_total{code=\"account_closed\"} 1\n"));
    buf_release(&out);
    rejections_release(&rejections);
    metrics_free(metrics);
}

Test(rejections, codes_past_the_limit_count_as_other) {
    static char codes[REJECTION_CODES_MAX + 2][16];
    struct metrics *metrics = metrics_new();
    struct rejections rejections;
    struct buf out;

    rejections_init(&rejections, metrics);
    for (size_t i = 0; i < REJECTION_CODES_MAX + 2; i++) {
        (void)snprintf(codes[i], sizeof(codes[i]), "code_%zu", i);
        rejections_add(&rejections, codes[i]);
    }
    buf_init(&out, 1 << 20);
    metrics_render(metrics, &out);
    buf_put_char(&out, '\0');
    cr_assert_not_null(strstr(out.ptr, "{code=\"code_31\"} 1\n"));
    cr_assert_null(strstr(out.ptr, "{code=\"code_32\"}"));
    cr_assert_not_null(strstr(out.ptr, "{code=\"other\"} 2\n"));
    buf_release(&out);
    rejections_release(&rejections);
    metrics_free(metrics);
}
