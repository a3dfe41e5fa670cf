#include "common/base/mem.h"

#include <stdlib.h>
#include <unistd.h>

static NORETURN void out_of_memory(void) {
    /* Neither stdio nor the log: both may want memory. */
    static const char line[] = "{\"level\":\"error\",\"event\":\"process.out_of_memory\"}\n";
    ssize_t ignored = write(STDERR_FILENO, line, sizeof line - 1);
    (void)ignored;
    abort();
}

void *mem_array(size_t count, size_t size) {
    /* calloc checks the product; one byte at least, so that NULL always means failure. */
    void *ptr = calloc(count ? count : 1, size ? size : 1);
    if (!ptr) {
        out_of_memory();
    }
    return ptr;
}

void *mem_zalloc(size_t bytes) {
    return mem_array(1, bytes);
}

void *mem_resize(void *old, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        out_of_memory();
    }
    void *ptr = realloc(old, bytes ? bytes : 1);
    if (!ptr) {
        out_of_memory();
    }
    return ptr;
}

char *mem_strndup(struct str text) {
    char *copy = mem_zalloc(text.len + 1);
    if (text.len > 0) {
        memcpy(copy, text.ptr, text.len);
    }
    return copy;
}

char *mem_strdup(const char *text) {
    return mem_strndup(str_from(text));
}

void mem_free(void *ptr) {
    free(ptr);
}

void mem_free_const(const void *ptr) {
    union {
        const void *in;
        void *out;
    } owned = {.in = ptr};

    free(owned.out);
}
