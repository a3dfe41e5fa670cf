#include "projector/commands.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *word, *usage, *help;
    int (*run)(const struct world *world, const char *const *words, size_t count);
} commands[] = {
    {"status", "status", "where each projection stands in each store and partition",
     command_status},
    {"verify", "verify [NAME]",
     "compare the read models with the fold of the log; exit 1: they differ", command_verify},
    {"rebuild", "rebuild NAME|all", "build anew beside the live model, then switch",
     command_rebuild},
    {"parked", "parked list", "streams that were put aside, and why", command_parked},
    {"parked", "parked show NAME STREAM", "the parked events of a stream", command_parked},
    {"parked", "parked retry NAME STREAM", "apply them now, in order, as far as they go",
     command_parked},
    {"parked", "parked discard NAME STREAM",
     "declare what stops the stream void (the event, or the missing versions), go on behind it",
     command_parked},
};

void command_print_help(void) {
    (void)puts("Commands (without one it posts events until it is told to stop):");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        (void)printf("  %-28s %s\n", commands[i].usage, commands[i].help);
    }
    (void)puts("  --projections=NAME,NAME      only these; the same as DAYBOOK_PROJECTIONS\n");
}

int command_run(const struct world *world, const char *const *words, size_t count) {
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(words[0], commands[i].word) == 0) {
            return commands[i].run(world, words, count);
        }
    }
    (void)fprintf(stderr,
                  "daybook-projector: unknown argument \"%s\"; see daybook-projector --help\n",
                  words[0]);
    return 2;
}

int command_failed(const char *what, const struct err *err) {
    (void)fprintf(stderr, "daybook-projector: %s: %s\n", what, err->message);
    return 1;
}

int command_misused(const char *why) {
    (void)fprintf(stderr, "daybook-projector: %s; see daybook-projector --help\n", why);
    return 2;
}
