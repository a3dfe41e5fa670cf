/* c and d of relay_bench.c: from a commit's acknowledgement to a waiting consumer. */
#include "tests/bench/relay_stage.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/bench/histogram.h"

enum { TRANSACTIONS_PER_S = 1000, POLL_EVERY_MS = 100 };

struct trip {
    struct stage *stage;
    const char *topic;
    int events_per_transaction;
    long first;   /* number of the first event */
    long count;   /* how many are sent */
    long warm_up; /* the first so many don't count */
    atomic_bool stopped;
    _Atomic int64_t *committed_us; /* by number - first; 0: not yet */
    struct histogram latency_us;
    long received;
};

static long number_in(const char *payload, size_t len) {
    char text[256];
    const char *at = NULL;

    (void)snprintf(text, sizeof(text), "%.*s", (int)(len < 255 ? len : 255), payload);
    at = strstr(text, "\"n\" : ");
    return at != NULL ? strtol(at + 6, NULL, 10) : -1;
}

static void note_arrival(struct trip *trip, const rd_kafka_message_t *message) {
    const int64_t now_us = clock_monotonic_us();
    const long index = number_in(message->payload, message->len) - trip->first;

    if (index < 0 || index >= trip->count) {
        return;
    }
    const int64_t committed_us = trip->committed_us[index];
    trip->received++;
    /* What arrives before the writer has its answer took no time that anybody could see. */
    if (index >= trip->warm_up) {
        histogram_add(&trip->latency_us, committed_us > 0 ? now_us - committed_us : 0);
    }
}

static void *consume(void *arg) {
    struct trip *trip = arg;
    rd_kafka_t *kafka = stage_kafka(trip->stage, RD_KAFKA_CONSUMER);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(STAGE_PARTITIONS);

    (void)rd_kafka_poll_set_consumer(kafka);
    for (int32_t p = 0; p < STAGE_PARTITIONS; p++) {
        rd_kafka_topic_partition_list_add(list, trip->topic, p)->offset = RD_KAFKA_OFFSET_END;
    }
    (void)rd_kafka_assign(kafka, list);
    rd_kafka_topic_partition_list_destroy(list);
    while (!trip->stopped) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(kafka, 100);
        if (message != NULL) {
            if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                note_arrival(trip, message);
            }
            rd_kafka_message_destroy(message);
        }
    }
    rd_kafka_destroy(kafka);
    return NULL;
}

/* At its pace, one transaction after the other; one that is late is not made up for. */
static void write_events(struct trip *trip, const char *stream) {
    char text[STAGE_LINE_BYTES];
    PGconn *pg = stage_connect(trip->stage);
    const int64_t begun_us = clock_monotonic_us();

    for (long i = 0; i < trip->count; i += trip->events_per_transaction) {
        const int64_t due_us =
            begun_us + i / trip->events_per_transaction * 1000000 / TRANSACTIONS_PER_S;
        const int64_t early_us = due_us - clock_monotonic_us();
        if (early_us > 0) {
            stage_pause_us(early_us);
        }
        (void)snprintf(text, sizeof(text), STAGE_INSERT_EVENTS, stream, 1000, 1000, trip->first + i,
                       trip->first + i + trip->events_per_transaction - 1);
        (void)stage_sql(pg, text);
        const int64_t committed_us = clock_monotonic_us();
        for (int j = 0; j < trip->events_per_transaction; j++) {
            trip->committed_us[i + j] = committed_us;
        }
    }
    bench_sample(&trip->stage->report, "c_written", "/s",
                 (double)trip->count / ((double)(clock_monotonic_us() - begun_us) / 1e6));
    PQfinish(pg);
}

/* What is compared with: a loop over the table that publishes what is new. */
static void *poll_table(void *arg) {
    struct trip *trip = arg;
    char text[256];
    PGconn *pg = stage_connect(trip->stage);
    rd_kafka_t *kafka = stage_kafka(trip->stage, RD_KAFKA_PRODUCER);
    char last[32];

    (void)snprintf(last, sizeof(last), "%s",
                   stage_sql(pg, "SELECT max(position) FROM daybook.events"));
    while (!trip->stopped) {
        (void)snprintf(text, sizeof(text),
                       "SELECT position, stream_id, payload FROM daybook.events"
                       " WHERE position > %s ORDER BY position LIMIT 10000",
                       last);
        PGresult *rows = PQexec(pg, text);
        for (int i = 0; i < PQntuples(rows); i++) {
            (void)rd_kafka_producev(
                kafka, RD_KAFKA_V_TOPIC(trip->topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                RD_KAFKA_V_KEY(PQgetvalue(rows, i, 1), (size_t)PQgetlength(rows, i, 1)),
                RD_KAFKA_V_VALUE(PQgetvalue(rows, i, 2), (size_t)PQgetlength(rows, i, 2)),
                RD_KAFKA_V_END);
            (void)snprintf(last, sizeof(last), "%s", PQgetvalue(rows, i, 0));
        }
        PQclear(rows);
        (void)rd_kafka_flush(kafka, 1000);
        stage_pause_us(POLL_EVERY_MS * 1000);
    }
    rd_kafka_destroy(kafka);
    PQfinish(pg);
    return NULL;
}

static void finish_trip(struct trip *trip, pthread_t consumer) {
    const int64_t deadline_us = clock_monotonic_us() + 10000000;

    while (trip->received < trip->count && clock_monotonic_us() < deadline_us) {
        stage_pause_us(20000);
    }
    trip->stopped = true;
    (void)pthread_join(consumer, NULL);
    if (trip->received < trip->count) {
        stage_give_up(trip->topic, "not all events have arrived");
    }
}

struct trip_names {
    const char *p50, *p99;
};

static void run_trip(struct stage *stage, int events_per_s, bool relay,
                     const struct trip_names *names) {
    struct trip *trip = calloc(1, sizeof(*trip));
    pthread_t consumer;
    pthread_t poller;
    char stream[64];

    if (trip == NULL) {
        stage_give_up("start", "no memory");
    }
    trip->stage = stage;
    trip->topic = stage->trips_topic;
    trip->events_per_transaction = events_per_s / TRANSACTIONS_PER_S;
    trip->warm_up = events_per_s; /* a second: connections, and a broker that was just started */
    trip->count = trip->warm_up + (long)(stage->seconds * events_per_s);
    trip->first = (long)++stage->runs * 100000000;
    void *stamps = calloc((size_t)trip->count, sizeof(trip->committed_us[0]));
    trip->committed_us = stamps;
    if (stamps == NULL || pthread_create(&consumer, NULL, consume, trip) != 0 ||
        (!relay && pthread_create(&poller, NULL, poll_table, trip) != 0)) {
        stage_give_up("start", "no memory or no thread");
    }
    stage_pause_us(1500000); /* the consumer waits at the end of the topic by now */
    (void)snprintf(stream, sizeof(stream), "trip-%d-", stage->runs);
    write_events(trip, stream);
    finish_trip(trip, consumer);
    if (!relay) {
        (void)pthread_join(poller, NULL);
    }
    bench_sample(&stage->report, names->p50, "ms",
                 (double)histogram_at(&trip->latency_us, .5) / 1000);
    bench_sample(&stage->report, names->p99, "ms",
                 (double)histogram_at(&trip->latency_us, .99) / 1000);
    free(stamps);
    free(trip);
}

void relay_trips_run(struct stage *stage) {
    static const struct trip_names c1 = {"c_relay_1000_p50", "c_relay_1000_p99"};
    static const struct trip_names c10 = {"c_relay_10000_p50", "c_relay_10000_p99"};
    static const struct trip_names d1 = {"d_poller_1000_p50", "d_poller_1000_p99"};

    (void)stage_sql(stage->pg, "SELECT pg_create_logical_replication_slot('bench_c', 'pgoutput')");
    (void)snprintf(stage->trips_topic, sizeof(stage->trips_topic), "bench-c-%d", (int)getpid());
    stage_start_relay(stage, "bench_c", stage->trips_topic);
    run_trip(stage, 1000, true, &c1);
    run_trip(stage, 10000, true, &c10);
    stage_stop_relay(stage, "bench_c");
    run_trip(stage, 1000, false, &d1);
}
