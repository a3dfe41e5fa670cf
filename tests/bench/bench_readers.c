#include "tests/bench/bench_readers.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_BYTES = 65536, LISTED_MAX = 100, PAUSE_NS = 1000000 };

static int connect_to(uint16_t port) {
    const struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval limit = {.tv_sec = 10};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0 ||
                    connect(fd, (const struct sockaddr *)&at, sizeof(at)) != 0)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

/* Where the body begins, when all of it is there. */
static const char *whole_body(const char *answer, size_t len) {
    const char *end = strstr(answer, "\r\n\r\n");
    const char *length = strcasestr(answer, "\r\nContent-Length:");

    if (end == NULL || length == NULL || length > end) {
        return NULL;
    }
    const size_t body = (size_t)strtoul(length + 17, NULL, 10);
    return (size_t)(end + 4 - answer) + body <= len ? end + 4 : NULL;
}

/* The body of an answer 200; NULL: anything else. */
static const char *get(int fd, const char *path, char *answer) {
    char request[256];
    const char *body = NULL;
    size_t len = 0;

    const int bytes =
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: bench\r\n\r\n", path);
    if (fd < 0 || send(fd, request, (size_t)bytes, MSG_NOSIGNAL) != bytes) {
        return NULL;
    }
    while (body == NULL && len < ANSWER_BYTES - 1) {
        const ssize_t got = recv(fd, answer + len, ANSWER_BYTES - 1 - len, 0);
        if (got <= 0) {
            return NULL;
        }
        len += (size_t)got;
        answer[len] = '\0';
        body = whole_body(answer, len);
    }
    return body != NULL && strncmp(answer + 9, "200", 3) == 0 ? body : NULL;
}

static int64_t times_in(const char *text, const char *wanted) {
    int64_t times = 0;

    for (const char *at = strstr(text, wanted); at != NULL; at = strstr(at + 1, wanted)) {
        times++;
    }
    return times;
}

static bool is_whole(const struct bench_readers *readers, const char *body, bool list) {
    char newest[48];
    const int64_t listed = readers->version < LISTED_MAX ? readers->version : LISTED_MAX;

    (void)snprintf(newest, sizeof(newest), "\"version\":%" PRId64, readers->version);
    return body != NULL && strstr(body, newest) != NULL &&
           (!list || times_in(body, "\"version\":") >= listed);
}

static void *read_on(void *arg) {
    struct bench_readers *readers = arg;
    const struct timespec pause = {.tv_nsec = PAUSE_NS};
    char *answer = malloc(ANSWER_BYTES);
    int fd = connect_to(readers->port);

    for (int64_t n = 0; answer != NULL && !atomic_load(&readers->ended); n++) {
        const bool list = n % 2 == 1;
        char path[96];
        (void)snprintf(path, sizeof(path), "/accounts/account-%05" PRId64 "%s",
                       n * 7919 % readers->accounts, list ? "/transactions?limit=100" : "");
        const char *body = get(fd, path, answer);
        if (!is_whole(readers, body, list) && atomic_fetch_add(&readers->errors, 1) == 0) {
            (void)fprintf(stderr, "bench: %s: %.300s\n", path, body != NULL ? body : answer);
        }
        if (body == NULL) {
            (void)close(fd);
            fd = connect_to(readers->port);
        }
        atomic_fetch_add(&readers->reads, 1);
        (void)nanosleep(&pause, NULL);
    }
    (void)close(fd);
    free(answer);
    return NULL;
}

bool bench_readers_start(struct bench_readers *readers) {
    const int wanted = readers->count;

    for (readers->count = 0; readers->count < wanted; readers->count++) {
        if (pthread_create(&readers->threads[readers->count], NULL, read_on, readers) != 0) {
            return false;
        }
    }
    return true;
}

void bench_readers_end(struct bench_readers *readers) {
    atomic_store(&readers->ended, true);
    for (int i = 0; i < readers->count; i++) {
        (void)pthread_join(readers->threads[i], NULL);
    }
}
