/* What an operator asks of daybook-projector: one function per command, results on stdout, problems
 * on stderr. */
#ifndef DAYBOOK_PROJECTOR_COMMANDS_H
#define DAYBOOK_PROJECTOR_COMMANDS_H

#include "projector/world.h"

enum { COMMAND_WORDS_MAX = 6 };

/* Exit codes: 0 done, 1 it could not be done or (verify) there are differences, 2 wrong words. */
int command_run(const struct world *world, const char *const *words, size_t count);
/* The commands as lines of help. */
void command_print_help(void);

int command_parked(const struct world *world, const char *const *words, size_t count);
int command_status(const struct world *world, const char *const *words, size_t count);
int command_verify(const struct world *world, const char *const *words, size_t count);
int command_rebuild(const struct world *world, const char *const *words, size_t count);

/* One line to stderr; returns 1. */
int command_failed(const char *what, const struct err *err);
/* One line to stderr; returns 2. */
int command_misused(const char *why);

#endif
