#include "common/adapters/change_feed_mem.h"

#include <assert.h>
#include <string.h>

#include "common/base/mem.h"

enum { CHANGES_MAX = 4096, LSN_STEP = 10 };

struct feed_mem {
    struct change_feed base;
    struct change changes[CHANGES_MAX];
    size_t count;
    uint64_t last_lsn;
    uint64_t confirmed;
    size_t at;       /* next change */
    bool commit_due; /* its transaction's commit comes next */
    bool open;
    bool broken;
};

static struct feed_mem *self_of(struct change_feed *feed) {
    return (struct feed_mem *)(void *)feed;
}

static enum err_code feed_open(struct change_feed *feed, struct err *err) {
    struct feed_mem *self = self_of(feed);

    (void)err;
    self->at = 0;
    while (self->at < self->count && self->changes[self->at].commit_lsn <= self->confirmed) {
        self->at++;
    }
    self->commit_due = false;
    self->open = true;
    return ERR_OK;
}

static enum err_code feed_next(struct change_feed *feed, struct feed_item *item, struct err *err) {
    struct feed_mem *self = self_of(feed);

    item->kind = FEED_NOTHING;
    if (self->broken || !self->open) {
        self->broken = false;
        self->open = false;
        return err_set(err, ERR_UNAVAILABLE, "injected");
    }
    if (self->commit_due) {
        item->kind = FEED_COMMIT;
        item->position = self->changes[self->at - 1].commit_lsn;
        item->committed_at_us = self->changes[self->at - 1].committed_at_us;
        self->commit_due = false;
    } else if (self->at < self->count) {
        item->kind = FEED_CHANGE;
        item->change = self->changes[self->at++];
        self->commit_due = self->at == self->count ||
                           self->changes[self->at].commit_lsn != item->change.commit_lsn;
    }
    return ERR_OK;
}

static enum err_code feed_confirm(struct change_feed *feed, uint64_t position, struct err *err) {
    struct feed_mem *self = self_of(feed);

    (void)err;
    assert(position <= self->last_lsn);
    self->confirmed = position > self->confirmed ? position : self->confirmed;
    return ERR_OK;
}

static int feed_descriptor(const struct change_feed *feed) {
    (void)feed;
    return -1;
}

static int64_t feed_lag_bytes(const struct change_feed *feed) {
    const struct feed_mem *self = (const struct feed_mem *)(const void *)feed;

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
        .next = feed_next,
        .confirm = feed_confirm,
        .descriptor = feed_descriptor,
        .lag_bytes = feed_lag_bytes,
        .close = feed_close,
        .free = feed_free,
    };
    struct feed_mem *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    return &self->base;
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
                      .payload = STR("{}")},
            .commit_lsn = self->last_lsn,
            .seq = (uint32_t)i,
        };
    }
}

uint64_t change_feed_mem_confirmed(const struct change_feed *feed) {
    return ((const struct feed_mem *)(const void *)feed)->confirmed;
}

void change_feed_mem_break(struct change_feed *feed) {
    self_of(feed)->broken = true;
}
