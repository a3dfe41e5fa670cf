#include "common/runtime/file_limit.h"

#include <sys/resource.h>

uint64_t file_limit_raise(void) {
    struct rlimit files = {0};

    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return UINT64_MAX;
    }
    if (files.rlim_cur != files.rlim_max) {
        const struct rlimit raised = {.rlim_cur = files.rlim_max, .rlim_max = files.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            files.rlim_cur = raised.rlim_cur;
        }
    }
    return files.rlim_cur == RLIM_INFINITY ? UINT64_MAX : (uint64_t)files.rlim_cur;
}
