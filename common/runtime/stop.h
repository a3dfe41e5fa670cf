/*
 * The wish to stop, from SIGTERM or SIGINT or from inside. Signal handlers set one flag and write
 * one eventfd; threads look at the flag or wait on the descriptor. SIGPIPE is ignored.
 */
#ifndef DAYBOOK_RUNTIME_STOP_H
#define DAYBOOK_RUNTIME_STOP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"

struct stop;

/* Installs the handlers. One per process. */
MUST_CHECK enum err_code stop_new(struct stop **out, struct err *err);
/* Without handlers, for tests. */
MUST_CHECK enum err_code stop_new_quiet(struct stop **out, struct err *err);
void stop_free(struct stop *stop);

bool stop_requested(const struct stop *stop);
void stop_request(struct stop *stop);
/* An eventfd that becomes readable, and stays so, when the stop is requested. */
int stop_fd(const struct stop *stop);
/* Waits at most `ms`, less when the stop is requested. True: it is. */
bool stop_wait_ms(struct stop *stop, int64_t ms);

#endif
