/* ThreadSanitizer sees the locks of the libraries, but not their atomics: what they do with their
 * own memory is no race that could be told from an orderly hand-over. So accesses count that our
 * own code makes. */
const char *__tsan_default_options(void);

const char *__tsan_default_options(void) {
    return "ignore_noninstrumented_modules=1 second_deadlock_stack=1 history_size=4";
}
