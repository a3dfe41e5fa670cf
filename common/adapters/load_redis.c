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
    NOTHING = 0, /* no place in `kept`: it begins with a byte that is none's */
};

/* Before each element in `kept`. */
struct element {
    size_t older; /* place of the one before it; NOTHING: it is the first */
    size_t len;
};

struct list {
    uint64_t hash;
    size_t id, id_len; /* place in `kept`; id NOTHING: an empty slot */
    size_t newest;
    size_t count;
};

struct load_redis {
    struct model_load base;
    struct redis_link link;
    const struct model_table *table;
    int64_t model;
    size_t kept_bytes;
    int32_t partition;
    struct buf kept;
    struct list *lists; /* open addressing */
    size_t slot_count, list_count;
};

static struct load_redis *load_of(struct model_load *load) {
    return (struct load_redis *)(void *)load;
}

/* --- keeping --- */

static struct str id_of(const struct load_redis *self, const struct list *list) {
    return str_of(self->kept.ptr + list->id, list->id_len);
}

static struct list *probe(const struct load_redis *self, uint64_t hash, struct str id) {
    size_t at = hash & (self->slot_count - 1);

    for (;;) {
        struct list *list = &self->lists[at];
        if (list->id == NOTHING || (list->hash == hash && str_eq(id_of(self, list), id))) {
            return list;
        }
        at = (at + 1) & (self->slot_count - 1);
    }
}

static void grow(struct load_redis *self) {
    struct list *old = self->lists;
    const size_t old_count = self->slot_count;

    self->slot_count = old_count > 0 ? 2 * old_count : SLOTS_FIRST;
    self->lists = mem_array(self->slot_count, sizeof(self->lists[0]));
    for (size_t i = 0; i < old_count; i++) {
        if (old[i].id != NOTHING) {
            *probe(self, old[i].hash, id_of(self, &old[i])) = old[i];
        }
    }
    mem_free(old);
}

static void forget(struct load_redis *self) {
    buf_clear(&self->kept);
    buf_put_char(&self->kept, '\0'); /* so that no place is NOTHING */
    if (self->list_count > 0) {
        memset(self->lists, 0, self->slot_count * sizeof(self->lists[0]));
    }
    self->list_count = 0;
}

static void keep(struct load_redis *self, const struct row *row) {
    const struct str id = row->cells[0].text;
    const uint64_t hash = hash_words(HASH_FNV1A_START, id);
    struct element element = {0};

    if (4 * (self->list_count + 1) > 3 * self->slot_count) {
        grow(self);
    }
    struct list *list = probe(self, hash, id);
    if (list->id == NOTHING) {
        *list = (struct list){.hash = hash, .id = self->kept.len, .id_len = id.len};
        buf_put_str(&self->kept, id);
        self->list_count++;
    }
    const size_t place = self->kept.len;
    element.older = list->newest;
    buf_put(&self->kept, &element, sizeof(element));
    const size_t begin = self->kept.len;
    redis_model_put_element(&self->kept, row);
    if (buf_failed(&self->kept)) {
        return;
    }
    element.len = self->kept.len - begin;
    memcpy(self->kept.ptr + place, &element, sizeof(element));
    list->newest = place;
    list->count++;
}

/* --- sending --- */

static struct element element_at(const struct load_redis *self, size_t place) {
    struct element element;

    memcpy(&element, self->kept.ptr + place, sizeof(element));
    return element;
}

static size_t newest_count(const struct load_redis *self, const struct list *list) {
    const size_t longest = (size_t)self->table->redis_list_max;

    return list->count < longest ? list->count : longest;
}

/* The newest elements of a list, the oldest of them first, so that the newest comes to stand first.
 */
static void put_list(struct load_redis *self, const struct list *list) {
    const size_t count = newest_count(self, list);
    size_t places[LONGEST_LIST];
    size_t place = list->newest;

    assert(count <= LONGEST_LIST);
    for (size_t i = count; i > 0; i--) {
        places[i - 1] = place;
        place = element_at(self, place).older;
    }
    redis_link_begin(&self->link);
    redis_link_put(&self->link, STR("LPUSH"));
    redis_model_put_key(&self->link.bytes, self->partition, self->table, self->model,
                        id_of(self, list));
    redis_link_end(&self->link);
    for (size_t i = 0; i < count; i++) {
        redis_link_put(&self->link, str_of(self->kept.ptr + places[i] + sizeof(struct element),
                                           element_at(self, places[i]).len));
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

    if (buf_failed(&self->kept)) {
        return err_set(err, ERR_LIMIT, "redis: more than %d bytes of lists", KEPT_BYTES_CAP);
    }
    for (size_t i = 0; code == ERR_OK && i < self->slot_count; i++) {
        if (self->lists[i].id == NOTHING) {
            continue;
        }
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
            if (self->kept.len > self->kept_bytes) {
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
    mem_free(self->lists);
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
    redis_link_init(&self->link, &options);
    forget(self);
    return &self->base;
}
