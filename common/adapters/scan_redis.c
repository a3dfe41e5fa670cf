#include "common/adapters/scan_redis.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "common/adapters/redis_link.h"
#include "common/adapters/redis_model.h"
#include "common/adapters/sink_redis.h"
#include "common/base/mem.h"

enum { KEYS_AT_ONCE = 200, TEXTS_BYTES_MAX = 64 * 1024 * 1024 };

/* KEYS: checkpoint, rows. The checkpoint, then each key's elements. */
static const char read_script[] =
    "local out = {redis.call('GET', KEYS[1]) or ''}\n"
    "for i = 2, #KEYS do\n"
    "  local kind = redis.call('TYPE', KEYS[i]).ok\n"
    "  if kind == 'string' then out[i] = {redis.call('GET', KEYS[i])}\n"
    "  elseif kind == 'list' then out[i] = redis.call('LRANGE', KEYS[i], 0, -1)\n"
    "  elseif kind == 'none' then out[i] = {}\n"
    "  else out[i] = {'?'} end\n"
    "end\n"
    "return out\n";

static const char *const scripts[] = {read_script};

/* Stream ids of a partition that wait to be read. */
struct bucket {
    struct str ids[KEYS_AT_ONCE]; /* in the arena of texts */
    size_t count;
};

struct scan_redis {
    struct model_scan base;
    struct scan_redis_options options;
    struct redis_link link;
    struct projection_sink *sink;                    /* for parked streams and voids */
    struct sink_checkpoint at[TOPIC_PARTITIONS_MAX]; /* when it was opened */
    struct bucket *buckets;                          /* partitions */
    struct arena texts;
    struct arena scratch;
};

static struct scan_redis *self_of(struct model_scan *scan) {
    return (struct scan_redis *)(void *)scan;
}

static enum err_code scan_open(struct model_scan *scan, struct sink_checkpoint *at, size_t count,
                               struct err *err) {
    struct scan_redis *self = self_of(scan);
    int32_t partitions[TOPIC_PARTITIONS_MAX];
    enum err_code code = redis_link_ensure(&self->link, err);

    for (int32_t p = 0; p < (int32_t)count; p++) {
        partitions[p] = p;
    }
    if (code == ERR_OK) {
        code = self->sink->ops->read_checkpoints(self->sink, partitions, count, self->at, err);
    }
    memcpy(at, self->at, count * sizeof(at[0]));
    return code;
}

/* --- one bucket --- */

static enum err_code bad_row(const struct model_table *table, struct str id, struct err *err) {
    return err_set(err, ERR_CORRUPT, "redis: %s of %.*s can't be read", table->redis_prefix,
                   STR_ARG(id));
}

static enum err_code deliver(struct scan_redis *self, const redisReply *reply,
                             const struct model_table *table, int32_t partition,
                             const struct sink_checkpoint *at, struct str id, scan_row_fn *fn,
                             void *arg, struct err *err) {
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < reply->elements; i++) {
        struct row row = {.table = table};
        row_text(&row, 0, id);
        arena_clear(&self->scratch);
        if (!redis_model_parse_element(redis_reply_str(reply->element[i]), table, &self->scratch,
                                       &row)) {
            if (table->redis_list_max > 0) {
                return bad_row(table, id, err);
            }
            /* One by itself that can't be read is a difference, not an end. */
            row = (struct row){.table = table};
            row_text(&row, 0, id);
        }
        code = fn(arg, partition, at, &row, err);
    }
    return code;
}

static void put_read(struct scan_redis *self, const struct model_table *table, int32_t partition,
                     const struct str *ids, size_t count) {
    redis_link_begin(&self->link);
    redis_link_put(&self->link, STR("EVALSHA"));
    redis_link_put(&self->link, str_from(self->link.shas[0]));
    redis_link_put_number(&self->link, (int64_t)count + 1);
    redis_link_printf(&self->link, "{p%" PRId32 "}:checkpoint:%s", partition,
                      self->options.projection->name);
    for (size_t i = 0; i < count; i++) {
        redis_model_put_key(&self->link.bytes, partition, table, self->at[partition].model, ids[i]);
        redis_link_end(&self->link);
    }
}

static enum err_code read_keys(struct scan_redis *self, const struct model_table *table,
                               int32_t partition, const struct str *ids, size_t count,
                               bool tell_missing, scan_row_fn *fn, void *arg, struct err *err) {
    struct sink_checkpoint at;
    redisReply *reply = NULL;

    put_read(self, table, partition, ids, count);
    enum err_code code = redis_link_call(&self->link, &reply, err);
    if (code == ERR_NOT_FOUND) {
        put_read(self, table, partition, ids, count);
        code = redis_link_call(&self->link, &reply, err);
    }
    if (code == ERR_OK && (reply->type != REDIS_REPLY_ARRAY || reply->elements != count + 1 ||
                           !redis_model_parse_checkpoint(redis_reply_str(reply->element[0]), &at) ||
                           at.model != self->at[partition].model)) {
        code = err_set(err, ERR_CONFLICT,
                       "redis: partition %" PRId32 " lost its model or got another one meanwhile",
                       partition);
    }
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        const redisReply *row = reply->element[i + 1];
        code = tell_missing && row->elements == 0
                   ? fn(arg, partition, &at, NULL, err)
                   : deliver(self, row, table, partition, &at, ids[i], fn, arg, err);
    }
    freeReplyObject(reply);
    return code;
}

/* --- all keys --- */

/* The partition and the id in {pN}:<prefix><M>:<id>; -1: not one of the live model. */
static int32_t parse_key(const struct scan_redis *self, const struct model_table *table,
                         struct str key, struct str *id) {
    int64_t partition = -1;
    struct buf wanted;
    const char *brace = key.len > 2 ? memchr(key.ptr, '}', key.len) : NULL;

    if (brace == NULL || !str_starts_with(key, STR("{p")) ||
        !str_to_i64(str_of(key.ptr + 2, (size_t)(brace - key.ptr) - 2), &partition) ||
        partition < 0 || partition >= self->options.partitions) {
        return -1;
    }
    buf_init(&wanted, 256);
    redis_model_put_key(&wanted, (int32_t)partition, table, self->at[partition].model,
                        (struct str){0});
    const size_t len = wanted.len;
    const bool fits = str_starts_with(key, buf_str(&wanted));
    buf_release(&wanted);
    *id = str_of(key.ptr + len, fits ? key.len - len : 0);
    return fits ? (int32_t)partition : -1;
}

static enum err_code take_key(struct scan_redis *self, const struct model_table *table,
                              struct str key, scan_row_fn *fn, void *arg, struct err *err) {
    struct str id;
    const int32_t p = parse_key(self, table, key, &id);

    if (p < 0) {
        return ERR_OK;
    }
    struct bucket *bucket = &self->buckets[p];
    bucket->ids[bucket->count++] = arena_str(&self->texts, id);
    if (bucket->count < KEYS_AT_ONCE) {
        return ERR_OK;
    }
    bucket->count = 0;
    return read_keys(self, table, p, bucket->ids, KEYS_AT_ONCE, false, fn, arg, err);
}

static enum err_code flush(struct scan_redis *self, const struct model_table *table,
                           scan_row_fn *fn, void *arg, struct err *err) {
    enum err_code code = ERR_OK;

    for (int32_t p = 0; p < self->options.partitions; p++) {
        struct bucket *bucket = &self->buckets[p];
        if (code == ERR_OK && bucket->count > 0) {
            code = read_keys(self, table, p, bucket->ids, bucket->count, false, fn, arg, err);
        }
        bucket->count = 0;
    }
    arena_clear(&self->texts);
    return code;
}

static enum err_code scan_rows(struct model_scan *scan, const struct model_table *table, int newest,
                               scan_row_fn *fn, void *arg, struct err *err) {
    struct scan_redis *self = self_of(scan);
    char cursor[32] = "0";
    enum err_code code = ERR_OK;

    (void)newest; /* it holds no more than that */
    do {
        redisReply *reply = NULL;
        redis_link_begin(&self->link);
        redis_link_put(&self->link, STR("SCAN"));
        redis_link_put(&self->link, str_from(cursor));
        redis_link_put(&self->link, STR("MATCH"));
        redis_link_printf(&self->link, "{p*}:%s*", table->redis_prefix);
        redis_link_put(&self->link, STR("COUNT"));
        redis_link_put(&self->link, STR("2000"));
        code = redis_link_call(&self->link, &reply, err);
        if (code == ERR_OK &&
            (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
             !str_copy(cursor, sizeof(cursor), redis_reply_str(reply->element[0])))) {
            code = err_set(err, ERR_CORRUPT, "redis: SCAN answers something else");
        }
        for (size_t i = 0; code == ERR_OK && i < reply->element[1]->elements; i++) {
            code =
                take_key(self, table, redis_reply_str(reply->element[1]->element[i]), fn, arg, err);
        }
        freeReplyObject(reply);
        if (code == ERR_OK && self->texts.used_bytes > TEXTS_BYTES_MAX / 2) {
            code = flush(self, table, fn, arg, err);
        }
    } while (code == ERR_OK && strcmp(cursor, "0") != 0);
    const enum err_code rest = code == ERR_OK ? flush(self, table, fn, arg, err) : code;
    for (int32_t p = 0; p < self->options.partitions; p++) {
        self->buckets[p].count = 0;
    }
    return rest;
}

static enum err_code scan_find(struct model_scan *scan, int32_t partition, const struct row *key,
                               scan_row_fn *fn, void *arg, struct err *err) {
    const struct str id = key->cells[0].text;

    return read_keys(self_of(scan), key->table, partition, &id, 1, true, fn, arg, err);
}

/* --- beside the rows --- */

struct forward {
    sink_parked_fn *parked;
    void (*voided)(void *arg, const struct void_range *range);
    void *arg;
};

static void forward_parked(void *arg, const struct parked_event *first, int64_t count) {
    const struct forward *forward = arg;

    (void)count;
    if (forward->parked != NULL) {
        forward->parked(forward->arg, first);
    }
}

static void forward_void(void *arg, const struct void_range *range) {
    const struct forward *forward = arg;

    if (forward->voided != NULL) {
        forward->voided(forward->arg, range);
    }
}

static enum err_code exceptions(struct scan_redis *self, int32_t partition, struct forward forward,
                                struct err *err) {
    const struct sink_exceptions into = {forward_parked, forward_void, &forward};

    return self->sink->ops->read_exceptions(self->sink, partition, &self->at[partition], &into,
                                            err);
}

static enum err_code scan_parked(struct model_scan *scan, int32_t partition, sink_parked_fn *fn,
                                 void *arg, struct err *err) {
    return exceptions(self_of(scan), partition, (struct forward){.parked = fn, .arg = arg}, err);
}

static enum err_code scan_voids(struct model_scan *scan, int32_t partition,
                                void (*fn)(void *arg, const struct void_range *range), void *arg,
                                struct err *err) {
    return exceptions(self_of(scan), partition, (struct forward){.voided = fn, .arg = arg}, err);
}

static void scan_close(struct model_scan *scan) {
    (void)scan;
}

static void scan_free(struct model_scan *scan) {
    struct scan_redis *self = self_of(scan);

    redis_link_release(&self->link);
    self->sink->ops->free(self->sink);
    arena_release(&self->texts);
    arena_release(&self->scratch);
    mem_free(self->buckets);
    mem_free(self);
}

enum err_code scan_redis_new(const struct scan_redis_options *options, struct model_scan **out,
                             struct err *err) {
    static const struct model_scan_ops ops = {
        .name = "redis",
        .open = scan_open,
        .rows = scan_rows,
        .find = scan_find,
        .parked = scan_parked,
        .voids = scan_voids,
        .close = scan_close,
        .free = scan_free,
    };
    struct projection_sink *sink = NULL;
    struct redis_url url;
    enum err_code code = redis_url_parse(str_from(options->url), &url, err);

    if (code == ERR_OK) {
        code = sink_redis_new(&(struct sink_redis_options){.url = options->url,
                                                           .projection = options->projection,
                                                           .partitions = options->partitions,
                                                           .timeout_ms = options->timeout_ms,
                                                           .log = options->log},
                              &sink, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    struct scan_redis *self = mem_zalloc(sizeof(*self));
    self->base.ops = &ops;
    self->base.store = STORE_REDIS;
    self->options = *options;
    self->sink = sink;
    self->buckets = mem_array((size_t)options->partitions, sizeof(self->buckets[0]));
    arena_init(&self->texts, 65536, TEXTS_BYTES_MAX);
    arena_init(&self->scratch, 4096, TEXTS_BYTES_MAX);
    redis_link_init(&self->link, &(struct redis_link_options){
                                     .url = url,
                                     .partitions = options->partitions,
                                     .timeout_ms = options->timeout_ms,
                                     .scripts = scripts,
                                     .script_count = ARRAY_LEN(scripts),
                                     .name = options->projection->name,
                                     .log = options->log,
                                 });
    *out = &self->base;
    return ERR_OK;
}
