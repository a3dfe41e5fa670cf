/* A client on a bare socket: says and hears bytes as they are, and leaves in every way there is. */
#ifndef DAYBOOK_TESTS_UNIT_HTTP_SOCKET_CLIENT_H
#define DAYBOOK_TESTS_UNIT_HTTP_SOCKET_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#define HOST " HTTP/1.1\r\nHost: x\r\n"

/* To 127.0.0.1; the test fails when it can't. */
int socket_connect(uint16_t port);
void socket_say(int fd, const char *text);
/* One whole answer, in a static buffer: the head, and as much body as its Content-Length says. The
 * test fails when there is none within 10 s. */
const char *socket_hear(int fd);
/* Says it, hears the answer: is `part` in it? */
bool socket_answers(int fd, const char *request, const char *part);
/* The server has closed it, and nothing is left to read. Does not wait. */
bool socket_is_closed(int fd);

/* Closes with a reset. No port stays in TIME_WAIT. */
void socket_reset(int fd);
/* Gone without a word, as when a machine loses its network. Where the system does not allow that,
 * stays and says nothing more, which the server can't tell apart. */
void socket_vanish(int fd);

#endif
