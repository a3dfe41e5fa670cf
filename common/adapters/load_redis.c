#include "common/adapters/load_redis.h"

#include <assert.h>
#include <string.h>

#include "common/adapters/redis_model.h"
#include "common/base/hash.h"
#include "common/base/mem.h"

enum {
    KEPT_BYTES = 32 * 1024 * 1024, /* then all is sent, and the lists are cut as they grow */
    KEPT_BYTES_CAP = 64 * 1024 * 1024,
    LISTS_AT_ONCE = 128,
    ELEMENTS_AT_ONCE = 4000,
    LONGEST_LIST = 1024,
    SLOTS_FIRST = 1024,
    ELEMENTS_FIRST = 16384,
    NONE = 0, /* indexes are one more than their place */
};

struct element {
    size_t place; /* in `kept` */
    uint32_t len;
    uint32_t older; /* index of the one before it; NONE: it is the first */
};

struct list {
    size_t id, id_len; /* place in `ids` */
    uint32_t newest;   /* index of an element */
    uint32_t count;
};

/* Few bytes each, since every row looks for one. */
struct slot {
    uint32_t hash;
    uint32_t list; /* index; NONE: empty */
};

struct load_redis {
    struct model_load base;
    struct redis_link link;
    const struct model_table *table;
    int64_t model;
    size_t kept_bytes;
    int32_t partition;
    struct buf kept; /* elements, as they come */
    struct element *elements;
    size_t element_count, elements_cap;
    struct buf ids;
    struct list *lists;
    size_t list_count;
    struct slot *slots; /* open addressing; lists has room for as many */
    size_t slot_count;
};

static struct load_redis *load_of(struct model_load *load) {
    return (struct load_redis *)(void *)load;
}

/* --- keeping --- */

static struct str id_of(const struct load_redis *self, const struct list *list) {
    return str_of(self->ids.ptr + list->id, list->id_len);
}

static uint32_t hash_id(struct str id) {
    const uint64_t hash = hash_words(HASH_FNV1A_START, id);

    return (uint32_t)(hash ^ (hash >> 32));
}

static struct slot *probe(const struct load_redis *self, uint32_t hash, struct str id) {
    size_t at = hash & (self->slot_count - 1);

    for (;;) {
        struct slot *slot = &self->slots[at];
        if (slot->list == NONE ||
            (slot->hash == hash && str_eq(id_of(self, &self->lists[slot->list - 1]), id))) {
            return slot;
        }
        at = (at + 1) & (self->slot_count - 1);
    }
}

static void grow(struct load_redis *self) {
    self->slot_count = self->slot_count > 0 ? 2 * self->slot_count : SLOTS_FIRST;
    mem_free(self->slots);
    self->slots = mem_array(self->slot_count, sizeof(self->slots[0]));
    self->lists = mem_resize(self->lists, self->slot_count, sizeof(self->lists[0]));
    for (size_t i = 0; i < self->list_count; i++) {
        const struct str id = id_of(self, &self->lists[i]);
        const uint32_t hash = hash_id(id);
        *probe(self, hash, id) = (struct slot){hash, (uint32_t)i + 1};
    }
}

static void forget(struct load_redis *self) {
    buf_clear(&self->kept);
    buf_clear(&self->ids);
    if (self->list_count > 0) {
        memset(self->slots, 0, self->slot_count * sizeof(self->slots[0]));
    }
    self->list_count = 0;
    self->element_count = 0;
}

static struct list *list_of(struct load_redis *self, struct str id) {
    const uint32_t hash = hash_id(id);

    if (4 * (self->list_count + 1) > 3 * self->slot_count) {
        grow(self);
    }
    struct slot *slot = probe(self, hash, id);
    if (slot->list == NONE) {
        self->lists[self->list_count++] = (struct list){.id = self->ids.len, .id_len = id.len};
        *slot = (struct slot){hash, (uint32_t)self->list_count};
        buf_put_str(&self->ids, id);
    }
    return &self->lists[slot->list - 1];
}

static void keep(struct load_redis *self, const struct row *row) {
    struct list *list = list_of(self, row->cells[0].text);
    const size_t place = self->kept.len;

    redis_model_put_element(&self->kept, row);
    if (buf_failed(&self->kept)) {
        return;
    }
    if (self->element_count == self->elements_cap) {
        self->elements_cap = self->elements_cap > 0 ? 2 * self->elements_cap : ELEMENTS_FIRST;
        self->elements = mem_resize(self->elements, self->elements_cap, sizeof(self->elements[0]));
    }
    self->elements[self->element_count++] =
        (struct element){place, (uint32_t)(self->kept.len - place), list->newest};
    list->newest = (uint32_t)self->element_count;
    list->count++;
}

/* --- sending --- */

static size_t newest_count(const struct load_redis *self, const struct list *list) {
    const size_t longest = (size_t)self->table->redis_list_max;

    return list->count < longest ? list->count : longest;
}

/* The newest elements of a list, the oldest of them first, so that the newest comes to stand first.
 */
static void put_list(struct load_redis *self, const struct list *list) {
    const size_t count = newest_count(self, list);
    uint32_t newest[LONGEST_LIST];
    uint32_t index = list->newest;

    assert(count <= LONGEST_LIST);
    for (size_t i = count; i > 0; i--) {
        newest[i - 1] = index;
        index = self->elements[index - 1].older;
    }
    redis_link_begin(&self->link);
    redis_link_put(&self->link, STR("LPUSH"));
    redis_model_put_key(&self->link.bytes, self->partition, self->table, self->model,
                        id_of(self, list));
    redis_link_end(&self->link);
    for (size_t i = 0; i < count; i++) {
        const struct element *element = &self->elements[newest[i] - 1];
        redis_link_put(&self->link, str_of(self->kept.ptr + element->place, element->len));
    }
}

/* A list that was sent before is longer than it may be now. */
static enum err_code cut(struct load_redis *self, const struct list *list, struct err *err) {
    redisReply *reply = NULL;

    redis_link_begin(&self->link);
    redis_link_put(&self->link, STR("LTRIM"));
    redis_model_put_key(&self->link.bytes, self->partition, self->table, self->model,
                        id_of(self, list));
    redis_link_end(&self->link);
    redis_link_put(&self->link, STR("0"));
    redis_link_put_number(&self->link, self->table->redis_list_max - 1);
    const enum err_code code = redis_link_call(&self->link, &reply, err);
    freeReplyObject(reply);
    return code;
}

static enum err_code send(struct load_redis *self, const struct list *const *lists, size_t count,
                          struct err *err) {
    bool long_ones[LISTS_AT_ONCE] = {false};
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        put_list(self, lists[i]);
        code = redis_link_send(&self->link, err);
    }
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        redisReply *reply = NULL;
        code = redis_link_reply(&self->link, &reply, err);
        long_ones[i] = code == ERR_OK && reply->integer > self->table->redis_list_max;
        freeReplyObject(reply);
    }
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        code = long_ones[i] ? cut(self, lists[i], err) : ERR_OK;
    }
    return code;
}

static enum err_code send_all(struct load_redis *self, struct err *err) {
    const struct list *lists[LISTS_AT_ONCE];
    enum err_code code = redis_link_ensure(&self->link, err);
    size_t count = 0;
    size_t elements = 0;

    if (buf_failed(&self->kept) || buf_failed(&self->ids)) {
        return err_set(err, ERR_LIMIT, "redis: more than %d bytes of lists", KEPT_BYTES_CAP);
    }
    for (size_t i = 0; code == ERR_OK && i < self->list_count; i++) {
        lists[count++] = &self->lists[i];
        elements += newest_count(self, &self->lists[i]);
        if (count == LISTS_AT_ONCE || elements > ELEMENTS_AT_ONCE) {
            code = send(self, lists, count, err);
            count = 0;
            elements = 0;
        }
    }
    if (code == ERR_OK && count > 0) {
        code = send(self, lists, count, err);
    }
    forget(self);
    return code;
}

/* --- as a load --- */

static enum err_code load_rows(struct model_load *load, int32_t partition, const struct row *rows,
                               size_t count, struct err *err) {
    struct load_redis *self = load_of(load);
    enum err_code code = ERR_OK;

    if (partition != self->partition) {
        code = self->list_count > 0 ? send_all(self, err) : ERR_OK;
        self->partition = partition;
    }
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        if (rows[i].table == self->table) {
            keep(self, &rows[i]);
            if (self->kept.len + self->ids.len > self->kept_bytes) {
                code = send_all(self, err);
            }
        }
    }
    return code;
}

static enum err_code load_end(struct model_load *load, struct err *err) {
    struct load_redis *self = load_of(load);

    return self->list_count > 0 ? send_all(self, err) : ERR_OK;
}

static void load_free(struct model_load *load) {
    struct load_redis *self = load_of(load);

    redis_link_release(&self->link);
    buf_release(&self->kept);
    buf_release(&self->ids);
    mem_free(self->elements);
    mem_free(self->lists);
    mem_free(self->slots);
    mem_free(self);
}

struct model_load *load_redis_new(const struct redis_link_options *link,
                                  const struct model_table *table, int64_t model,
                                  size_t kept_bytes) {
    static const struct model_load_ops ops = {load_rows, load_end, load_free};
    struct load_redis *self = mem_zalloc(sizeof(*self));
    struct redis_link_options options = *link;

    assert(table->redis_list_max > 0 && table->append_only);
    options.scripts = NULL;
    options.script_count = 0;
    self->base.ops = &ops;
    self->table = table;
    self->model = model;
    self->kept_bytes = kept_bytes > 0 ? kept_bytes : KEPT_BYTES;
    buf_init(&self->kept, KEPT_BYTES_CAP);
    buf_init(&self->ids, KEPT_BYTES_CAP);
    redis_link_init(&self->link, &options);
    forget(self);
    return &self->base;
}
