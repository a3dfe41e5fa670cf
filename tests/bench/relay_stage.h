/*
 * What the parts of the relay's benchmark share: one PostgreSQL, one broker, a relay that comes and
 * goes. Everything here gives up, with one line, when it fails.
 */
#ifndef DAYBOOK_TESTS_BENCH_RELAY_STAGE_H
#define DAYBOOK_TESTS_BENCH_RELAY_STAGE_H

#include <libpq-fe.h>
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tests/bench/bench_report.h"

enum { STAGE_PARTITIONS = 6, STAGE_LINE_BYTES = 2048 };

struct stage {
    struct bench_report report;
    uint16_t port;   /* the relay's; the next one is the command API's */
    const char *url; /* superuser's */
    const char *brokers;
    PGconn *pg;
    rd_kafka_t *admin;
    pid_t relay; /* 0: does not run */
    pid_t postgres;
    pid_t kafka;
    long events;
    double seconds;
    int rounds;
    char trips_topic[64]; /* a kept stack has those of earlier runs */
    int runs;             /* numbers what must not be named twice */
};

/* With a prefix of stream ids, how many streams (twice), the first and the last number. */
#define STAGE_INSERT_EVENTS                                                                     \
    "INSERT INTO daybook.events (event_id, aggregate_type, stream_id, version, event_type,"     \
    " schema_version, payload, correlation_id, command, recorded_at) SELECT gen_random_uuid()," \
    " 'account', '%s' || (n %% %d), n / %d + 1, 'MoneyDeposited', 1,"                           \
    " json_build_object('amount_minor', n %% 90000, 'balance_minor', n, 'n', n),"               \
    " gen_random_uuid(), 'Deposit', clock_timestamp() FROM generate_series(%ld, %ld) n"

_Noreturn void stage_give_up(const char *what, const char *why);
void stage_pause_us(int64_t us);

PGconn *stage_connect(const struct stage *stage);
/* The first value of the answer, in a static buffer. */
const char *stage_sql(PGconn *pg, const char *text);

rd_kafka_t *stage_kafka(const struct stage *stage, rd_kafka_type_t type);
/* All records of the topic, also while it does not exist yet. */
int64_t stage_records(const struct stage *stage, const char *topic);

/* Waits until it is ready. Its log: build/bench/relay.log. */
void stage_start_relay(struct stage *stage, const char *slot, const char *topic);
/* And drops its slot. */
void stage_stop_relay(struct stage *stage, const char *slot);
bool stage_slot_exists(const struct stage *stage, const char *slot);

/* c and d: latency through the relay and through a poller. */
void relay_trips_run(struct stage *stage);
/* e: what the relay's being attached costs those who append. */
void relay_appends_run(struct stage *stage);

#endif
