#include "tests/bench/bench_process.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

pid_t bench_start(const char *const *argv, const char *const *variables, const char *log) {
    char *args[32] = {0};
    const pid_t pid = fork();

    if (pid != 0) {
        return pid > 0 ? pid : 0;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* a benchmark that gives up leaves nothing behind */
    const int fd = open(log, O_CREAT | O_APPEND | O_WRONLY, 0644);
    if (fd >= 0) {
        (void)dup2(fd, STDOUT_FILENO);
        (void)dup2(fd, STDERR_FILENO);
    }
    for (size_t i = 0; variables[i] != NULL; i++) {
        (void)putenv(strdup(variables[i]));
    }
    for (size_t i = 0; argv[i] != NULL && i + 1 < sizeof(args) / sizeof(args[0]); i++) {
        args[i] = strdup(argv[i]);
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* also when the benchmark gives up */
    (void)execvp(args[0], args);
    _exit(127);
}

void bench_stop(pid_t pid) {
    if (pid > 0) {
        (void)kill(pid, SIGTERM);
        (void)waitpid(pid, NULL, 0);
    }
}

static bool is_ready(uint16_t port) {
    static const char request[] = "GET /ready HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
    const struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    char answer[16] = "";
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    const bool connected =
        fd >= 0 && connect(fd, (const struct sockaddr *)&at, sizeof(at)) == 0 &&
        send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(request) - 1;
    const ssize_t got = connected ? recv(fd, answer, sizeof(answer) - 1, MSG_WAITALL) : 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return got > 12 && memcmp(answer + 9, "200", 3) == 0;
}

bool bench_wait_ready(uint16_t port, int limit_ms) {
    const struct timespec pause = {.tv_nsec = 20000000};

    for (int waited_ms = 0; waited_ms < limit_ms; waited_ms += 20) {
        if (is_ready(port)) {
            return true;
        }
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

struct process_times {
    pid_t parent;
    double cpu_seconds;
    double ended_seconds; /* of its children that ended */
};

/* /proc/<pid>/stat, proc(5): fields 4 and 14 to 17; the last two are of children that ended. */
static bool read_times(pid_t pid, struct process_times *out) {
    char path[64];
    char text[1024];
    unsigned long user = 0;
    unsigned long system = 0;
    long ended_user = 0;
    long ended_system = 0;
    int parent = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    const size_t len = fread(text, 1, sizeof(text) - 1, file);
    (void)fclose(file);
    text[len] = '\0';
    const char *fields = strrchr(text, ')');
    if (fields == NULL ||
        sscanf(fields + 2, "%*c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld", &parent,
               &user, &system, &ended_user, &ended_system) != 5) {
        return false;
    }
    out->parent = parent;
    out->cpu_seconds = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    out->ended_seconds = (double)(ended_user + ended_system) / (double)sysconf(_SC_CLK_TCK);
    return true;
}

double bench_cpu_seconds(pid_t pid, bool children) {
    struct process_times times;
    double sum =
        read_times(pid, &times) ? times.cpu_seconds + (children ? times.ended_seconds : 0) : 0;
    DIR *proc = children ? opendir("/proc") : NULL;

    for (const struct dirent *entry = proc != NULL ? readdir(proc) : NULL; entry != NULL;
         entry = readdir(proc)) {
        const pid_t other = (pid_t)strtol(entry->d_name, NULL, 10);
        if (other > 0 && read_times(other, &times) && times.parent == pid) {
            sum += times.cpu_seconds;
        }
    }
    if (proc != NULL) {
        (void)closedir(proc);
    }
    return sum;
}

int64_t bench_rss_kib(pid_t pid) {
    char path[64];
    char line[256];
    int64_t kib = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "VmRSS:", 6) == 0) {
            kib = strtoll(line + 6, NULL, 10);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return kib;
}

const char *bench_env(const char *name) {
    const char *value = getenv(name);

    if (value == NULL || value[0] == '\0') {
        (void)fprintf(stderr, "bench: %s is not set: run it through scripts/bench.sh\n", name);
        exit(2);
    }
    return value;
}

double bench_env_number(const char *name, double otherwise) {
    const char *value = getenv(name);
    const double number = value != NULL ? strtod(value, NULL) : 0;

    return number > 0 ? number : otherwise;
}

pid_t bench_start_command_api(uint16_t port) {
    char program[512];
    char listen[64];
    char url[512];
    const char *const argv[] = {program, NULL};
    const char *const variables[] = {listen, url, "DAYBOOK_LOG_LEVEL=warn", NULL};

    (void)snprintf(program, sizeof(program), "%s/daybook-command-api",
                   bench_env("DAYBOOK_BIN_DIR"));
    (void)snprintf(listen, sizeof(listen), "DAYBOOK_HTTP_PORT=%u", port);
    (void)snprintf(url, sizeof(url), "DAYBOOK_WRITE_DATABASE_URL=%s",
                   bench_env("DAYBOOK_TEST_COMMAND_URL"));
    const pid_t pid = bench_start(argv, variables, "build/bench/command-api.log");
    return pid != 0 && bench_wait_ready(port, 10000) ? pid : 0;
}
