#include "projector/streams.h"

#include "common/base/hash.h"
#include "common/base/mem.h"

enum { SLOTS_FIRST = 1024, BLOCK_BYTES = 64 * 1024, ID_BYTES_MAX = 160 };

struct stream_slot {
    struct str id; /* ptr NULL: empty */
    uint64_t hash;
    int64_t number;
};

void streams_init(struct streams *streams, size_t max) {
    *streams = (struct streams){.max = max};
    arena_init(&streams->ids, BLOCK_BYTES, (max + 1) * ID_BYTES_MAX);
}

void streams_release(struct streams *streams) {
    mem_free(streams->slots);
    arena_release(&streams->ids);
}

void streams_clear(struct streams *streams) {
    if (streams->count > 0) {
        memset(streams->slots, 0, streams->slot_count * sizeof(streams->slots[0]));
        arena_clear(&streams->ids);
        streams->count = 0;
    }
}

bool streams_full(const struct streams *streams, size_t more) {
    return streams->count + more > streams->max;
}

/* The stream's slot, or the empty one where it belongs. */
static struct stream_slot *probe(const struct streams *streams, struct str id, uint64_t hash) {
    size_t at = hash & (streams->slot_count - 1);

    for (;;) {
        struct stream_slot *slot = &streams->slots[at];
        if (slot->id.ptr == NULL || (slot->hash == hash && str_eq(slot->id, id))) {
            return slot;
        }
        at = (at + 1) & (streams->slot_count - 1);
    }
}

static void grow(struct streams *streams) {
    struct stream_slot *old = streams->slots;
    const size_t old_count = streams->slot_count;

    streams->slot_count = old_count > 0 ? 2 * old_count : SLOTS_FIRST;
    streams->slots = mem_array(streams->slot_count, sizeof(streams->slots[0]));
    for (size_t i = 0; i < old_count; i++) {
        if (old[i].id.ptr != NULL) {
            *probe(streams, old[i].id, old[i].hash) = old[i];
        }
    }
    mem_free(old);
}

int64_t *streams_find(const struct streams *streams, struct str id) {
    if (streams->count == 0) {
        return NULL;
    }
    struct stream_slot *slot = probe(streams, id, hash_words(HASH_FNV1A_START, id));
    return slot->id.ptr != NULL ? &slot->number : NULL;
}

struct str streams_id(const struct streams *streams, struct str id) {
    return streams->count > 0 ? probe(streams, id, hash_words(HASH_FNV1A_START, id))->id
                              : (struct str){0};
}

int64_t *streams_add(struct streams *streams, struct str id, int64_t number) {
    const uint64_t hash = hash_words(HASH_FNV1A_START, id);

    if (4 * (streams->count + 1) > 3 * streams->slot_count) {
        grow(streams);
    }
    struct stream_slot *slot = probe(streams, id, hash);
    if (slot->id.ptr == NULL) {
        const struct str copy = arena_str(&streams->ids, id);
        if (streams->count == streams->max || copy.ptr == NULL) {
            return NULL;
        }
        *slot = (struct stream_slot){copy, hash, number};
        streams->count++;
    }
    return &slot->number;
}

void streams_each(const struct streams *streams, streams_fn *fn, void *arg) {
    for (size_t i = 0; i < streams->slot_count; i++) {
        if (streams->slots[i].id.ptr != NULL) {
            fn(arg, streams->slots[i].id, streams->slots[i].number);
        }
    }
}
