/*
 * The load generator: one thread, one epoll, many keep-alive connections, one request at a time on
 * each. A request is a copy of a few hundred bytes and two system calls, so the generator takes a
 * small share of the machine that it measures.
 *
 * Two ways to send
 *  - closed: each connection sends as soon as it has its answer. Shows what the server can do; its
 *    latencies are those of a server that is full.
 *  - open: requests are due at a fixed rate, whether or not earlier ones have been answered, and
 *    latency counts from the moment a request was due, also while it waited for a free connection.
 *    So a stall is seen by all requests that would have met it (Gil Tene, "coordinated omission").
 */
#ifndef DAYBOOK_TESTS_BENCH_LOAD_H
#define DAYBOOK_TESTS_BENCH_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/bench/histogram.h"

enum load_kind { LOAD_OPEN_ACCOUNT, LOAD_DEPOSIT, LOAD_GET };

struct load_options {
    const char *host; /* IPv4 */
    uint16_t port;
    enum load_kind kind;
    const char *accounts;   /* prefix of the ids: <prefix>0 … <prefix>(n-1) */
    const char *path_begin; /* LOAD_GET: GET <begin><id><end> */
    const char *path_end;
    uint32_t account_count; /* LOAD_OPEN_ACCOUNT: opens each once and ends */
    double zipf;            /* exponent of the choice of account; 0: uniform */
    const char *key_prefix; /* Idempotency-Key: <prefix><number>; NULL: none */
    uint32_t connections;
    double rate_per_s; /* 0: closed */
    double seconds;    /* counted time, after the warm-up */
    double warm_up_seconds;
};

struct load_result {
    double seconds;
    uint64_t ok;                             /* 2xx */
    uint64_t unavailable;                    /* 503 */
    uint64_t other;                          /* any other status */
    uint64_t broken;                         /* connections that ended in the middle of a request */
    uint64_t unsent;                         /* open: due, but no connection came free in time */
    struct histogram latency_us;             /* of 2xx; at a fixed rate from when it was due, and
                                                also of what had no answer at the end */
    struct histogram unavailable_latency_us; /* of 503, from sending */
};

/* False with one line on stderr when the server can't be reached. `result` is large: not for the
 * stack. */
bool load_run(const struct load_options *options, struct load_result *result);

#endif
