/* Shell lines in tests, and projector replicas of their own beside the stack's. */
#ifndef DAYBOOK_TESTS_SUPPORT_SHELL_H
#define DAYBOOK_TESTS_SUPPORT_SHELL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Runs a shell line; its standard output (add 2>&1 for both) and exit code. */
int shell(char *output, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* daybook-projector WORDS… on the stack under test; its exit code. What a `verify` says that finds
 * something is kept in the stack's logs/verify.log. */
int projector_command(const char *words);
/* The same of another program. */
int projector_command_of(const char *program, const char *words);
/* The same, which must succeed. */
void projector_expect(const char *words);
/* What the last of these said, both streams; until the next one. */
const char *projector_output(void);
/* `parked VERB` of the stream, for all three projections; each must succeed. */
void projector_parked(const char *verb, const char *id);
/* How often `parked list` names it: once for each store of a projection. */
int projector_parked_lines(const char *id);
/* A replica with a port of its own, to which the stack's offset is added; variables "NAME=value",
 * NULL ends. */
pid_t projector_start(const char *program, int port, const char *const *variables);
/* `rebuild all` on the stack under test, beside the caller. */
pid_t projector_start_rebuild(void);
/* Of such a replica (projector_start); in a static buffer. */
const char *projector_url(int port, const char *path);
/* An SQL statement as the read models' owner; the first value, or "". */
const char *read_model_sql(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Ends the PostgreSQL sessions of all rebuilds, as a server does that restarts. */
void end_rebuilds_sessions(void);
/* redis-cli WORDS…; its output in a static buffer. */
const char *redis_command(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
