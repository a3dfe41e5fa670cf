/* A property that must hold for every input: says which one did not, then aborts, so that libFuzzer
 * keeps the input. */
#ifndef DAYBOOK_TESTS_FUZZ_EXPECT_H
#define DAYBOOK_TESTS_FUZZ_EXPECT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPECT(condition, ...)                                                            \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            (void)fprintf(stderr, "%s:%d: failed: %s: ", __FILE__, __LINE__, #condition); \
            (void)fprintf(stderr, __VA_ARGS__);                                           \
            (void)fputc('\n', stderr);                                                    \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

/* libFuzzer's entry; returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
