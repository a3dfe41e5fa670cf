#include "common/adapters/reader_mem.h"

#include <assert.h>

#include "common/base/mem.h"

enum { RECORDS_MAX = 1024 };

struct memory_partition {
    struct recorded_event records[RECORDS_MAX];
    int64_t count;
    int64_t next; /* -1: not started */
};

struct reader_mem {
    struct event_reader base;
    struct memory_partition *partitions;
    int32_t partition_count;
};

static struct reader_mem *self_of(struct event_reader *reader) {
    return (struct reader_mem *)(void *)reader;
}

static enum err_code reader_open(struct event_reader *reader, struct err *err) {
    (void)reader;
    (void)err;
    return ERR_OK;
}

static enum err_code reader_start(struct event_reader *reader, int32_t partition, int64_t offset,
                                  struct err *err) {
    struct memory_partition *p = &self_of(reader)->partitions[partition];

    if (offset < 0 || offset > p->count) {
        return err_set(err, ERR_UNAVAILABLE, "memory: offset out of range");
    }
    p->next = offset;
    return ERR_OK;
}

static void reader_stop(struct event_reader *reader, int32_t partition) {
    self_of(reader)->partitions[partition].next = -1;
}

static enum err_code reader_poll(struct event_reader *reader, int64_t wait_ms,
                                 struct consumed_record *out, size_t max, size_t *count,
                                 struct err *err) {
    struct reader_mem *self = self_of(reader);

    (void)wait_ms;
    (void)err;
    *count = 0;
    for (int32_t i = 0; i < self->partition_count; i++) {
        struct memory_partition *p = &self->partitions[i];
        while (p->next >= 0 && p->next < p->count && *count < max) {
            out[(*count)++] = (struct consumed_record){
                .partition = i, .offset = p->next, .event = p->records[p->next]};
            p->next++;
        }
    }
    return ERR_OK;
}

static void reader_release(struct event_reader *reader, struct consumed_record *records,
                           size_t count) {
    (void)reader;
    (void)records;
    (void)count;
}

static int64_t reader_end_offset(struct event_reader *reader, int32_t partition) {
    return self_of(reader)->partitions[partition].count;
}

static enum err_code reader_bounds(struct event_reader *reader, int32_t partition, int64_t *first,
                                   int64_t *end, struct err *err) {
    (void)err;
    *first = 0;
    *end = self_of(reader)->partitions[partition].count;
    return ERR_OK;
}

static void reader_close(struct event_reader *reader) {
    for (int32_t p = 0; p < self_of(reader)->partition_count; p++) {
        reader_stop(reader, p);
    }
}

static void reader_free(struct event_reader *reader) {
    mem_free(self_of(reader)->partitions);
    mem_free(self_of(reader));
}

struct event_reader *reader_mem_new(int32_t partitions) {
    static const struct event_reader_ops ops = {
        .open = reader_open,
        .start = reader_start,
        .stop = reader_stop,
        .poll = reader_poll,
        .release = reader_release,
        .end_offset = reader_end_offset,
        .bounds = reader_bounds,
        .close = reader_close,
        .free = reader_free,
    };
    struct reader_mem *self = mem_zalloc(sizeof(*self));

    assert(partitions > 0 && partitions <= TOPIC_PARTITIONS_MAX);
    self->base.ops = &ops;
    self->partition_count = partitions;
    self->partitions = mem_array((size_t)partitions, sizeof(self->partitions[0]));
    reader_close(&self->base);
    return &self->base;
}

void reader_mem_add(struct event_reader *reader, int32_t partition,
                    const struct recorded_event *event) {
    struct memory_partition *p = &self_of(reader)->partitions[partition];

    assert(p->count < RECORDS_MAX);
    p->records[p->count++] = *event;
}
