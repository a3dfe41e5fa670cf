/*
 * Connections: their number and their deadlines.
 *
 * libmicrohttpd's own timeout runs from the last byte, so a client that sends or takes a byte now
 * and then could keep its place for ever. Here each stage has a deadline, however busy the client
 * looks:
 *
 *   accepted ─▶ WAITING ──request line──▶ WORKING ──request complete──▶ HELD (by us: no deadline)
 *                  ▲                       │   ▲                          │
 *                  └─────answer taken──────┘   └──────answer queued───────┘
 *
 * A stage lasts at most the idle timeout. While there are more connections than the limit, WAITING
 * lasts at most WAIT_AT_LIMIT_US: whoever has had nothing to ask for so long gives its place to
 * who has. A newcomer that finds no place all the same is a surplus: its request is answered 503
 * and it is closed. libmicrohttpd takes HTTP_SURPLUS_CONNECTIONS of them; the next wait in the
 * listening socket's backlog.
 *
 * All stays of one list are equally long, so it is in the order of its deadlines by itself.
 * Everything here happens on the owner's thread.
 */
#include "common/http/http_internal.h"

#include <assert.h>
#include <sys/socket.h>

#include "common/base/mem.h"

#define WAIT_AT_LIMIT_US INT64_C(1000000)

struct http_peer {
    int fd; /* MHD's */
    bool surplus;
    bool cut_off; /* MHD has yet to notice */
    int64_t since_us;
    struct http_peer_list *list; /* NULL: held, or cut off */
    struct http_peer *previous;
    struct http_peer *next;
};

static void unlist(struct http_peer *peer) {
    struct http_peer_list *list = peer->list;

    if (list == NULL) {
        return;
    }
    struct http_peer **forward = peer->previous != NULL ? &peer->previous->next : &list->first;
    struct http_peer **back = peer->next != NULL ? &peer->next->previous : &list->last;
    *forward = peer->next;
    *back = peer->previous;
    peer->list = NULL;
}

static void move_to(struct server_thread *thread, struct http_peer *peer,
                    struct http_peer_list *list) {
    unlist(peer);
    if (peer->cut_off) {
        return;
    }
    peer->since_us = thread->turn_began_at_us;
    peer->list = list;
    peer->previous = list->last;
    peer->next = NULL;
    if (peer->previous != NULL) {
        peer->previous->next = peer;
    } else {
        list->first = peer;
    }
    list->last = peer;
}

static void cut_off(struct server_thread *thread, struct http_peer *peer) {
    unlist(peer);
    peer->cut_off = true;
    thread->cut_off_count++;
    /* MHD finds the connection at its end and frees it. */
    (void)shutdown(peer->fd, SHUT_RDWR);
}

void http_peer_cut_off(struct server_thread *thread, struct http_peer *peer, enum http_closed why) {
    if (!peer->cut_off) {
        cut_off(thread, peer);
        metric_add(thread->server->closed[why], 1);
    }
}

void http_peer_limit_unsent(const struct http_peer *peer) {
    const int bytes = HTTP_STREAM_SOCKET_BYTES;

    (void)setsockopt(peer->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static bool is_over_limit(const struct server_thread *thread) {
    return thread->peer_count - thread->cut_off_count > thread->peers_max;
}

static int64_t idle_timeout_us(const struct server_thread *thread) {
    return (int64_t)thread->server->options.idle_timeout_s * 1000000;
}

static int64_t wait_us(const struct server_thread *thread) {
    const int64_t timeout_us = idle_timeout_us(thread);

    return is_over_limit(thread) && timeout_us > WAIT_AT_LIMIT_US ? WAIT_AT_LIMIT_US : timeout_us;
}

static void make_room(struct server_thread *thread) {
    while (is_over_limit(thread) && thread->waiting.first != NULL &&
           thread->waiting.first->since_us + WAIT_AT_LIMIT_US <= thread->turn_began_at_us) {
        cut_off(thread, thread->waiting.first);
        metric_add(thread->server->closed[HTTP_CLOSED_LIMIT], 1);
    }
}

struct http_peer *http_peer_new(struct server_thread *thread, int fd) {
    struct http_peer *peer = mem_zalloc(sizeof(*peer));

    thread->peer_count++;
    atomic_fetch_add(&thread->server->connections, 1);
    peer->fd = fd;
    make_room(thread);
    peer->surplus = is_over_limit(thread);
    move_to(thread, peer, &thread->waiting);
    return peer;
}

void http_peer_free(struct server_thread *thread, struct http_peer *peer) {
    assert(thread->peer_count > 0);
    unlist(peer);
    thread->peer_count--;
    thread->cut_off_count -= peer->cut_off;
    atomic_fetch_sub(&thread->server->connections, 1);
    mem_free(peer);
}

void http_peer_wait(struct server_thread *thread, struct http_peer *peer) {
    move_to(thread, peer, &thread->waiting);
}

void http_peer_work(struct server_thread *thread, struct http_peer *peer) {
    move_to(thread, peer, &thread->working);
}

void http_peer_hold(struct http_peer *peer) {
    unlist(peer);
}

bool http_peer_has_place(const struct server_thread *thread, struct http_peer *peer) {
    peer->surplus = peer->surplus && is_over_limit(thread);
    return !peer->surplus;
}

/* Those whose stay in the list has lasted as long as it may. */
static void cut_off_overdue(struct server_thread *thread, const struct http_peer_list *list,
                            enum http_closed why) {
    const int64_t since_us = thread->turn_began_at_us - idle_timeout_us(thread);

    while (list->first != NULL && list->first->since_us <= since_us) {
        cut_off(thread, list->first);
        metric_add(thread->server->closed[why], 1);
    }
}

int64_t http_peers_cut_off(struct server_thread *thread) {
    const int64_t now_us = thread->turn_began_at_us;
    const int64_t limit_us = idle_timeout_us(thread);
    int64_t until_us = -1;

    cut_off_overdue(thread, &thread->working, HTTP_CLOSED_SLOW);
    cut_off_overdue(thread, &thread->waiting, HTTP_CLOSED_IDLE);
    make_room(thread);
    if (thread->working.first != NULL) {
        until_us = thread->working.first->since_us + limit_us - now_us;
    }
    if (thread->waiting.first != NULL) {
        const int64_t waiting_us = thread->waiting.first->since_us + wait_us(thread) - now_us;
        until_us = until_us < 0 || waiting_us < until_us ? waiting_us : until_us;
    }
    return until_us;
}
