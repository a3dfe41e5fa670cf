#include "common/adapters/change_feed_mem.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

enum { CHANGES_MAX = 4096, LSN_STEP = 10, DISTURB_ONE_IN = 32 };

struct feed_mem {
    struct change_feed base;
    struct change changes[CHANGES_MAX];
    size_t count;
    struct str payload; /* of what is added */
    uint64_t last_lsn;
    size_t at;    /* next change */
    size_t later; /* from this change on, what comes at later_at_us */
    int64_t later_ms;
    int64_t later_at_us; /* monotonic */
    bool commit_due;     /* its transaction's commit comes next */
    bool progress_due;
    bool open;
    bool broken;
    uint64_t random_state;
    int disturbances;
    _Atomic uint64_t confirmed;
    _Atomic uint64_t confirms;
    atomic_bool held;
    uint64_t incarnation;
    bool lost; /* the place in the log: begin says ERR_CONFLICT once, then all comes again */
    uint64_t catch_up_to; /* 0: it doesn't catch up; before this is confirmed, nothing is */
    bool stranger;        /* the holder before may still be alive */
    int64_t ends[PUBLISHER_PARTITIONS_MAX];
    _Atomic uint64_t releases;
};

static struct feed_mem *self_of(struct change_feed *feed) {
    return (struct feed_mem *)(void *)feed;
}

static const struct feed_mem *const_self_of(const struct change_feed *feed) {
    return (const struct feed_mem *)(const void *)feed;
}

static enum err_code feed_open(struct change_feed *feed, struct err *err) {
    struct feed_mem *self = self_of(feed);

    if (self->held) {
        return err_set(err, ERR_FENCED, "held by somebody else");
    }
    if (self->later_ms > 0 && self->later_at_us == 0) {
        self->later_at_us = clock_monotonic_us() + self->later_ms * 1000;
    }
    self->at = 0;
    while (self->at < self->count && self->changes[self->at].commit_lsn <= self->confirmed) {
        self->at++;
    }
    self->commit_due = false;
    self->progress_due = self->last_lsn > self->confirmed;
    self->open = true;
    return ERR_OK;
}

static bool feed_predecessor_gone(const struct change_feed *feed) {
    return !const_self_of(feed)->stranger;
}

static enum err_code feed_begin(struct change_feed *feed, const struct publish_mark *tails,
                                size_t count, struct err *err) {
    struct feed_mem *self = self_of(feed);

    for (size_t p = 0; p < count; p++) {
        if (tails[p].present && tails[p].incarnation > self->incarnation) {
            self->incarnation = tails[p].incarnation;
        }
    }
    if (!self->lost) {
        self->incarnation += self->catch_up_to > 0 ? 1 : 0;
        return ERR_OK;
    }
    self->lost = false;
    self->catch_up_to = self->last_lsn;
    self->confirmed = 0;
    self->open = false;
    return err_set(err, ERR_CONFLICT, "the place in the log is lost");
}

static void feed_published(struct change_feed *feed, int32_t partition, int64_t offset) {
    struct feed_mem *self = self_of(feed);

    self->ends[partition] = offset >= 0 ? offset : self->ends[partition];
}

static int64_t feed_held_at_us(const struct change_feed *feed) {
    (void)feed;
    return clock_wall_us();
}

static const char *feed_catching_up(const struct change_feed *feed) {
    return const_self_of(feed)->catch_up_to > 0 ? "the place in the log is lost" : NULL;
}

static void feed_release(struct change_feed *feed) {
    self_of(feed)->releases++;
}

static bool breaks_now(struct feed_mem *self) {
    bool now = self->broken;

    self->broken = false;
    if (!now && self->disturbances > 0) {
        self->random_state = self->random_state * UINT64_C(6364136223846793005) + 1;
        now = (self->random_state >> 33) % DISTURB_ONE_IN == 0;
        self->disturbances -= now ? 1 : 0;
    }
    return now;
}

static enum err_code feed_next(struct change_feed *feed, struct feed_item *item, struct err *err) {
    struct feed_mem *self = self_of(feed);

    item->kind = FEED_NOTHING;
    if (!self->open || breaks_now(self)) {
        self->open = false;
        return err_set(err, ERR_UNAVAILABLE, "the feed is closed");
    }
    if (self->commit_due) {
        item->kind = FEED_COMMIT;
        item->position = self->changes[self->at - 1].commit_lsn;
        item->committed_at_us = self->changes[self->at - 1].committed_at_us;
        self->commit_due = false;
    } else if (self->at == self->later && clock_monotonic_us() < self->later_at_us) {
        return ERR_OK;
    } else if (self->at < self->count) {
        item->kind = FEED_CHANGE;
        item->change = self->changes[self->at++];
        item->change.incarnation = self->incarnation;
        self->commit_due = self->at == self->count ||
                           self->changes[self->at].commit_lsn != item->change.commit_lsn;
        self->progress_due = true;
    } else if (self->progress_due) {
        item->kind = FEED_PROGRESS;
        item->position = self->last_lsn;
        self->progress_due = false;
    }
    return ERR_OK;
}

static enum err_code feed_confirm(struct change_feed *feed, uint64_t position, struct err *err) {
    struct feed_mem *self = self_of(feed);

    if (!self->open) {
        return err_set(err, ERR_UNAVAILABLE, "the feed is closed");
    }
    assert(position <= self->last_lsn);
    if (position >= self->catch_up_to) {
        self->catch_up_to = 0;
        self->confirmed = position > self->confirmed ? position : self->confirmed;
    }
    self->confirms++;
    return ERR_OK;
}

static int feed_descriptor(const struct change_feed *feed) {
    (void)feed;
    return -1;
}

static uint64_t feed_end_of_log(const struct change_feed *feed) {
    return const_self_of(feed)->last_lsn;
}

static int64_t feed_lag_bytes(const struct change_feed *feed) {
    const struct feed_mem *self = const_self_of(feed);

    return (int64_t)(self->last_lsn - self->confirmed);
}

static void feed_close(struct change_feed *feed) {
    self_of(feed)->open = false;
}

static void feed_free(struct change_feed *feed) {
    mem_free(self_of(feed));
}

struct change_feed *change_feed_mem_new(void) {
    static const struct change_feed_ops ops = {
        .open = feed_open,
        .predecessor_gone = feed_predecessor_gone,
        .begin = feed_begin,
        .published = feed_published,
        .held_at_us = feed_held_at_us,
        .catching_up = feed_catching_up,
        .release = feed_release,
        .next = feed_next,
        .confirm = feed_confirm,
        .descriptor = feed_descriptor,
        .end_of_log = feed_end_of_log,
        .lag_bytes = feed_lag_bytes,
        .close = feed_close,
        .free = feed_free,
    };
    struct feed_mem *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    self->payload = STR("{}");
    return &self->base;
}

void change_feed_mem_payload(struct change_feed *feed, const char *payload) {
    self_of(feed)->payload = str_from(payload);
}

void change_feed_mem_add_later(struct change_feed *feed, int64_t ms) {
    self_of(feed)->later = self_of(feed)->count;
    self_of(feed)->later_ms = ms;
}

void change_feed_mem_add(struct change_feed *feed, const char *const *stream_ids, size_t count) {
    struct feed_mem *self = self_of(feed);

    self->last_lsn += LSN_STEP;
    for (size_t i = 0; i < count; i++) {
        assert(self->count < CHANGES_MAX);
        struct change *change = &self->changes[self->count++];
        *change = (struct change){
            .event = {.aggregate_type = STR("account"),
                      .stream_id = str_from(stream_ids[i]),
                      .version = (int64_t)self->count,
                      .event_type = STR("MoneyDeposited"),
                      .schema_version = 1,
                      .payload = self->payload},
            .commit_lsn = self->last_lsn,
            .seq = (uint32_t)i,
        };
    }
}

uint64_t change_feed_mem_add_foreign(struct change_feed *feed) {
    struct feed_mem *self = self_of(feed);

    self->progress_due = true;
    return self->last_lsn += LSN_STEP;
}

uint64_t change_feed_mem_confirmed(const struct change_feed *feed) {
    return const_self_of(feed)->confirmed;
}

uint64_t change_feed_mem_confirms(const struct change_feed *feed) {
    return const_self_of(feed)->confirms;
}

void change_feed_mem_hold(struct change_feed *feed, bool held) {
    self_of(feed)->held = held;
}

void change_feed_mem_break(struct change_feed *feed) {
    self_of(feed)->broken = true;
}

void change_feed_mem_disturb(struct change_feed *feed, uint64_t seed, int times) {
    self_of(feed)->random_state = seed;
    self_of(feed)->disturbances = times;
}

void change_feed_mem_lose_place(struct change_feed *feed) {
    self_of(feed)->lost = true;
}

void change_feed_mem_predecessor(struct change_feed *feed, bool gone) {
    self_of(feed)->stranger = !gone;
}

uint64_t change_feed_mem_releases(const struct change_feed *feed) {
    return const_self_of(feed)->releases;
}
