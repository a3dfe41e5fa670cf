/*
 * A TCP proxy between a service and a server, for what happens on the wire at the worst moment. It
 * waits for a marker (bytes of a request, sent in one piece) and then does one thing, once:
 *
 *   PROXY_HOLD_ANSWER    the request reaches the server; from then on nothing that the server says
 *                        reaches the service, until tcp_proxy_cut or the service's end
 *   PROXY_LOSE_REQUEST   the request never reaches the server; both connections are closed
 */
#ifndef DAYBOOK_TESTS_SUPPORT_TCP_PROXY_H
#define DAYBOOK_TESTS_SUPPORT_TCP_PROXY_H

#include <stdbool.h>

enum proxy_fault { PROXY_HOLD_ANSWER, PROXY_LOSE_REQUEST };

struct tcp_proxy;

/* To 127.0.0.1:port. Runs a thread of its own. */
struct tcp_proxy *tcp_proxy_new(int port);
int tcp_proxy_port(const struct tcp_proxy *proxy);
void tcp_proxy_free(struct tcp_proxy *proxy);

/* Marker: at most 127 bytes. Replaces the one before. */
void tcp_proxy_arm(struct tcp_proxy *proxy, const char *marker, enum proxy_fault fault);
/* Waits until the marker went by; fails the test after ten seconds. */
void tcp_proxy_expect_hit(struct tcp_proxy *proxy);
/* Closes all connections; what was held back is lost. Later connections pass. */
void tcp_proxy_cut(struct tcp_proxy *proxy);
/* New connections are closed at once; those there are are cut. */
void tcp_proxy_refuse(struct tcp_proxy *proxy, bool refuse);

/* A PostgreSQL URL to the same database through the proxy; static. */
const char *tcp_proxy_url(const struct tcp_proxy *proxy, const char *url);
/* The port in a postgresql:// URL of the form user:password@host:port/database. */
int tcp_proxy_port_of_url(const char *url);

#endif
