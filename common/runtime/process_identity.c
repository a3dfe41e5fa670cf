#include "common/runtime/process_identity.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PART_BYTES = 64, STAT_BYTES = 1024, STARTED_FIELD = 20 };

/* proc(5), /proc/<pid>/stat: the state and, 20 fields on, when it was started. */
static bool read_start(long pid, char *state, unsigned long long *started) {
    char path[PART_BYTES];
    char text[STAT_BYTES];

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    const size_t len = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[len] = '\0';
    char *field = strrchr(text, ')'); /* the name may hold anything */
    if (field == NULL || field[1] == '\0') {
        return false;
    }
    field += 2;
    *state = *field;
    for (int i = 1; i < STARTED_FIELD && field != NULL; i++) {
        field = strchr(field, ' ');
        field = field != NULL ? field + 1 : NULL;
    }
    *started = field != NULL ? strtoull(field, NULL, 10) : 0;
    return *started > 0;
}

static void read_machine(char *out, size_t size) {
    char boot[PART_BYTES] = "?";
    char space[PART_BYTES] = "?";
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

    if (file != NULL) {
        if (fgets(boot, sizeof(boot), file) == NULL) {
            boot[0] = '?';
        }
        (void)fclose(file);
    }
    boot[strcspn(boot, "\n")] = '\0';
    const ssize_t len = readlink("/proc/self/ns/pid", space, sizeof(space) - 1);
    if (len > 0) {
        space[len] = '\0';
    }
    (void)snprintf(out, size, "%s/%s", boot, space);
}

void process_identity(char out[PROCESS_IDENTITY_BYTES]) {
    char machine[2 * PART_BYTES];
    unsigned long long started = 0;
    char state = '?';
    const long pid = (long)getpid();

    read_machine(machine, sizeof(machine));
    (void)read_start(pid, &state, &started);
    (void)snprintf(out, PROCESS_IDENTITY_BYTES, "%.110s/%ld/%llu", machine, pid, started);
}

bool process_identity_ended(const char *identity) {
    char machine[2 * PART_BYTES];
    unsigned long long started = 0;
    char state = '?';

    read_machine(machine, sizeof(machine));
    machine[110] = '\0';
    const size_t len = strlen(machine);
    if (strchr(machine, '?') != NULL || strncmp(identity, machine, len) != 0 ||
        identity[len] != '/') {
        return false;
    }
    char *end = NULL;
    const long pid = strtol(identity + len + 1, &end, 10);
    if (pid <= 0 || end == NULL || *end != '/') {
        return false;
    }
    const unsigned long long wanted = strtoull(end + 1, NULL, 10);
    if (wanted == 0) {
        return false;
    }
    return !read_start(pid, &state, &started) || started != wanted || state == 'Z' || state == 'X';
}
