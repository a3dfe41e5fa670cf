#include "socket_client.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/str.h"

enum { ANSWER_BYTES = 64 * 1024, ANSWER_WAIT_MS = 10000 };

int socket_connect(uint16_t port) {
    const struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);

    cr_assert_geq(fd, 0, "socket: %s", strerror(errno));
    cr_assert_eq(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0, "%s", strerror(errno));
    return fd;
}

void socket_say(int fd, const char *text) {
    cr_assert_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text), "%s",
                 strerror(errno));
}

const char *socket_hear(int fd) {
    static char text[ANSWER_BYTES];
    size_t len = 0;

    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        text[len] = '\0';
        const char *end = strstr(text, "\r\n\r\n");
        if (end != NULL) {
            const char *field = strstr(text, "Content-Length: ");
            int64_t body = 0;
            if (field != NULL && field < end && strncmp(text, "HTTP/1.1 304", 12) != 0) {
                cr_assert(str_to_i64(str_of(field + 16, strcspn(field + 16, "\r")), &body));
            }
            if (len >= (size_t)(end - text) + 4 + (size_t)body) {
                return text;
            }
        }
        cr_assert_eq(poll(&ready, 1, ANSWER_WAIT_MS), 1, "no answer: %s", text);
        const ssize_t got = recv(fd, text + len, sizeof(text) - 1 - len, 0);
        cr_assert_gt(got, 0, "closed: %s", text);
        len += (size_t)got;
    }
}

bool socket_answers(int fd, const char *request, const char *part) {
    socket_say(fd, request);
    return strstr(socket_hear(fd), part) != NULL;
}

bool socket_is_closed(int fd) {
    char byte;
    const ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);

    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

void socket_reset(int fd) {
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    (void)close(fd);
}

void socket_vanish(int fd) {
    const int on = 1;

    if (setsockopt(fd, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) == 0) {
        (void)close(fd);
    }
}
