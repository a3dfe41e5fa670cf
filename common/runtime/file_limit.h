/* How many files and sockets this process may have open (RLIMIT_NOFILE). */
#ifndef DAYBOOK_RUNTIME_FILE_LIMIT_H
#define DAYBOOK_RUNTIME_FILE_LIMIT_H

#include <stdint.h>

/* Raises the soft limit to the hard limit. Returns the limit then in force; UINT64_MAX: none. */
uint64_t file_limit_raise(void);

#endif
