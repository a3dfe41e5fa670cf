#include "projector/streams.h"

#include <assert.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/mem.h"

enum { SLOTS_FIRST = 1024, BLOCK_BYTES = 64 * 1024, ID_BYTES_MAX = 160 };

/* Few bytes each, since every record of a log looks for one. */
struct stream_slot {
    uint32_t hash;
    uint32_t place; /* among the entries, + 1; 0: empty */
};

struct stream_entry {
    struct str id;
    int64_t number;
};

void streams_init(struct streams *streams, size_t max) {
    assert(max < UINT32_MAX);
    *streams = (struct streams){.max = max};
    arena_init(&streams->ids, BLOCK_BYTES, (max + 1) * ID_BYTES_MAX);
}

void streams_release(struct streams *streams) {
    mem_free(streams->slots);
    mem_free(streams->entries);
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

static uint32_t hash_id(struct str id) {
    const uint64_t hash = hash_words(HASH_FNV1A_START, id);

    return (uint32_t)(hash ^ (hash >> 32));
}

/* The stream's slot, or the empty one where it belongs. */
static struct stream_slot *probe(const struct streams *streams, struct str id, uint32_t hash) {
    size_t at = hash & (streams->slot_count - 1);

    for (;;) {
        struct stream_slot *slot = &streams->slots[at];
        if (slot->place == 0 ||
            (slot->hash == hash && str_eq(streams->entries[slot->place - 1].id, id))) {
            return slot;
        }
        at = (at + 1) & (streams->slot_count - 1);
    }
}

/* All have different ids, so that no text is compared. */
static void grow(struct streams *streams) {
    streams->slot_count = streams->slot_count > 0 ? 2 * streams->slot_count : SLOTS_FIRST;
    mem_free(streams->slots);
    streams->slots = mem_array(streams->slot_count, sizeof(streams->slots[0]));
    streams->entries =
        mem_resize(streams->entries, streams->slot_count, sizeof(streams->entries[0]));
    for (size_t i = 0; i < streams->count; i++) {
        const uint32_t hash = hash_id(streams->entries[i].id);
        size_t at = hash & (streams->slot_count - 1);
        while (streams->slots[at].place != 0) {
            at = (at + 1) & (streams->slot_count - 1);
        }
        streams->slots[at] = (struct stream_slot){hash, (uint32_t)i + 1};
    }
}

static struct stream_entry *find(const struct streams *streams, struct str id) {
    if (streams->count == 0) {
        return NULL;
    }
    const uint32_t place = probe(streams, id, hash_id(id))->place;
    return place > 0 ? &streams->entries[place - 1] : NULL;
}

int64_t *streams_find(const struct streams *streams, struct str id) {
    struct stream_entry *entry = find(streams, id);

    return entry != NULL ? &entry->number : NULL;
}

struct str streams_id(const struct streams *streams, struct str id) {
    const struct stream_entry *entry = find(streams, id);

    return entry != NULL ? entry->id : (struct str){0};
}

int64_t *streams_add(struct streams *streams, struct str id, int64_t number) {
    const uint32_t hash = hash_id(id);

    if (4 * (streams->count + 1) > 3 * streams->slot_count) {
        grow(streams);
    }
    struct stream_slot *slot = probe(streams, id, hash);
    if (slot->place == 0) {
        if (streams->count == streams->max) {
            return NULL;
        }
        const struct str copy = arena_str(&streams->ids, id);
        if (copy.ptr == NULL) {
            return NULL;
        }
        streams->entries[streams->count++] = (struct stream_entry){copy, number};
        *slot = (struct stream_slot){hash, (uint32_t)streams->count};
    }
    return &streams->entries[slot->place - 1].number;
}

size_t streams_place(const struct streams *streams, const int64_t *number) {
    const size_t bytes = (size_t)((const char *)number - (const char *)&streams->entries[0].number);

    return bytes / sizeof(streams->entries[0]);
}

void streams_each(const struct streams *streams, streams_fn *fn, void *arg) {
    for (size_t i = 0; i < streams->count; i++) {
        fn(arg, streams->entries[i].id, streams->entries[i].number);
    }
}
