#include "command-api/relay/relay.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "command-api/relay/delay.h"
#include "command-api/relay/pace.h"
#include "command-api/relay/publish_trace.h"
#include "command-api/relay/relay_metrics.h"
#include "command-api/relay/tails.h"
#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/runtime/backoff.h"

enum { IDLE_WAIT_MS = 100, ITEMS_PER_TURN = 2000, BEFORE_TOO_LARGE_MS = 5000 };
/* The fence: for clocks that differ; between looks at a feed that waits; how often the tails are
 * read at most. */
enum { CLOCK_SKEW_MS = 1000, FENCE_LOOK_MS = 100, SETTLE_READINGS_MAX = 100 };
/* Nothing more is published to a partition that is late by this part of the fence. */
enum { FENCE_PARTS = 4 };

/* One transaction on its way: confirmed when `outstanding` is 0 and all before it are. */
struct transaction {
    uint64_t position;
    int64_t committed_at_us;
    uint32_t outstanding;
    uint32_t events;
};

struct relay {
    struct relay_options options;
    struct publish_mark tails[PUBLISHER_PARTITIONS_MAX];
    struct transaction *ring; /* RELAY_TRANSACTIONS_MAX; numbers count up for ever */
    uint64_t oldest;          /* number of the oldest transaction in flight */
    uint64_t current;         /* number of the one being read; == oldest when none is in flight */
    uint64_t in_flight;
    uint64_t idle_position; /* the newest FEED_PROGRESS */
    bool running;
    bool parted; /* running, with the feed alone: the publisher is to be opened again */
    bool standing_by;
    struct pace pace;
    struct delay delays[PUBLISHER_PARTITIONS_MAX];
    uint32_t changes;  /* taken in this turn */
    bool holding_back; /* nothing more can be taken before something is acknowledged */
    bool progressed;   /* something was confirmed since the last failure */
    bool publisher_reachable;
    bool too_large; /* the last failure: a record that the topic can't take */
    bool told_too_large;
    bool catching_up; /* as shown */
    enum relay_end failed;

    struct publish_trace *trace; /* NULL: no traces */

    struct feed_item pending; /* a change that did not fit yet */
    bool has_pending;

    struct relay_metrics metrics;
};

static struct transaction *transaction_of(struct relay *relay, uint64_t number) {
    return &relay->ring[number % RELAY_TRANSACTIONS_MAX];
}

/* Passes an end's result on and remembers whose it was. */
static enum err_code of_end(struct relay *relay, enum relay_end end, enum err_code code) {
    if (code != ERR_OK) {
        relay->failed = end;
    }
    return code;
}

static void delivered(void *arg, const struct delivery *delivery) {
    struct relay *relay = arg;
    struct change_feed *feed = relay->options.feed;

    transaction_of(relay, delivery->tag)->outstanding--;
    relay->in_flight--;
    delay_acknowledged(&relay->delays[delivery->partition], clock_monotonic_us());
    metric_add(relay->metrics.published, 1);
    if (relay->trace != NULL) {
        publish_trace_delivered(relay->trace, delivery->partition, delivery->offset);
    }
    feed->ops->published(feed, delivery->partition, delivery->offset);
}

/* Confirms the longest prefix of transactions that are done. Called in each turn, also without
 * news: the feed tells the server so that somebody is there. */
static enum err_code confirm_done(struct relay *relay, struct err *err) {
    struct change_feed *feed = relay->options.feed;
    uint64_t position = 0;

    while (relay->oldest < relay->current) {
        const struct transaction *t = transaction_of(relay, relay->oldest);
        if (t->outstanding > 0) {
            break;
        }
        position = t->position;
        metric_observe(relay->metrics.publish_seconds, clock_wall_us() - t->committed_at_us);
        relay->oldest++;
        relay->progressed = true;
    }
    const struct transaction *now = transaction_of(relay, relay->current);
    if (relay->oldest == relay->current && now->events == 0 && relay->idle_position > position) {
        /* Nothing of ours is on its way: the slot may forget what belongs to others. */
        position = relay->idle_position;
    }
    return of_end(relay, END_FEED, feed->ops->confirm(feed, position, err));
}

static void show_state(struct relay *relay) {
    struct publisher *publisher = relay->options.publisher;
    struct err why = {0};
    const struct change_feed *feed = relay->options.feed;
    const struct transaction *oldest = transaction_of(relay, relay->oldest);
    const bool waiting = relay->oldest < relay->current || oldest->events > 0;
    const int64_t age_us =
        waiting && oldest->committed_at_us > 0 ? clock_wall_us() - oldest->committed_at_us : 0;

    const char *lost = feed->ops->catching_up(feed);
    if (lost != NULL && !relay->catching_up) {
        health_degrade(relay->options.feed_health, "catching up from the events table: %s", lost);
    } else if (lost == NULL && relay->catching_up) {
        health_ok(relay->options.feed_health);
    }
    relay->catching_up = lost != NULL;
    metric_set(relay->metrics.lag_bytes, feed->ops->lag_bytes(feed));
    metric_set_micros(relay->metrics.lag_seconds, age_us > 0 ? age_us : 0);
    metric_set(relay->metrics.in_flight_gauge, (int64_t)relay->in_flight);
    const bool reachable = publisher->ops->reachable(publisher, &why);
    if (reachable && !relay->publisher_reachable) {
        health_ok(relay->options.publisher_health);
    } else if (!reachable && relay->publisher_reachable) {
        health_fail(relay->options.publisher_health, "%s", why.message);
    }
    relay->publisher_reachable = reachable;
}

static enum err_code publish(struct relay *relay, int32_t partition, struct change *change,
                             struct err *err) {
    struct publisher *publisher = relay->options.publisher;
    struct change_feed *feed = relay->options.feed;

    change->held_at_us = feed->ops->held_at_us(feed);
    change->without_payload = false;
    enum err_code code = publisher->ops->publish(publisher, partition, change, relay->current, err);
    if (code == ERR_INVALID && relay->options.refer_too_large) {
        log_error(relay->options.log, log_event("relay.payload_left_out"), log_err(err),
                  log_str("stream", change->event.stream_id),
                  log_i64("version", change->event.version),
                  log_str("correlation_id", change->event.correlation_id));
        metric_add(relay->metrics.referred, 1);
        change->without_payload = true;
        code = publisher->ops->publish(publisher, partition, change, relay->current, err);
    }
    if (code == ERR_INVALID) {
        relay->too_large = true;
    } else if (code == ERR_OK && relay->too_large) {
        relay->too_large = false;
        relay->told_too_large = false;
        metric_set(relay->metrics.blocked, 0);
        health_ok(relay->options.publisher_health);
    }
    return of_end(relay, END_PUBLISHER, code);
}

/* The record carries the span of its publishing in place of the one that it follows from. */
static enum err_code publish_traced(struct relay *relay, int32_t partition, struct change *change,
                                    struct err *err) {
    const struct str traceparent = change->event.traceparent;
    char own[TRACEPARENT_BYTES];

    if (publish_trace_begin(relay->trace, &change->event, own)) {
        change->event.traceparent = str_from(own);
    }
    const enum err_code code = publish(relay, partition, change, err);
    change->event.traceparent = traceparent;
    if (code == ERR_OK) {
        publish_trace_sent(relay->trace, partition);
    }
    return code;
}

/* What would wait until its stamp is too old is not stamped yet. */
static bool is_late(const struct relay *relay, int32_t partition) {
    return delay_us(&relay->delays[partition], clock_monotonic_us()) >
           relay->options.fence_ms * 1000 / FENCE_PARTS;
}

/* ERR_LIMIT: the publisher is full, or late; the change waits in `pending`. */
static enum err_code take_change(struct relay *relay, struct change *change, struct err *err) {
    struct transaction *t = transaction_of(relay, relay->current);
    const int32_t partition =
        hash_kafka_partition(change->event.stream_id, relay->options.partitions);

    if (tail_covers(&relay->tails[partition], change)) {
        metric_add(relay->metrics.skipped, 1);
        t->events++;
        t->committed_at_us = change->committed_at_us;
        return ERR_OK;
    }
    if (is_late(relay, partition)) {
        return ERR_LIMIT;
    }
    const enum err_code code = relay->trace != NULL ? publish_traced(relay, partition, change, err)
                                                    : publish(relay, partition, change, err);
    if (code == ERR_OK) {
        t->events++;
        t->outstanding++;
        t->committed_at_us = change->committed_at_us;
        relay->in_flight++;
        delay_given(&relay->delays[partition], clock_monotonic_us());
    }
    return code;
}

static void take_commit(struct relay *relay, const struct feed_item *item) {
    struct transaction *t = transaction_of(relay, relay->current);

    t->position = item->position;
    t->committed_at_us = item->committed_at_us;
    metric_add(relay->metrics.transactions, 1);
    metric_observe(relay->metrics.batch_size, t->events);
    relay->current++;
    *transaction_of(relay, relay->current) = (struct transaction){0};
}

static bool is_full(const struct relay *relay) {
    return relay->current - relay->oldest >= RELAY_TRANSACTIONS_MAX - 1;
}

/* Takes what has arrived, up to a bound. `more`: the feed had not run dry. */
static enum err_code take_items(struct relay *relay, bool *more, struct err *err) {
    struct change_feed *feed = relay->options.feed;
    enum err_code code = ERR_OK;

    *more = false;
    relay->holding_back = false;
    relay->changes = 0;
    for (int items = 0; items < ITEMS_PER_TURN && code == ERR_OK; items++) {
        if (is_full(relay)) {
            relay->holding_back = true;
            return ERR_OK;
        }
        if (!relay->has_pending) {
            code = of_end(relay, END_FEED, feed->ops->next(feed, &relay->pending, err));
            if (code != ERR_OK || relay->pending.kind == FEED_NOTHING) {
                return code;
            }
        }
        relay->has_pending = false;
        switch (relay->pending.kind) {
        case FEED_CHANGE:
            code = take_change(relay, &relay->pending.change, err);
            /* Its slices live until the next call of next. */
            relay->has_pending = code == ERR_LIMIT || code == ERR_INVALID;
            if (code == ERR_LIMIT) {
                relay->holding_back = true;
                return ERR_OK;
            }
            relay->changes++;
            break;
        case FEED_COMMIT:
            take_commit(relay, &relay->pending);
            break;
        case FEED_PROGRESS:
            relay->idle_position = relay->pending.position;
            break;
        case FEED_NOTHING:
            break;
        }
    }
    *more = code == ERR_OK;
    return code;
}

static void wait_for_news(struct relay *relay) {
    const int gather_ms = relay->holding_back ? 0 : pace_gather_ms(&relay->pace);
    struct pollfd fds[3] = {
        {.fd = stop_fd(relay->options.stop), .events = POLLIN},
        {.fd = relay->options.publisher->ops->descriptor(relay->options.publisher),
         .events = POLLIN},
        /* What has arrived stays there while there is no room for it. */
        {.fd = relay->holding_back ? -1 : relay->options.feed->ops->descriptor(relay->options.feed),
         .events = POLLIN},
    };

    if (gather_ms > 0) {
        (void)poll(fds, 1, gather_ms); /* but for a stop */
        return;
    }
    (void)poll(fds, ARRAY_LEN(fds), IDLE_WAIT_MS);
}

static enum err_code turn(struct relay *relay, bool *more, struct err *err) {
    struct publisher *publisher = relay->options.publisher;
    enum err_code code = take_items(relay, more, err);
    const uint64_t oldest = relay->oldest;
    const uint64_t in_flight = relay->in_flight;

    pace_note(&relay->pace, clock_monotonic_us(), relay->changes);
    if (code == ERR_OK) {
        code =
            of_end(relay, END_PUBLISHER, publisher->ops->poll(publisher, 0, delivered, relay, err));
    }
    if (code == ERR_OK) {
        code = confirm_done(relay, err);
    }
    /* There is room again: what was held back has been announced already. */
    *more =
        *more || (relay->holding_back && (relay->in_flight < in_flight || relay->oldest > oldest));
    return code;
}

/* --- beginning and ending --- */

static void close_both(struct relay *relay) {
    relay->options.feed->ops->close(relay->options.feed);
    relay->options.publisher->ops->close(relay->options.publisher);
    relay->running = false;
    relay->parted = false;
}

/* Proves the feed meanwhile. ERR_CLOSED: a stop. */
static enum err_code hold_feed(struct relay *relay, int64_t wait_ms, struct err *err) {
    struct change_feed *feed = relay->options.feed;
    const int64_t deadline_us = clock_monotonic_us() + wait_ms * 1000;
    int64_t left_ms = wait_ms;

    while (left_ms > 0) {
        if (stop_wait_ms(relay->options.stop, left_ms < FENCE_LOOK_MS ? left_ms : FENCE_LOOK_MS)) {
            return err_set(err, ERR_CLOSED, "stopping");
        }
        const enum err_code code = feed->ops->confirm(feed, 0, err);
        if (code != ERR_OK) {
            return of_end(relay, END_FEED, code);
        }
        left_ms = (deadline_us - clock_monotonic_us() + 999) / 1000;
    }
    return ERR_OK;
}

/* See relay.h. Keeps the feed attached meanwhile. */
static enum err_code pass_fence(struct relay *relay, struct err *err) {
    struct change_feed *feed = relay->options.feed;
    const int64_t wait_ms = relay->options.fence_ms + CLOCK_SKEW_MS;

    if (feed->ops->predecessor_gone(feed)) {
        return ERR_OK;
    }
    log_info(relay->options.log, log_event("relay.waiting_for_fence"), log_i64("ms", wait_ms));
    health_degrade(relay->options.feed_health,
                   "taking over: what an earlier holder may still send is refused in %" PRId64
                   " ms at most",
                   wait_ms);
    return hold_feed(relay, wait_ms, err);
}

/* Only the holder of the feed reads the tails, until they stand still. */
static enum err_code read_tails(struct relay *relay, struct err *err) {
    struct publisher *publisher = relay->options.publisher;
    struct change_feed *feed = relay->options.feed;
    struct publish_mark before[PUBLISHER_PARTITIONS_MAX];
    const size_t count = (size_t)relay->options.partitions;
    enum err_code code = publisher->ops->read_tails(publisher, relay->tails, count, err);

    for (int i = 0; code == ERR_OK && i < SETTLE_READINGS_MAX; i++) {
        memcpy(before, relay->tails, count * sizeof(before[0]));
        if (stop_wait_ms(relay->options.stop, relay->options.settle_ms)) {
            return err_set(err, ERR_CLOSED, "stopping");
        }
        code = publisher->ops->read_tails(publisher, relay->tails, count, err);
        if (code == ERR_OK && tails_agree(before, relay->tails, count)) {
            return ERR_OK;
        }
        if (code == ERR_OK) {
            code = of_end(relay, END_FEED, feed->ops->confirm(feed, 0, err));
        }
    }
    return code != ERR_OK
               ? code
               : err_set(err, ERR_CONFLICT, "kafka: somebody else goes on writing to the topic");
}

static enum err_code open_publisher(struct relay *relay, struct err *err) {
    struct publisher *publisher = relay->options.publisher;
    enum err_code code = publisher->ops->open(publisher, err);

    relay->failed = END_PUBLISHER;
    return code == ERR_OK ? read_tails(relay, err) : code;
}

static enum err_code open_both(struct relay *relay, struct err *err) {
    struct change_feed *feed = relay->options.feed;
    enum err_code code = of_end(relay, END_FEED, feed->ops->open(feed, err));

    if (code == ERR_OK) {
        code = pass_fence(relay, err);
    }
    if (code == ERR_OK) {
        health_ok(relay->options.feed_health);
        code = open_publisher(relay, err);
    }
    if (code == ERR_OK) {
        code = of_end(relay, END_FEED,
                      feed->ops->begin(feed, relay->tails, (size_t)relay->options.partitions, err));
    }
    if (code != ERR_OK) {
        return code;
    }
    health_ok(relay->options.feed_health);
    if (!relay->too_large) {
        health_ok(relay->options.publisher_health);
    }
    relay->publisher_reachable = true;
    relay->catching_up = false;
    relay->oldest = relay->current = 0;
    *transaction_of(relay, 0) = (struct transaction){0};
    relay->in_flight = 0;
    memset(relay->delays, 0, sizeof(relay->delays));
    publish_trace_reset(relay->trace);
    relay->idle_position = 0;
    relay->has_pending = false;
    relay->progressed = false;
    relay->standing_by = false;
    relay->running = true;
    log_info(relay->options.log, log_event("relay.running"));
    return ERR_OK;
}

static int64_t stand_by(struct relay *relay, const struct err *err) {
    if (!relay->standing_by) {
        log_info(relay->options.log, log_event("relay.standing_by"), log_err(err));
        health_degrade(relay->options.feed_health, "standing by: another relay is active");
        health_degrade(relay->options.publisher_health, "standing by");
    }
    relay->standing_by = true;
    return relay->options.standby_retry_ms;
}

/* What went wrong, once, and how long to wait before the next try. */
static int64_t note_failure(struct relay *relay, enum err_code code, const struct err *err,
                            struct backoff *backoff) {
    if (code == ERR_FENCED && relay->failed == END_FEED) {
        return stand_by(relay, err);
    }
    if (relay->progressed) {
        backoff_reset(backoff);
        relay->progressed = false;
    }
    const int64_t wait_ms = backoff_next_ms(backoff);
    relay->standing_by = false;
    health_fail(relay->failed == END_FEED ? relay->options.feed_health
                                          : relay->options.publisher_health,
                "%s", err->message);
    metric_set(relay->metrics.blocked, relay->too_large ? 1 : 0);
    /* Waiting for a larger limit, once is enough. */
    const bool told = relay->too_large && relay->told_too_large;
    relay->told_too_large = relay->too_large;
    log_write(relay->options.log, told ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN,
              LOG_FIELDS(log_event("relay.interrupted"), log_cstr("class", err_name(code)),
                         log_err(err), log_i64("retry_in_ms", wait_ms)));
    metric_add(relay->metrics.reconnects[relay->failed], 1);
    return wait_ms;
}

/* Waits for what is on its way, and confirms it. */
static enum err_code await_deliveries(struct relay *relay, int64_t limit_ms, struct err *err) {
    const int64_t deadline_us = clock_monotonic_us() + limit_ms * 1000;
    struct publisher *publisher = relay->options.publisher;
    enum err_code code = ERR_OK;

    while (code == ERR_OK && relay->in_flight > 0 && clock_monotonic_us() < deadline_us) {
        code = publisher->ops->poll(publisher, 10, delivered, relay, err);
        if (code == ERR_OK) {
            code = confirm_done(relay, err);
        }
    }
    return code == ERR_OK ? confirm_done(relay, err) : code;
}

static void drain(struct relay *relay) {
    struct err err = {0};
    const enum err_code code = await_deliveries(relay, relay->options.drain_ms, &err);

    log_info(relay->options.log, log_event("relay.drained"),
             log_i64("left_in_flight", (int64_t)relay->in_flight),
             log_cstr("class", err_name(code)));
}

/* The publisher first: what it has not sent by then never goes out. */
static void end(struct relay *relay) {
    struct change_feed *feed = relay->options.feed;
    const bool nothing_on_its_way = relay->running && relay->in_flight == 0;

    relay->options.publisher->ops->close(relay->options.publisher);
    if (nothing_on_its_way) {
        feed->ops->release(feed);
    }
    close_both(relay);
}

/* See relay.h, invariant 4. Nothing is on its way, or the publisher is as good as before. */
static bool can_part(const struct relay *relay, enum err_code code) {
    const struct change_feed *feed = relay->options.feed;

    return relay->running && relay->failed == END_PUBLISHER && relay->too_large &&
           relay->has_pending && (relay->in_flight == 0 || code == ERR_INVALID) &&
           feed->ops->catching_up(feed) != NULL;
}

static void recover(struct relay *relay, enum err_code code, struct err *err,
                    struct backoff *backoff) {
    struct publisher *publisher = relay->options.publisher;
    const enum relay_end failed = relay->failed;

    if (code == ERR_INVALID && relay->too_large && relay->running && !relay->parted) {
        /* What came before it is not to be given up at each try. */
        (void)await_deliveries(relay, BEFORE_TOO_LARGE_MS, NULL);
        relay->failed = failed;
    }
    if (can_part(relay, code)) {
        relay->parted = relay->in_flight == 0;
        if (relay->parted) {
            publisher->ops->close(publisher);
        }
        code = hold_feed(relay, note_failure(relay, code, err, backoff), err);
        if (code == ERR_OK || code == ERR_CLOSED) {
            return;
        }
    }
    close_both(relay);
    (void)stop_wait_ms(relay->options.stop, note_failure(relay, code, err, backoff));
}

/* What it can take may have changed. The tails are known: all that was sent was acknowledged. */
static enum err_code reopen_publisher(struct relay *relay, struct err *err) {
    struct publisher *publisher = relay->options.publisher;
    struct change_feed *feed = relay->options.feed;
    enum err_code code = of_end(relay, END_PUBLISHER, publisher->ops->open(publisher, err));

    if (code == ERR_OK) {
        relay->parted = false;
        code = of_end(relay, END_FEED, feed->ops->confirm(feed, 0, err));
    }
    return code;
}

static enum err_code step(struct relay *relay, bool *more, struct err *err) {
    *more = true; /* once opened, there may be something */
    if (!relay->running) {
        return open_both(relay, err);
    }
    const enum err_code code = relay->parted ? reopen_publisher(relay, err) : ERR_OK;

    return code == ERR_OK ? turn(relay, more, err) : code;
}

void relay_run(struct relay *relay) {
    struct backoff backoff;
    struct err err = {0};

    backoff_init(&backoff, relay->options.retry_first_ms, relay->options.retry_cap_ms);
    while (!stop_requested(relay->options.stop)) {
        bool more = false;
        const enum err_code code = step(relay, &more, &err);
        if (code != ERR_OK) {
            recover(relay, code, &err, &backoff);
        } else {
            show_state(relay);
            if (!more) {
                wait_for_news(relay);
            }
        }
    }
    if (relay->running) {
        drain(relay);
    }
    end(relay);
}

struct relay *relay_new(const struct relay_options *options) {
    struct relay *relay = mem_zalloc(sizeof(*relay));

    relay->options = *options;
    relay->trace = publish_trace_new(options->tracer, options->topic);
    relay->ring = mem_array(RELAY_TRANSACTIONS_MAX, sizeof(relay->ring[0]));
    relay_metrics_register(&relay->metrics, options->metrics);
    return relay;
}

void relay_free(struct relay *relay) {
    if (relay == NULL) {
        return;
    }
    publish_trace_free(relay->trace);
    mem_free(relay->ring);
    mem_free(relay);
}
