#include "common/adapters/load_redis.h"

#include <assert.h>
#include <poll.h>
#include <string.h>

#include "common/adapters/redis_model.h"
#include "common/base/hash.h"
#include "common/base/mem.h"

enum {
    KEPT_BYTES = 32 * 1024 * 1024, /* by half: then they leave, and are cut as they grow */
    KEPT_BYTES_CAP = 64 * 1024 * 1024,
    LISTS_AT_ONCE = 128,
    ELEMENTS_AT_ONCE = 1000, /* with the next of them a socket's buffers aren't full */
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

/* Lists of one partition. */
struct lists {
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

/*
 * While rows are gathered in one half, what the other holds goes to the server, a piece with each
 * call for rows and only when the piece before it is acknowledged: so neither waits for the other.
 */
struct load_redis {
    struct model_load base;
    struct redis_link link;
    const struct model_table *table;
    int64_t model;
    size_t kept_bytes;
    struct lists halves[2];
    struct lists *gathered, *leaving;
    size_t sent;                      /* of the leaving lists */
    size_t waiting, waiting_first;    /* those of them that are not acknowledged: how many, which */
    bool begun[TOPIC_PARTITIONS_MAX]; /* lists of the partition have been sent */
    bool fresh; /* the leaving ones are the first of their partition: their keys don't exist */
};

static struct load_redis *load_of(struct model_load *load) {
    return (struct load_redis *)(void *)load;
}

/* --- keeping --- */

static struct str id_of(const struct lists *lists, const struct list *list) {
    return str_of(lists->ids.ptr + list->id, list->id_len);
}

static uint32_t hash_id(struct str id) {
    const uint64_t hash = hash_words(HASH_FNV1A_START, id);

    return (uint32_t)(hash ^ (hash >> 32));
}

static struct slot *probe(const struct lists *lists, uint32_t hash, struct str id) {
    size_t at = hash & (lists->slot_count - 1);

    for (;;) {
        struct slot *slot = &lists->slots[at];
        if (slot->list == NONE ||
            (slot->hash == hash && str_eq(id_of(lists, &lists->lists[slot->list - 1]), id))) {
            return slot;
        }
        at = (at + 1) & (lists->slot_count - 1);
    }
}

static void grow(struct lists *lists) {
    lists->slot_count = lists->slot_count > 0 ? 2 * lists->slot_count : SLOTS_FIRST;
    mem_free(lists->slots);
    lists->slots = mem_array(lists->slot_count, sizeof(lists->slots[0]));
    lists->lists = mem_resize(lists->lists, lists->slot_count, sizeof(lists->lists[0]));
    for (size_t i = 0; i < lists->list_count; i++) {
        const struct str id = id_of(lists, &lists->lists[i]);
        const uint32_t hash = hash_id(id);
        *probe(lists, hash, id) = (struct slot){hash, (uint32_t)i + 1};
    }
}

static void lists_init(struct lists *lists) {
    *lists = (struct lists){0};
    buf_init(&lists->kept, KEPT_BYTES_CAP);
    buf_init(&lists->ids, KEPT_BYTES_CAP);
}

static void lists_clear(struct lists *lists) {
    buf_clear(&lists->kept);
    buf_clear(&lists->ids);
    if (lists->list_count > 0) {
        memset(lists->slots, 0, lists->slot_count * sizeof(lists->slots[0]));
    }
    lists->list_count = 0;
    lists->element_count = 0;
}

static void lists_release(struct lists *lists) {
    buf_release(&lists->kept);
    buf_release(&lists->ids);
    mem_free(lists->elements);
    mem_free(lists->lists);
    mem_free(lists->slots);
}

static struct list *list_of(struct lists *lists, struct str id) {
    const uint32_t hash = hash_id(id);

    if (4 * (lists->list_count + 1) > 3 * lists->slot_count) {
        grow(lists);
    }
    struct slot *slot = probe(lists, hash, id);
    if (slot->list == NONE) {
        lists->lists[lists->list_count++] = (struct list){.id = lists->ids.len, .id_len = id.len};
        *slot = (struct slot){hash, (uint32_t)lists->list_count};
        buf_put_str(&lists->ids, id);
    }
    return &lists->lists[slot->list - 1];
}

static void keep(struct lists *lists, const struct row *row) {
    struct list *list = list_of(lists, row->cells[0].text);
    const size_t place = lists->kept.len;

    redis_model_put_element(&lists->kept, row);
    if (buf_failed(&lists->kept)) {
        return;
    }
    if (lists->element_count == lists->elements_cap) {
        lists->elements_cap = lists->elements_cap > 0 ? 2 * lists->elements_cap : ELEMENTS_FIRST;
        lists->elements =
            mem_resize(lists->elements, lists->elements_cap, sizeof(lists->elements[0]));
    }
    lists->elements[lists->element_count++] =
        (struct element){place, (uint32_t)(lists->kept.len - place), list->newest};
    list->newest = (uint32_t)lists->element_count;
    list->count++;
}

/* --- sending --- */

static size_t newest_count(const struct load_redis *self, const struct list *list) {
    const size_t longest = (size_t)self->table->redis_list_max;

    return list->count < longest ? list->count : longest;
}

static void begin_on(struct load_redis *self, struct str verb, const struct list *list) {
    redis_link_begin(&self->link);
    redis_link_put(&self->link, verb);
    redis_model_put_key(&self->link.bytes, self->leaving->partition, self->table, self->model,
                        id_of(self->leaving, list));
    redis_link_end(&self->link);
}

/* The newest elements of a list, so that the newest comes to stand first: appended from it on where
 * there is no list yet, which is less work for the server, else pushed before what is there. */
static void put_list(struct load_redis *self, const struct list *list) {
    const struct lists *from = self->leaving;
    const size_t count = newest_count(self, list);
    uint32_t newest[LONGEST_LIST];
    uint32_t index = list->newest;

    assert(count <= LONGEST_LIST);
    for (size_t i = 0; i < count; i++) {
        newest[i] = index;
        index = from->elements[index - 1].older;
    }
    begin_on(self, self->fresh ? STR("RPUSH") : STR("LPUSH"), list);
    for (size_t i = 0; i < count; i++) {
        const size_t at = self->fresh ? i : count - 1 - i;
        const struct element *element = &from->elements[newest[at] - 1];
        redis_link_put(&self->link, str_of(from->kept.ptr + element->place, element->len));
    }
}

/* A list that was sent before is longer than it may be now. */
static enum err_code cut(struct load_redis *self, const struct list *list, struct err *err) {
    redisReply *reply = NULL;

    begin_on(self, STR("LTRIM"), list);
    redis_link_put(&self->link, STR("0"));
    redis_link_put_number(&self->link, self->table->redis_list_max - 1);
    const enum err_code code = redis_link_call(&self->link, &reply, err);
    freeReplyObject(reply);
    return code;
}

static enum err_code send_piece(struct load_redis *self, struct err *err) {
    const struct lists *from = self->leaving;
    enum err_code code = redis_link_ensure(&self->link, err);
    size_t elements = 0;

    self->waiting_first = self->sent;
    while (code == ERR_OK && self->sent < from->list_count && self->waiting < LISTS_AT_ONCE &&
           elements < ELEMENTS_AT_ONCE) {
        const struct list *list = &from->lists[self->sent++];
        put_list(self, list);
        code = redis_link_send(&self->link, err);
        elements += newest_count(self, list);
        self->waiting++;
    }
    code = code == ERR_OK ? redis_link_flush(&self->link, err) : code;
    self->waiting = code == ERR_OK ? self->waiting : 0;
    return code;
}

static enum err_code end_piece(struct load_redis *self, struct err *err) {
    bool long_ones[LISTS_AT_ONCE] = {false};
    const size_t count = self->waiting;
    enum err_code code = ERR_OK;

    self->waiting = 0;
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        redisReply *reply = NULL;
        code = redis_link_reply(&self->link, &reply, err);
        long_ones[i] = code == ERR_OK && reply->integer > self->table->redis_list_max;
        freeReplyObject(reply);
    }
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        code =
            long_ones[i] ? cut(self, &self->leaving->lists[self->waiting_first + i], err) : ERR_OK;
    }
    return code;
}

static bool answered(const struct load_redis *self) {
    struct pollfd socket = {.fd = self->link.redis->fd, .events = POLLIN};

    return poll(&socket, 1, 0) != 0;
}

/* One piece on, if the server has done with the one before. */
static enum err_code send_on(struct load_redis *self, struct err *err) {
    enum err_code code = ERR_OK;

    if (self->waiting > 0) {
        if (!answered(self)) {
            return ERR_OK;
        }
        code = end_piece(self, err);
    }
    return code == ERR_OK && self->sent < self->leaving->list_count ? send_piece(self, err) : code;
}

static enum err_code send_rest(struct load_redis *self, struct err *err) {
    enum err_code code = ERR_OK;

    while (code == ERR_OK && (self->waiting > 0 || self->sent < self->leaving->list_count)) {
        code = self->waiting > 0 ? end_piece(self, err) : send_piece(self, err);
    }
    return code;
}

/* What was gathered leaves; what was leaving has left. */
static enum err_code turn(struct load_redis *self, struct err *err) {
    struct lists *gathered = self->gathered;
    const enum err_code code = send_rest(self, err);

    if (code != ERR_OK) {
        return code;
    }
    if (buf_failed(&gathered->kept) || buf_failed(&gathered->ids)) {
        return err_set(err, ERR_LIMIT, "redis: more than %d bytes of lists", KEPT_BYTES_CAP);
    }
    self->gathered = self->leaving;
    lists_clear(self->gathered);
    self->leaving = gathered;
    self->sent = 0;
    self->fresh = !self->begun[gathered->partition];
    self->begun[gathered->partition] = true;
    return ERR_OK;
}

/* --- as a load --- */

static enum err_code load_rows(struct model_load *load, int32_t partition, const struct row *rows,
                               size_t count, struct err *err) {
    struct load_redis *self = load_of(load);
    enum err_code code = send_on(self, err);

    if (code == ERR_OK && partition != self->gathered->partition) {
        code = self->gathered->list_count > 0 ? turn(self, err) : ERR_OK;
        self->gathered->partition = partition;
    }
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        if (rows[i].table != self->table) {
            continue;
        }
        keep(self->gathered, &rows[i]);
        if (self->gathered->kept.len + self->gathered->ids.len > self->kept_bytes / 2) {
            code = turn(self, err);
            self->gathered->partition = partition;
        }
    }
    return code;
}

static enum err_code load_end(struct model_load *load, struct err *err) {
    struct load_redis *self = load_of(load);
    const enum err_code code = turn(self, err);

    return code == ERR_OK ? send_rest(self, err) : code;
}

static void load_free(struct model_load *load) {
    struct load_redis *self = load_of(load);

    redis_link_release(&self->link);
    lists_release(&self->halves[0]);
    lists_release(&self->halves[1]);
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
    lists_init(&self->halves[0]);
    lists_init(&self->halves[1]);
    self->gathered = &self->halves[0];
    self->leaving = &self->halves[1];
    redis_link_init(&self->link, &options);
    return &self->base;
}
