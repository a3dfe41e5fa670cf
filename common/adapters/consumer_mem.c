#include "common/adapters/consumer_mem.h"

#include <assert.h>

#include "common/base/mem.h"

enum { RECORDS_MAX = 1024 };

struct memory_partition {
    struct recorded_event records[RECORDS_MAX];
    int64_t count;
    int64_t next;
};

struct consumer_mem {
    struct event_consumer base;
    struct memory_partition *partitions;
    int32_t partition_count;
    consumer_assigned_fn *assigned;
    consumer_revoked_fn *revoked;
    void *arg;
    bool open;
    bool joined;
};

static struct consumer_mem *self_of(struct event_consumer *consumer) {
    return (struct consumer_mem *)(void *)consumer;
}

static enum err_code consumer_open(struct event_consumer *consumer, consumer_assigned_fn *assigned,
                                   consumer_revoked_fn *revoked, void *arg, struct err *err) {
    struct consumer_mem *self = self_of(consumer);

    (void)err;
    self->assigned = assigned;
    self->revoked = revoked;
    self->arg = arg;
    self->open = true;
    return ERR_OK;
}

static enum err_code consumer_poll(struct event_consumer *consumer, int64_t wait_ms,
                                   struct consumed_record *out, struct err *err) {
    struct consumer_mem *self = self_of(consumer);

    (void)wait_ms;
    (void)err;
    assert(self->open);
    for (int32_t p = 0; p < self->partition_count && !self->joined; p++) {
        self->partitions[p].next = self->assigned(self->arg, p);
    }
    self->joined = true;
    for (int32_t p = 0; p < self->partition_count; p++) {
        struct memory_partition *partition = &self->partitions[p];
        if (partition->next < partition->count) {
            *out = (struct consumed_record){
                .partition = p,
                .offset = partition->next,
                .event = partition->records[partition->next],
            };
            partition->next++;
            return ERR_OK;
        }
    }
    return ERR_TIMEOUT;
}

static void consumer_release(struct event_consumer *consumer, struct consumed_record *record) {
    (void)consumer;
    (void)record;
}

static bool consumer_joined(const struct event_consumer *consumer) {
    return ((const struct consumer_mem *)(const void *)consumer)->joined;
}

static enum err_code consumer_reposition(struct event_consumer *consumer, int32_t partition,
                                         int64_t offset, struct err *err) {
    (void)err;
    self_of(consumer)->partitions[partition].next = offset;
    return ERR_OK;
}

static void consumer_commit_hint(struct event_consumer *consumer, int32_t partition, int64_t next) {
    (void)consumer;
    (void)partition;
    (void)next;
}

static int64_t consumer_end_offset(struct event_consumer *consumer, int32_t partition) {
    return self_of(consumer)->partitions[partition].count;
}

static void consumer_close(struct event_consumer *consumer) {
    struct consumer_mem *self = self_of(consumer);

    for (int32_t p = 0; p < self->partition_count && self->joined; p++) {
        self->revoked(self->arg, p);
    }
    self->joined = false;
    self->open = false;
}

static void consumer_free(struct event_consumer *consumer) {
    consumer_close(consumer);
    mem_free(self_of(consumer)->partitions);
    mem_free(self_of(consumer));
}

struct event_consumer *consumer_mem_new(int32_t partitions) {
    static const struct event_consumer_ops ops = {
        .open = consumer_open,
        .poll = consumer_poll,
        .release = consumer_release,
        .joined = consumer_joined,
        .reposition = consumer_reposition,
        .commit_hint = consumer_commit_hint,
        .end_offset = consumer_end_offset,
        .close = consumer_close,
        .free = consumer_free,
    };
    struct consumer_mem *self = mem_zalloc(sizeof(*self));

    assert(partitions > 0 && partitions <= CONSUMER_PARTITIONS_MAX);
    self->base.ops = &ops;
    self->partition_count = partitions;
    self->partitions = mem_array((size_t)partitions, sizeof(self->partitions[0]));
    return &self->base;
}

void consumer_mem_add(struct event_consumer *consumer, int32_t partition,
                      const struct recorded_event *event) {
    struct memory_partition *p = &self_of(consumer)->partitions[partition];

    assert(p->count < RECORDS_MAX);
    p->records[p->count++] = *event;
}
