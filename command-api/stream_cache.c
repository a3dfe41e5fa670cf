#include "command-api/stream_cache.h"

#include <string.h>

#include "common/base/hash.h"
#include "common/base/mem.h"

struct stream_cache {
    struct stream_entry **buckets;
    size_t bucket_count; /* a power of two */
    size_t entries_max;
    size_t count;
    struct stream_entry *newest, *oldest;
};

struct stream_cache *stream_cache_new(size_t entries_max) {
    struct stream_cache *cache = mem_zalloc(sizeof(*cache));

    cache->entries_max = entries_max;
    cache->bucket_count = 1024;
    while (cache->bucket_count < entries_max) {
        cache->bucket_count *= 2;
    }
    cache->buckets = mem_array(cache->bucket_count, sizeof(cache->buckets[0]));
    return cache;
}

void stream_cache_free(struct stream_cache *cache) {
    if (cache == NULL) {
        return;
    }
    while (cache->newest != NULL) {
        struct stream_entry *older = cache->newest->older;
        mem_free(cache->newest);
        cache->newest = older;
    }
    mem_free(cache->buckets);
    mem_free(cache);
}

static struct stream_entry **bucket_of(struct stream_cache *cache, uint64_t hash) {
    return &cache->buckets[hash & (cache->bucket_count - 1)];
}

static void unlink_age(struct stream_cache *cache, struct stream_entry *entry) {
    *(entry->newer != NULL ? &entry->newer->older : &cache->newest) = entry->older;
    *(entry->older != NULL ? &entry->older->newer : &cache->oldest) = entry->newer;
}

static void link_newest(struct stream_cache *cache, struct stream_entry *entry) {
    entry->newer = NULL;
    entry->older = cache->newest;
    *(cache->newest != NULL ? &cache->newest->newer : &cache->oldest) = entry;
    cache->newest = entry;
}

static void evict_one(struct stream_cache *cache) {
    struct stream_entry *victim = cache->oldest;

    while (victim != NULL && victim->batch != NULL) {
        victim = victim->newer;
    }
    if (victim == NULL) {
        return; /* all are in use: the cache is larger than all batches, so this can't last */
    }
    struct stream_entry **link = bucket_of(cache, victim->hash);
    while (*link != victim) {
        link = &(*link)->next_in_bucket;
    }
    *link = victim->next_in_bucket;
    unlink_age(cache, victim);
    mem_free(victim);
    cache->count--;
}

struct stream_entry *stream_cache_get(struct stream_cache *cache, const struct aggregate *aggregate,
                                      const char *stream_id, bool *hit) {
    const uint64_t hash =
        hash_fnv1a(hash_fnv1a(HASH_FNV1A_START, str_from(aggregate->name)), str_from(stream_id));
    struct stream_entry **bucket = bucket_of(cache, hash);
    struct stream_entry *entry = *bucket;

    while (entry != NULL && (entry->hash != hash || entry->aggregate != aggregate ||
                             strcmp(entry->stream_id, stream_id) != 0)) {
        entry = entry->next_in_bucket;
    }
    *hit = entry != NULL && entry->loaded;
    if (entry != NULL) {
        unlink_age(cache, entry);
        link_newest(cache, entry);
        return entry;
    }
    if (cache->count >= cache->entries_max) {
        evict_one(cache);
    }
    entry = mem_zalloc(sizeof(*entry));
    entry->aggregate = aggregate;
    entry->hash = hash;
    memcpy(entry->stream_id, stream_id, strlen(stream_id) + 1);
    stream_entry_forget(entry);
    bucket = bucket_of(cache, hash);
    entry->next_in_bucket = *bucket;
    *bucket = entry;
    link_newest(cache, entry);
    cache->count++;
    return entry;
}

void stream_entry_forget(struct stream_entry *entry) {
    entry->loaded = false;
    entry->snapshot_due = false;
    entry->snapshot_version = 0;
    memset(&entry->committed, 0, sizeof(entry->committed));
    entry->aggregate->initial(entry->committed.data.bytes);
}

size_t stream_cache_count(const struct stream_cache *cache) {
    return cache->count;
}
