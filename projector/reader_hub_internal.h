/* What the hub and its taps know of each other (reader_hub.c, reader_tap.c). */
#ifndef DAYBOOK_PROJECTOR_READER_HUB_INTERNAL_H
#define DAYBOOK_PROJECTOR_READER_HUB_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "projector/reader_hub.h"

enum {
    TAKE_RECORDS = 512,
    TAKE_WAIT_MS = 20, /* a start waits for it */
    HELD_UP_WAIT_MS = 10,
    QUEUE_RECORDS = 8192,
    QUEUE_BYTES = 8 * 1024 * 1024,
    NEAR_RECORDS = 2000,
    APART_US_MIN = 1000000,
    LOOK_EVERY_US = 200000,
    BEYOND_US_MAX = 2000000,
};

/* Records that came at once; released when nobody holds one of them any more. */
struct chunk {
    atomic_size_t holders;
    struct event_reader *reader;
    size_t count;
    struct consumed_record records[];
};

struct place {
    size_t users; /* shared taps that have started it */
    int64_t head; /* offset not given out yet */
    int64_t end;  /* as last heard */
    bool running; /* started at the reader */
    bool restart; /* to be started at `head`; what comes before that is from elsewhere */
};

struct queued {
    struct chunk *chunk;
    size_t index;
};

struct tap {
    struct event_reader base;
    struct reader_hub *hub;
    /* The hub's mutex guards these; positions of a tap that is apart are its thread's. */
    bool shared;
    bool waiting;
    bool started[TOPIC_PARTITIONS_MAX];
    int64_t next[TOPIC_PARTITIONS_MAX]; /* offset not queued yet */
    struct queued *queue;               /* a ring */
    size_t first, count;
    int64_t bytes;
    pthread_cond_t wake;
    /* Its thread's. */
    struct event_reader *own; /* while apart */
    size_t own_held;          /* records of it that are not released */
    int64_t apart_at_us;
    int64_t looked_at_us;
    int64_t beyond_at_us; /* since when its position is beyond the end; 0: it isn't */
};

struct reader_hub {
    struct reader_hub_options options;
    struct event_reader *reader; /* the hub's thread's, but for release */
    pthread_t thread;
    pthread_mutex_t mutex; /* guards all below */
    pthread_cond_t work;   /* for the hub's thread */
    pthread_cond_t opened;
    bool stop;
    bool open, open_wanted;
    uint64_t open_tries;
    struct err open_error;
    bool held_up;
    struct place places[TOPIC_PARTITIONS_MAX];
    struct tap *taps[HUB_TAPS_MAX];
    size_t tap_count;
    struct consumed_record taken[TAKE_RECORDS]; /* the hub's thread's */
};

static inline void hub_lock(struct reader_hub *hub) {
    (void)pthread_mutex_lock(&hub->mutex);
}

static inline void hub_unlock(struct reader_hub *hub) {
    (void)pthread_mutex_unlock(&hub->mutex);
}

/* Waits with the mutex held, at most so long. */
void hub_wait(struct reader_hub *hub, pthread_cond_t *cond, int64_t wait_ms);
void hub_cond_init(pthread_cond_t *cond);

struct chunk *chunk_new(struct event_reader *reader, const struct consumed_record *records,
                        size_t count);
void chunk_release(struct chunk *chunk, size_t holders);

/* With the mutex held. */
bool hub_is_near(const struct place *place, int64_t next);
void hub_join(struct reader_hub *hub, struct tap *tap, int32_t partition);
/* What is queued stays: the tap goes on behind it. */
void hub_send_away(struct reader_hub *hub, struct tap *tap);

#endif
