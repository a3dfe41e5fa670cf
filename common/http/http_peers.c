/*
 * Connections and their deadlines. libmicrohttpd's timeout runs from the last byte, so a client
 * that sends or takes a byte now and then could keep its place for ever. Here each stage has a
 * deadline of its own, however busy the client looks:
 *
 *   accepted ──▶ request line there ──▶ request complete ──▶ (held: no deadline)
 *      ▲                                                        │
 *      └──────────────── answer queued ◀────────────────────────┘
 *
 * All deadlines are equally long, so the list is in their order by itself. Everything here happens
 * on the owner's thread.
 */
#include "common/http/http_internal.h"

#include <assert.h>
#include <sys/socket.h>

#include "common/base/mem.h"

struct http_peer {
    int fd; /* MHD's */
    bool surplus;
    bool listed;
    int64_t deadline_us;
    struct http_peer *previous;
    struct http_peer *next;
};

static void unlist(struct server_thread *thread, struct http_peer *peer) {
    struct http_peer **forward =
        peer->previous != NULL ? &peer->previous->next : &thread->peers_first;
    struct http_peer **back = peer->next != NULL ? &peer->next->previous : &thread->peers_last;

    *forward = peer->next;
    *back = peer->previous;
    peer->listed = false;
}

struct http_peer *http_peer_new(struct server_thread *thread, int fd) {
    struct http_peer *peer = mem_zalloc(sizeof(*peer));

    thread->peer_count++;
    atomic_fetch_add(&thread->server->connections, 1);
    peer->fd = fd;
    peer->surplus = thread->peer_count > thread->peers_max;
    http_peer_expect(thread, peer);
    return peer;
}

void http_peer_free(struct server_thread *thread, struct http_peer *peer) {
    assert(thread->peer_count > 0);
    http_peer_hold(thread, peer);
    thread->peer_count--;
    atomic_fetch_sub(&thread->server->connections, 1);
    mem_free(peer);
}

void http_peer_expect(struct server_thread *thread, struct http_peer *peer) {
    http_peer_hold(thread, peer);
    peer->deadline_us =
        thread->turn_began_at_us + (int64_t)thread->server->options.idle_timeout_s * 1000000;
    peer->previous = thread->peers_last;
    peer->next = NULL;
    if (peer->previous != NULL) {
        peer->previous->next = peer;
    } else {
        thread->peers_first = peer;
    }
    thread->peers_last = peer;
    peer->listed = true;
}

void http_peer_hold(struct server_thread *thread, struct http_peer *peer) {
    if (peer->listed) {
        unlist(thread, peer);
    }
}

bool http_peer_is_surplus(const struct server_thread *thread, const struct http_peer *peer) {
    return peer->surplus && thread->peer_count > thread->peers_max;
}

int64_t http_peers_cut_off(struct server_thread *thread, int64_t now_us) {
    while (thread->peers_first != NULL && thread->peers_first->deadline_us <= now_us) {
        struct http_peer *peer = thread->peers_first;
        unlist(thread, peer);
        /* MHD finds the connection closed and frees it. */
        (void)shutdown(peer->fd, SHUT_RDWR);
        metric_add(thread->server->timeouts, 1);
    }
    return thread->peers_first != NULL ? thread->peers_first->deadline_us - now_us : -1;
}
