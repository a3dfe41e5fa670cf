/* Readers beside a measurement: each asks the query API for one account after the other and for its
 * transactions, and looks whether all is there. */
#ifndef DAYBOOK_TESTS_BENCH_READERS_H
#define DAYBOOK_TESTS_BENCH_READERS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { BENCH_READERS_MAX = 8 };

struct bench_readers {
    uint16_t port;
    int count;        /* up to BENCH_READERS_MAX */
    int64_t accounts; /* account-00000 … */
    int64_t
        version; /* that each of them has: less is an error, and so is another status than 200 */
    _Atomic int64_t reads, errors;
    _Atomic bool ended;
    pthread_t threads[BENCH_READERS_MAX];
};

/* False: a thread can't be started. */
bool bench_readers_start(struct bench_readers *readers);
void bench_readers_end(struct bench_readers *readers);

#endif
