#include "sse_client.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "environment.h"

enum { POLLED_MAX = 1024, POLL_MS = 20 };

void sse_open(struct sse *sse, const char *base, const char *path, int64_t last_event_id) {
    const char *colon = strrchr(base, ':');
    struct sockaddr_in at = {.sin_family = AF_INET};
    char request[512];
    char resume[64] = "";

    cr_assert_not_null(colon);
    at.sin_port = htons((uint16_t)strtol(colon + 1, NULL, 10));
    (void)inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    if (last_event_id >= 0) {
        (void)snprintf(resume, sizeof(resume), "Last-Event-ID: %" PRId64 "\r\n", last_event_id);
    }
    const int len =
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: test\r\n%s\r\n", path, resume);
    sse->end = SSE_OPEN;
    sse->len = 0;
    sse->text[0] = '\0';
    sse->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(sse->fd, (const struct sockaddr *)&at, sizeof(at)), 0, "%s: %s", base,
                 strerror(errno));
    cr_assert_eq(send(sse->fd, request, (size_t)len, MSG_NOSIGNAL), len);
}

void sse_close(struct sse *sse) {
    (void)close(sse->fd);
}

static void take(struct sse *sse) {
    cr_assert_lt(sse->len, sizeof(sse->text) - 1, "more than a stream of this test says");
    const ssize_t got =
        recv(sse->fd, sse->text + sse->len, sizeof(sse->text) - 1 - sse->len, MSG_DONTWAIT);

    if (got > 0) {
        sse->len += (size_t)got;
        sse->text[sse->len] = '\0';
    } else if (got == 0) {
        sse->end = SSE_CLOSED;
    } else if (errno != EAGAIN && errno != EINTR) {
        sse->end = SSE_BROKEN;
    }
}

bool sse_read_until(struct sse *all, size_t count, bool (*fn)(void *arg), void *arg, int limit_ms) {
    static struct pollfd fds[POLLED_MAX];
    const double deadline = now_seconds() + limit_ms / 1000.0;

    cr_assert_leq(count, (size_t)POLLED_MAX);
    while (!fn(arg)) {
        if (now_seconds() > deadline) {
            return false;
        }
        for (size_t i = 0; i < count; i++) {
            fds[i] =
                (struct pollfd){.fd = all[i].end == SSE_OPEN ? all[i].fd : -1, .events = POLLIN};
        }
        (void)poll(fds, (nfds_t)count, POLL_MS);
        for (size_t i = 0; i < count; i++) {
            if (fds[i].revents != 0) {
                take(&all[i]);
            }
        }
    }
    return true;
}

bool sse_unwrap(struct sse *sse) {
    char *from = strstr(sse->text, "\r\n\r\n");

    if (strncmp(sse->text, "HTTP/1.1 200 ", 13) != 0 || from == NULL) {
        return false;
    }
    char *to = from += 4;
    bool ended = false;
    while (!ended && from < sse->text + sse->len) {
        char *line_end = NULL;
        const size_t size = strtoul(from, &line_end, 16);
        const size_t left = (size_t)(sse->text + sse->len - line_end);
        if (line_end == from || left < size + 4 || memcmp(line_end, "\r\n", 2) != 0) {
            break;
        }
        memmove(to, line_end + 2, size);
        to += size;
        from = line_end + 2 + size + 2;
        ended = size == 0;
    }
    sse->len = (size_t)(to - sse->text);
    *to = '\0';
    return ended;
}

int64_t sse_last_id(const struct sse *sse, int64_t first) {
    int64_t next = first;

    for (const char *at = sse->text; (at = strstr(at, "\nid: ")) != NULL; at++, next++) {
        cr_assert_eq(strtoll(at + 5, NULL, 10), next, "not in order: %s", at);
    }
    return next - 1;
}
