/*
 * Configuration: one table per process, read from the environment once at start into one const
 * struct. The same table prints --help and validates --check. Only this module reads the
 * environment.
 */
#ifndef DAYBOOK_CONFIG_CONFIG_H
#define DAYBOOK_CONFIG_CONFIG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/buf.h"
#include "common/base/err.h"
#include "common/base/log.h"

enum config_kind {
    CONFIG_STRING, /* const char *: never NULL; min/max bound its length */
    CONFIG_INT,    /* int64_t */
    CONFIG_BOOL,   /* bool: true false 1 0 yes no on off */
    CONFIG_LEVEL,  /* enum log_level */
    CONFIG_URL,    /* const char *: like STRING; `accept` lists allowed schemes "postgresql://
                      postgres://";    the password part is never shown */
};

struct config_key {
    const char *name; /* the environment variable, DAYBOOK_… */
    enum config_kind kind;
    size_t offset;             /* of the field in the process's struct */
    const char *default_value; /* NULL: required */
    int64_t min, max;          /* INT: value; STRING, URL: length; both 0: a length up to 1024 */
    const char *accept; /* URL: schemes; STRING: allowed words separated by spaces, or NULL */
    bool secret;        /* shown as "(set)" only */
    const char *unit;   /* "ms", "bytes", … or "" */
    const char *help;   /* one line */
};

/* A word that makes the program do something else than run. */
struct config_command {
    const char *name;
    const char *help; /* one line */
};

struct config_spec {
    const char *program; /* "daybook-relay" */
    const char *summary; /* one sentence for --help */
    const struct config_key *keys;
    size_t key_count;
    size_t struct_bytes;
    const struct config_command *commands; /* NULL: none */
    size_t command_count;
};

/* Looks a variable up; NULL when unset. Tests pass their own; config_environment reads the
 * process's. */
typedef const char *config_lookup_fn(void *arg, const char *name);
const char *config_environment(void *arg, const char *name);

/*
 * Fills `out` (struct_bytes). All problems are collected, one line each, into `problems`; any
 * problem: ERR_INVALID. A variable that starts with DAYBOOK_ and is not in the table but resembles
 * a key is not an error (processes share one environment). Strings live until config_release.
 * A STRING or URL may come from a file (up to 4096 bytes, a newline at its end is left out) that
 * the variable NAME_FILE names: a secret then stands in no environment. Both set is a problem.
 */
MUST_CHECK enum err_code config_load(const struct config_spec *spec, config_lookup_fn *lookup,
                                     void *arg, void *out, struct buf *problems);
void config_release(const struct config_spec *spec, void *out);

/* The table as text: name, type, default, limits, help. */
void config_print_help(const struct config_spec *spec, FILE *out);
/* The effective values, one NAME=value a line, secrets and passwords replaced. */
void config_print_effective(const struct config_spec *spec, const void *config, FILE *out);

enum config_action { CONFIG_RUN, CONFIG_EXIT };
/*
 * What every main does first: --help, --version, --check, then loading. Prints what is to be
 * printed. CONFIG_EXIT: leave with *exit_code. CONFIG_RUN with argc 2: argv[1] is one of the
 * spec's commands. Unknown arguments: one line to stderr, code 2. A
 * wrong configuration: each problem on a line, code 2.
 */
enum config_action config_main(const struct config_spec *spec, int argc, char **argv, void *out,
                               int *exit_code);

#endif
