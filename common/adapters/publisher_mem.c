#include "common/adapters/publisher_mem.h"

#include <assert.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/mem.h"

enum { RECORDS_MAX = 8192, DISTURB_ONE_IN = 8, LOSE_ONE_IN = 4 };

struct publisher_mem {
    struct publisher base;
    struct published topic[RECORDS_MAX];
    size_t topic_count;
    struct published waiting[RECORDS_MAX];
    uint64_t tags[RECORDS_MAX];
    size_t waiting_count;
    size_t in_flight_max;
    size_t allowed;
    unsigned delay;  /* polls */
    unsigned polled; /* in vain, since something waits */
    bool fail;
    bool keep;
    int readable_fd; /* always is */
    bool open;
    bool disturbed;
    uint64_t random_state;
    int disturbances;
    _Atomic size_t refused_bytes;
    int64_t ends[PUBLISHER_PARTITIONS_MAX]; /* records in each partition of the topic */
};

static struct publisher_mem *self_of(struct publisher *publisher) {
    return (struct publisher_mem *)(void *)publisher;
}

static enum err_code publisher_open(struct publisher *publisher, struct err *err) {
    (void)err;
    self_of(publisher)->open = true;
    return ERR_OK;
}

static enum err_code publisher_read_tails(struct publisher *publisher, struct publish_mark *tails,
                                          size_t count, struct err *err) {
    const struct publisher_mem *self = self_of(publisher);

    (void)err;
    memset(tails, 0, count * sizeof(tails[0]));
    for (size_t i = 0; i < self->topic_count; i++) {
        const struct published *record = &self->topic[i];
        struct publish_mark *tail = &tails[record->partition];
        *tail = (struct publish_mark){.incarnation = record->incarnation,
                                      .commit_lsn = record->commit_lsn,
                                      .seq = record->seq,
                                      .offset = tail->present ? tail->offset + 1 : 0,
                                      .present = true};
    }
    return ERR_OK;
}

static enum err_code publisher_publish(struct publisher *publisher, int32_t partition,
                                       const struct change *change, uint64_t tag, struct err *err) {
    struct publisher_mem *self = self_of(publisher);

    assert(self->open);
    if (self->waiting_count == self->in_flight_max) {
        return err_set(err, ERR_LIMIT, "full");
    }
    if (self->refused_bytes > 0 && !change->without_payload &&
        change->event.payload.len >= self->refused_bytes) {
        return err_set(err, ERR_INVALID, "the record is too large");
    }
    struct published *record = &self->waiting[self->waiting_count];
    *record = (struct published){
        .partition = partition,
        .version = change->event.version,
        .incarnation = change->incarnation,
        .commit_lsn = change->commit_lsn,
        .seq = change->seq,
    };
    if (!str_copy(record->stream_id, sizeof(record->stream_id), change->event.stream_id)) {
        return err_set(err, ERR_INVALID, "the stream id is too long");
    }
    self->tags[self->waiting_count++] = tag;
    return ERR_OK;
}

static void move_to_topic(struct publisher_mem *self, size_t count) {
    assert(self->topic_count + count <= RECORDS_MAX);
    memcpy(&self->topic[self->topic_count], self->waiting, count * sizeof(self->waiting[0]));
    self->topic_count += count;
    self->waiting_count -= count;
    memmove(self->waiting, self->waiting + count, self->waiting_count * sizeof(self->waiting[0]));
}

static uint64_t random_below(struct publisher_mem *self, uint64_t limit) {
    self->random_state = self->random_state * UINT64_C(6364136223846793005) + 1;
    return (self->random_state >> 33) % limit;
}

/* The connection ends: of each partition's records the first part has arrived. */
static void lose_at_random(struct publisher_mem *self) {
    bool lost[PUBLISHER_PARTITIONS_MAX] = {false};

    for (size_t i = 0; i < self->waiting_count; i++) {
        const struct published *record = &self->waiting[i];
        lost[record->partition] = lost[record->partition] || random_below(self, LOSE_ONE_IN) == 0;
        if (!lost[record->partition]) {
            assert(self->topic_count < RECORDS_MAX);
            self->topic[self->topic_count++] = *record;
        }
    }
    self->waiting_count = 0;
}

static enum err_code publisher_poll(struct publisher *publisher, int64_t wait_ms,
                                    publisher_delivered_fn *fn, void *arg, struct err *err) {
    struct publisher_mem *self = self_of(publisher);

    (void)wait_ms;
    if (self->disturbed) {
        self->allowed = random_below(self, 4);
        if (self->disturbances > 0 && random_below(self, DISTURB_ONE_IN) == 0) {
            self->disturbances--;
            lose_at_random(self);
            return err_set(err, ERR_UNAVAILABLE, "injected");
        }
    }
    if (self->fail) {
        self->fail = false;
        move_to_topic(self, self->keep ? self->waiting_count : 0);
        self->waiting_count = 0;
        return err_set(err, ERR_UNAVAILABLE, "injected");
    }
    if (self->waiting_count > 0 && self->polled++ < self->delay) {
        return ERR_OK;
    }
    self->polled = 0;
    const size_t count = self->waiting_count < self->allowed ? self->waiting_count : self->allowed;
    for (size_t i = 0; i < count; i++) {
        const struct delivery delivery = {self->tags[i], self->waiting[i].partition,
                                          self->ends[self->waiting[i].partition]++};
        fn(arg, &delivery);
    }
    memmove(self->tags, self->tags + count, (self->waiting_count - count) * sizeof(self->tags[0]));
    move_to_topic(self, count);
    self->allowed -= self->allowed == SIZE_MAX ? 0 : count;
    return ERR_OK;
}

static bool publisher_reachable(struct publisher *publisher, struct err *why) {
    (void)why;
    return self_of(publisher)->open;
}

static int publisher_descriptor(const struct publisher *publisher) {
    const struct publisher_mem *self = (const struct publisher_mem *)(const void *)publisher;
    const bool has_news = self->waiting_count > 0 && (self->disturbed || self->allowed > 0);

    return has_news ? self->readable_fd : -1;
}

static void publisher_close(struct publisher *publisher) {
    self_of(publisher)->open = false;
    self_of(publisher)->waiting_count = 0;
    self_of(publisher)->polled = 0;
}

static void publisher_free(struct publisher *publisher) {
    (void)close(self_of(publisher)->readable_fd);
    mem_free(self_of(publisher));
}

struct publisher *publisher_mem_new(size_t in_flight_max) {
    static const struct publisher_ops ops = {
        .open = publisher_open,
        .read_tails = publisher_read_tails,
        .publish = publisher_publish,
        .poll = publisher_poll,
        .reachable = publisher_reachable,
        .descriptor = publisher_descriptor,
        .close = publisher_close,
        .free = publisher_free,
    };
    struct publisher_mem *self = mem_zalloc(sizeof(*self));

    assert(in_flight_max <= RECORDS_MAX);
    self->base.ops = &ops;
    self->in_flight_max = in_flight_max;
    self->allowed = SIZE_MAX;
    self->readable_fd = eventfd(1, EFD_CLOEXEC);
    return &self->base;
}

void publisher_mem_acknowledge(struct publisher *publisher, size_t count) {
    self_of(publisher)->allowed = count;
}

void publisher_mem_delay(struct publisher *publisher, unsigned polls) {
    self_of(publisher)->delay = polls;
}

void publisher_mem_fail_next(struct publisher *publisher, bool keep) {
    self_of(publisher)->fail = true;
    self_of(publisher)->keep = keep;
}

void publisher_mem_disturb(struct publisher *publisher, uint64_t seed, int times) {
    self_of(publisher)->disturbed = true;
    self_of(publisher)->random_state = seed;
    self_of(publisher)->disturbances = times;
}

void publisher_mem_preset(struct publisher *publisher, const struct published *record) {
    struct publisher_mem *self = self_of(publisher);

    assert(self->topic_count < RECORDS_MAX);
    self->topic[self->topic_count++] = *record;
}

size_t publisher_mem_topic(const struct publisher *publisher, const struct published **records) {
    const struct publisher_mem *self = (const struct publisher_mem *)(const void *)publisher;

    *records = self->topic;
    return self->topic_count;
}

void publisher_mem_refuse(struct publisher *publisher, size_t payload_bytes) {
    self_of(publisher)->refused_bytes = payload_bytes;
}
