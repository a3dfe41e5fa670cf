/*
 * A change feed on a slot of the test's own, beside what a test does to the log. Each test has one,
 * dropped at the end.
 */
#ifndef DAYBOOK_TESTS_FEED_FIXTURE_H
#define DAYBOOK_TESTS_FEED_FIXTURE_H

#include <libpq-fe.h>

#include "common/ports/change_feed.h"
#include "common/runtime/metrics.h"

enum { PARTITIONS = 6, EVENTS_MAX = 3000 };

extern struct metrics *metrics;
extern struct change_feed *feed;
extern PGconn *admin;
extern char slot[64];
extern char stream[96];
extern char other_stream[96];

/* A suite's init and fini. */
void feed_set_up(void);
void feed_tear_down(void);

void sql(PGconn *pg, const char *format, ...) __attribute__((format(printf, 2, 3)));
PGconn *connect_as(const char *url_variable);
struct change_feed *make_feed(const char *slot_name, const char *publication);

/* Versions of the test's stream. `extra`: an SQL expression for a member more in version 1. */
void insert(PGconn *pg, int first, int last, const char *extra);
void insert_into(PGconn *pg, const char *id, int first, int last, const char *extra);

/* Changes of the test's streams, in the order of their coming. */
struct seen {
    int64_t versions[EVENTS_MAX];
    uint64_t lsns[EVENTS_MAX];
    uint32_t seqs[EVENTS_MAX];
    bool of_other[EVENTS_MAX];
    size_t count;
    size_t commits; /* of transactions with changes of ours */
    uint64_t position;
    uint64_t progress;
    size_t payload_len;
};

/* Opens and begins, the topic being empty. */
void open_feed(void);
/* Closes, and waits until the server has noticed. */
void let_go(void);
/* Reads until `count` changes of ours and their commit have come. */
void read_changes(struct seen *seen, size_t count);
void expect_versions(const struct seen *seen, size_t count);

#endif
