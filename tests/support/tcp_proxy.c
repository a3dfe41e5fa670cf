#include "tcp_proxy.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "environment.h"

enum { PAIRS_MAX = 32, CHUNK_BYTES = 65536, TURN_MS = 5, MARKER_BYTES = 128 };

struct pair {
    int client; /* -1: free */
    int server;
    bool held; /* what the server says stays where it is */
};

struct tcp_proxy {
    int listener;
    int port;
    int target_port;
    pthread_t thread;
    pthread_mutex_t lock; /* guards all below; the thread holds it while it moves bytes */
    struct pair pairs[PAIRS_MAX];
    char marker[MARKER_BYTES];
    enum proxy_fault fault;
    bool hit;
    bool refuse;
    bool stop;
    char chunk[CHUNK_BYTES];
};

static int new_socket(void) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;

    cr_assert_geq(fd, 0);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

static struct sockaddr_in loopback(int port) {
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void close_pair(struct pair *pair) {
    if (pair->client >= 0) {
        (void)close(pair->client);
        (void)close(pair->server);
    }
    *pair = (struct pair){.client = -1, .server = -1};
}

static void accept_one(struct tcp_proxy *proxy) {
    const struct sockaddr_in target = loopback(proxy->target_port);
    const int client = accept4(proxy->listener, NULL, NULL, SOCK_CLOEXEC);
    const int on = 1;
    size_t free_pair = 0;

    while (free_pair < PAIRS_MAX && proxy->pairs[free_pair].client >= 0) {
        free_pair++;
    }
    if (client < 0) {
        return;
    }
    const int server = new_socket();
    if (proxy->refuse || free_pair == PAIRS_MAX ||
        connect(server, (const struct sockaddr *)&target, sizeof(target)) != 0) {
        (void)close(client);
        (void)close(server);
        return;
    }
    (void)setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    proxy->pairs[free_pair] = (struct pair){.client = client, .server = server};
}

static bool send_all(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        const ssize_t sent = send(fd, bytes, len, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        bytes += sent;
        len -= (size_t)sent;
    }
    return true;
}

/* Moves what is there; false when the pair has ended. */
static bool move_bytes(struct tcp_proxy *proxy, struct pair *pair, bool from_client) {
    const ssize_t len =
        recv(from_client ? pair->client : pair->server, proxy->chunk, sizeof(proxy->chunk), 0);

    if (len <= 0) {
        return false;
    }
    if (from_client && proxy->marker[0] != '\0' &&
        memmem(proxy->chunk, (size_t)len, proxy->marker, strlen(proxy->marker)) != NULL) {
        proxy->hit = true;
        proxy->marker[0] = '\0';
        pair->held = proxy->fault == PROXY_HOLD_ANSWER;
        if (proxy->fault == PROXY_LOSE_REQUEST) {
            return false;
        }
    }
    return send_all(from_client ? pair->server : pair->client, proxy->chunk, (size_t)len);
}

static void serve_turn(struct tcp_proxy *proxy, const struct pollfd *fds) {
    if (fds[0].revents != 0) {
        accept_one(proxy);
    }
    for (size_t i = 0; i < PAIRS_MAX; i++) {
        struct pair *pair = &proxy->pairs[i];
        const struct pollfd *client = &fds[1 + 2 * i];
        const struct pollfd *server = client + 1;
        /* A pair that was cut while we polled has other descriptors, or none. */
        if (pair->client < 0 || client->fd != pair->client) {
            continue;
        }
        if ((client->revents != 0 && !move_bytes(proxy, pair, true)) ||
            (server->fd >= 0 && server->revents != 0 && !pair->held &&
             !move_bytes(proxy, pair, false))) {
            close_pair(pair);
        }
    }
}

static void *proxy_main(void *arg) {
    struct tcp_proxy *proxy = arg;
    struct pollfd fds[1 + 2 * PAIRS_MAX];

    for (;;) {
        pthread_mutex_lock(&proxy->lock);
        const bool stop = proxy->stop;
        fds[0] = (struct pollfd){.fd = proxy->listener, .events = POLLIN};
        for (size_t i = 0; i < PAIRS_MAX; i++) {
            const struct pair *pair = &proxy->pairs[i];
            fds[1 + 2 * i] = (struct pollfd){.fd = pair->client, .events = POLLIN};
            fds[2 + 2 * i] =
                (struct pollfd){.fd = pair->held ? -1 : pair->server, .events = POLLIN};
        }
        pthread_mutex_unlock(&proxy->lock);
        if (stop) {
            return NULL;
        }
        if (poll(fds, 1 + 2 * PAIRS_MAX, TURN_MS) > 0) {
            pthread_mutex_lock(&proxy->lock);
            serve_turn(proxy, fds);
            pthread_mutex_unlock(&proxy->lock);
        }
    }
}

struct tcp_proxy *tcp_proxy_new(int port) {
    struct tcp_proxy *proxy = calloc(1, sizeof(*proxy));
    struct sockaddr_in address = loopback(0);
    socklen_t len = sizeof(address);

    cr_assert_not_null(proxy);
    proxy->target_port = port;
    for (size_t i = 0; i < PAIRS_MAX; i++) {
        proxy->pairs[i] = (struct pair){.client = -1, .server = -1};
    }
    proxy->listener = new_socket();
    cr_assert_eq(bind(proxy->listener, (const struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(listen(proxy->listener, 64), 0);
    cr_assert_eq(getsockname(proxy->listener, (struct sockaddr *)&address, &len), 0);
    proxy->port = ntohs(address.sin_port);
    cr_assert_eq(pthread_mutex_init(&proxy->lock, NULL), 0);
    cr_assert_eq(pthread_create(&proxy->thread, NULL, proxy_main, proxy), 0);
    return proxy;
}

int tcp_proxy_port(const struct tcp_proxy *proxy) {
    return proxy->port;
}

static void cut_all(struct tcp_proxy *proxy) {
    for (size_t i = 0; i < PAIRS_MAX; i++) {
        close_pair(&proxy->pairs[i]);
    }
}

void tcp_proxy_free(struct tcp_proxy *proxy) {
    pthread_mutex_lock(&proxy->lock);
    proxy->stop = true;
    pthread_mutex_unlock(&proxy->lock);
    (void)pthread_join(proxy->thread, NULL);
    cut_all(proxy);
    (void)close(proxy->listener);
    free(proxy);
}

void tcp_proxy_arm(struct tcp_proxy *proxy, const char *marker, enum proxy_fault fault) {
    pthread_mutex_lock(&proxy->lock);
    (void)snprintf(proxy->marker, sizeof(proxy->marker), "%s", marker);
    proxy->fault = fault;
    proxy->hit = false;
    pthread_mutex_unlock(&proxy->lock);
}

static bool was_hit(void *arg) {
    struct tcp_proxy *proxy = arg;

    pthread_mutex_lock(&proxy->lock);
    const bool hit = proxy->hit;
    pthread_mutex_unlock(&proxy->lock);
    return hit;
}

void tcp_proxy_expect_hit(struct tcp_proxy *proxy) {
    cr_assert(eventually(was_hit, proxy, 10000), "the marker did not go by");
}

void tcp_proxy_cut(struct tcp_proxy *proxy) {
    pthread_mutex_lock(&proxy->lock);
    cut_all(proxy);
    pthread_mutex_unlock(&proxy->lock);
}

void tcp_proxy_refuse(struct tcp_proxy *proxy, bool refuse) {
    pthread_mutex_lock(&proxy->lock);
    proxy->refuse = refuse;
    if (refuse) {
        cut_all(proxy);
    }
    pthread_mutex_unlock(&proxy->lock);
}

int tcp_proxy_port_of_url(const char *url) {
    const char *host = strrchr(url, '@');
    const char *port = host != NULL ? strchr(host, ':') : NULL;

    cr_assert_not_null(port, "a URL without host and port");
    return (int)strtol(port + 1, NULL, 10);
}

const char *tcp_proxy_url(const struct tcp_proxy *proxy, const char *url) {
    static char text[512];
    const char *host = strrchr(url, '@');
    const char *database = host != NULL ? strchr(host, '/') : NULL;

    cr_assert_not_null(database, "a URL without host and database");
    (void)snprintf(text, sizeof(text), "%.*s@127.0.0.1:%d%s", (int)(host - url), url, proxy->port,
                   database);
    return text;
}
