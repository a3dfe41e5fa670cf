#include "common/base/trace_context.h"

#include <criterion/criterion.h>

static const char example[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

Test(trace_context, is_read_and_written_as_it_was) {
    struct trace_context context = {.sampled = false};
    char text[TRACEPARENT_BYTES];

    cr_assert_not(trace_context_is_set(&context));
    cr_assert(trace_context_parse(STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                                  &context));
    cr_assert(context.sampled);
    cr_assert(trace_context_is_set(&context));
    cr_assert_eq(context.trace_id[0], 0x4b);
    cr_assert_eq(context.span_id[7], 0xb7);
    trace_context_format(text, &context);
    cr_assert_str_eq(text, example);
}

Test(trace_context, only_the_first_flag_is_ours) {
    struct trace_context context;
    char text[TRACEPARENT_BYTES];

    cr_assert(trace_context_parse(STR("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-fe"),
                                  &context));
    cr_assert_not(context.sampled);
    trace_context_format(text, &context);
    cr_assert_str_eq(text, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
}

Test(trace_context, what_is_ill_formed_is_no_context) {
    static const char *const texts[] = {
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902bg-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    };
    struct trace_context context = {.sampled = true};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        cr_assert_not(trace_context_parse(str_from(texts[i]), &context), "%s", texts[i]);
    }
    cr_assert(context.sampled, "it is untouched");
}
