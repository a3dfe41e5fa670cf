#include "tests/bench/load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    REQUEST_BYTES_MAX = 640,
    ANSWER_BYTES_MAX = 4096,
    PICKS = 1 << 16,
    EVENTS_PER_WAIT = 512,
    DRAIN_MS = 5000,
};

struct connection {
    int fd;
    bool busy;
    int64_t due_us; /* of the request on its way */
    int64_t sent_us;
    size_t filled;
    char answer[ANSWER_BYTES_MAX];
};

struct load {
    const struct load_options *options;
    struct load_result *result;
    struct sockaddr_in at;
    struct connection *connections;
    uint32_t *idle; /* stack of free connections */
    uint32_t idle_count;
    uint32_t busy_count;
    int epoll_fd;
    uint32_t picks[PICKS]; /* accounts, as often as the distribution has them */
    uint64_t random;
    uint64_t number; /* of the next request */
    int64_t begun_us;
    int64_t count_from_us;
    int64_t end_us;
};

static int64_t now_us(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* xorshift64* (Vigna 2016): enough for choosing accounts. */
static uint64_t next_random(struct load *load) {
    load->random ^= load->random >> 12;
    load->random ^= load->random << 25;
    load->random ^= load->random >> 27;
    return load->random * UINT64_C(2685821657736338717);
}

static void fill_picks(struct load *load) {
    const uint32_t count = load->options->account_count;
    double sum = 0;
    double reached = 0;
    uint32_t rank = 0;

    for (uint32_t i = 1; i <= count; i++) {
        sum += pow(i, -load->options->zipf);
    }
    for (uint32_t i = 0; i < PICKS; i++) {
        while (rank + 1 < count &&
               reached + pow(rank + 1, -load->options->zipf) <= sum * ((double)i + 0.5) / PICKS) {
            reached += pow(rank + 1, -load->options->zipf);
            rank++;
        }
        load->picks[i] = rank;
    }
}

static uint32_t pick_account(const struct load *load, uint64_t random) {
    return load->options->zipf == 0 ? (uint32_t)((random >> 32) % load->options->account_count)
                                    : load->picks[(random >> 40) % PICKS];
}

static char *put(char *at, const char *text) {
    const size_t len = strlen(text);

    memcpy(at, text, len);
    return at + len;
}

/* Without printf, which would cost the machine as much as a request costs a fast server. */
static size_t write_get(struct load *load, char *out) {
    const struct load_options *o = load->options;
    uint32_t account = pick_account(load, next_random(load));
    char digits[16];
    char *digit = digits + sizeof(digits) - 1;

    *digit = '\0';
    do {
        *--digit = (char)('0' + account % 10);
        account /= 10;
    } while (account > 0);
    char *at = put(put(out, "GET "), o->path_begin);
    at = put(put(put(at, o->accounts), digit), o->path_end);
    return (size_t)(put(at, " HTTP/1.1\r\nHost: bench\r\n\r\n") - out);
}

static size_t write_request(struct load *load, char *out) {
    const struct load_options *o = load->options;
    const uint64_t number = load->number++;

    if (o->kind == LOAD_GET) {
        return write_get(load, out);
    }
    char body[128];
    char key[96] = "";
    int body_len;
    int len;

    if (o->key_prefix != NULL) {
        (void)snprintf(key, sizeof(key), "Idempotency-Key: \"%s%" PRIu64 "\"\r\n", o->key_prefix,
                       number);
    }
    if (o->kind == LOAD_OPEN_ACCOUNT) {
        body_len = snprintf(body, sizeof(body), "{\"id\":\"%s%" PRIu64 "\"}", o->accounts, number);
        len =
            snprintf(out, REQUEST_BYTES_MAX,
                     "POST /accounts HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                     "%sContent-Length: %d\r\n\r\n%s",
                     key, body_len, body);
    } else {
        const uint64_t random = next_random(load);
        const uint32_t account = pick_account(load, random);
        body_len = snprintf(body, sizeof(body), "{\"amount\":\"%u.%02u\"}",
                            (unsigned)(random % 900) + 1, (unsigned)(random >> 20) % 100);
        len = snprintf(out, REQUEST_BYTES_MAX,
                       "POST /accounts/%s%u/deposit HTTP/1.1\r\nHost: bench\r\n"
                       "Content-Type: application/json\r\n%sContent-Length: %d\r\n\r\n%s",
                       o->accounts, account, key, body_len, body);
    }
    return (size_t)len;
}

static bool open_connection(struct load *load, uint32_t index) {
    const int on = 1;
    struct connection *c = &load->connections[index];
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)&load->at, sizeof(load->at)) != 0) {
        (void)fprintf(stderr, "load: connection %u: %s\n", index, strerror(errno));
        return false;
    }
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return epoll_ctl(load->epoll_fd, EPOLL_CTL_ADD, c->fd, &event) == 0;
}

/* Requests are far smaller than a socket buffer and each waits for its answer: a send is whole. */
static bool send_request(struct load *load, uint32_t index, int64_t due_us) {
    struct connection *c = &load->connections[index];
    char request[REQUEST_BYTES_MAX];
    const size_t len = write_request(load, request);

    c->busy = true;
    c->due_us = due_us;
    c->sent_us = now_us();
    c->filled = 0;
    load->busy_count++;
    return send(c->fd, request, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* The length of a whole answer in the buffer, 0 when more must come. */
static size_t answer_length(const struct connection *c) {
    static const char length_name[] = "Content-Length: ";
    const char *head_end = memmem(c->answer, c->filled, "\r\n\r\n", 4);

    if (head_end == NULL) {
        return 0;
    }
    const char *length =
        memmem(c->answer, (size_t)(head_end - c->answer), length_name, sizeof(length_name) - 1);
    const size_t body = length != NULL ? strtoul(length + sizeof(length_name) - 1, NULL, 10) : 0;
    const size_t total = (size_t)(head_end - c->answer) + 4 + body;
    return c->filled >= total ? total : 0;
}

/*
 * A request counts for the rate when it was due and answered within the measured time. At a fixed
 * rate its latency counts whenever the answer comes: leaving out the late ones would leave out the
 * slow ones.
 */
static void count_answer(struct load *load, const struct connection *c, int64_t at_us) {
    struct load_result *result = load->result;
    const int64_t latency_us = at_us - c->due_us;
    const bool in_time = at_us <= load->end_us;

    if (c->due_us < load->count_from_us || (!in_time && load->options->rate_per_s <= 0)) {
        return;
    }
    if (c->answer[9] == '2') { /* HTTP/1.1 200 */
        result->ok += in_time;
        histogram_add(&result->latency_us, latency_us);
    } else if (memcmp(c->answer + 9, "503", 3) == 0) {
        result->unavailable += in_time;
        histogram_add(&result->unavailable_latency_us, at_us - c->sent_us);
    } else {
        if (result->other == 0) {
            (void)fprintf(stderr, "load: first odd answer: %.*s\n", 300, c->answer);
        }
        result->other++;
    }
}

/* The server closed it: a request on it is lost. An idle one it may close as it likes. */
static bool broken(struct load *load, uint32_t index) {
    struct connection *c = &load->connections[index];

    if (c->busy) {
        load->result->broken++;
        load->busy_count--;
        c->busy = false;
        load->idle[load->idle_count++] = index; /* an idle one is in there already */
    }
    (void)close(c->fd);
    return open_connection(load, index);
}

/* Reads what has come; the connection is idle again when its answer is whole. */
static bool receive(struct load *load, uint32_t index) {
    struct connection *c = &load->connections[index];
    const ssize_t got =
        recv(c->fd, c->answer + c->filled, ANSWER_BYTES_MAX - 1 - c->filled, MSG_DONTWAIT);

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
    }
    if (got <= 0 || !c->busy) {
        return broken(load, index);
    }
    c->filled += (size_t)got;
    c->answer[c->filled] = '\0';
    if (answer_length(c) == 0) {
        return c->filled < ANSWER_BYTES_MAX - 1 || broken(load, index);
    }
    count_answer(load, c, now_us());
    c->busy = false;
    load->busy_count--;
    load->idle[load->idle_count++] = index;
    return true;
}

static bool more_to_send(const struct load *load) {
    return load->options->kind != LOAD_OPEN_ACCOUNT || load->number < load->options->account_count;
}

/* When request number n of an open run is due. */
static int64_t due_at(const struct load *load, uint64_t n) {
    return load->begun_us + (int64_t)((double)n * 1e6 / load->options->rate_per_s);
}

static bool send_due(struct load *load) {
    const int64_t now = now_us();

    if (load->options->rate_per_s <= 0) {
        while (load->idle_count > 0 && now < load->end_us && more_to_send(load)) {
            if (!send_request(load, load->idle[--load->idle_count], now)) {
                return false;
            }
        }
        return true;
    }
    for (int64_t due_us = due_at(load, load->number);
         load->idle_count > 0 && due_us <= now && due_us < load->end_us;
         due_us = due_at(load, load->number)) {
        if (!send_request(load, load->idle[--load->idle_count], due_us)) {
            return false;
        }
    }
    return true;
}

static int wait_ms(const struct load *load) {
    if (load->options->rate_per_s > 0 && load->idle_count > 0) {
        const int64_t left_us = due_at(load, load->number) - now_us();
        return left_us <= 0 ? 0 : (int)(left_us / 1000 + (left_us % 1000 > 500));
    }
    return 100;
}

/* At a fixed rate: what could not be sent, or has no answer yet, took at least until now. */
static void count_unanswered(struct load *load) {
    const int64_t now = now_us();

    for (uint32_t i = 0; i < load->options->connections; i++) {
        const struct connection *c = &load->connections[i];
        if (c->busy && c->due_us >= load->count_from_us) {
            histogram_add(&load->result->latency_us, now - c->due_us);
        }
    }
    for (int64_t due_us = due_at(load, load->number); due_us < load->end_us;
         due_us = due_at(load, load->number)) {
        load->number++;
        load->result->unsent++;
        histogram_add(&load->result->latency_us, now - due_us);
    }
}

static bool run(struct load *load) {
    struct epoll_event events[EVENTS_PER_WAIT];

    for (;;) {
        const int64_t now = now_us();
        const bool over = now >= load->end_us || !more_to_send(load);
        if (over && (load->busy_count == 0 || now > load->end_us + DRAIN_MS * 1000)) {
            break;
        }
        if (!over && !send_due(load)) {
            return false;
        }
        const int count =
            epoll_wait(load->epoll_fd, events, EVENTS_PER_WAIT, over ? 100 : wait_ms(load));
        for (int i = 0; i < count; i++) {
            if (!receive(load, events[i].data.u32)) {
                return false;
            }
        }
    }
    if (load->options->rate_per_s > 0) {
        count_unanswered(load);
    }
    return true;
}

static bool set_up(struct load *load) {
    const struct load_options *o = load->options;

    load->at = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(o->port)};
    load->connections = calloc(o->connections, sizeof(load->connections[0]));
    load->idle = calloc(o->connections, sizeof(load->idle[0]));
    load->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (load->connections == NULL || load->idle == NULL || load->epoll_fd < 0 ||
        inet_pton(AF_INET, o->host, &load->at.sin_addr) != 1) {
        (void)fputs("load: can't set up\n", stderr);
        return false;
    }
    for (uint32_t i = 0; i < o->connections; i++) {
        load->connections[i].fd = -1;
    }
    for (uint32_t i = 0; i < o->connections; i++) {
        if (!open_connection(load, i)) {
            return false;
        }
        load->idle[load->idle_count++] = i;
    }
    return true;
}

bool load_run(const struct load_options *options, struct load_result *result) {
    struct load *load = calloc(1, sizeof(*load));

    if (load == NULL) {
        return false;
    }
    memset(result, 0, sizeof(*result));
    load->options = options;
    load->result = result;
    load->random = (uint64_t)now_us() | 1;
    if (options->kind != LOAD_OPEN_ACCOUNT && options->zipf > 0) {
        fill_picks(load);
    }
    bool ok = set_up(load);
    if (ok) {
        load->begun_us = now_us();
        load->count_from_us = load->begun_us + (int64_t)(options->warm_up_seconds * 1e6);
        load->end_us = load->count_from_us + (int64_t)(options->seconds * 1e6);
        ok = run(load);
        const int64_t ended_us = now_us() < load->end_us ? now_us() : load->end_us;
        result->seconds = (double)(ended_us - load->count_from_us) / 1e6;
    }
    for (uint32_t i = 0; load->connections != NULL && i < options->connections; i++) {
        if (load->connections[i].fd >= 0) {
            (void)close(load->connections[i].fd);
        }
    }
    if (load->epoll_fd >= 0) {
        (void)close(load->epoll_fd);
    }
    free(load->idle);
    free(load->connections);
    free(load);
    return ok;
}
