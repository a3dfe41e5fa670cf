#include "common/adapters/sink_redis.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/adapters/redis_link.h"
#include "common/adapters/redis_model.h"
#include "common/base/mem.h"

/*
 * KEYS: checkpoint, parked streams, voids; then one per row, list, released and parked stream.
 * ARGV: expected checkpoint ('' for none), the next one ('' to leave it), how many rows, lists,
 * released and parked streams, voids there are; then for each
 *   row       version, number of pieces, '' and the element; of a row that is not whole: a pattern
 *             and what it becomes (redis_model.h). What is no row is as if
 *             nothing was there
 *   list      its longest length, number of elements, elements ascending, each of which begins
 *             with its version
 *   released  stream
 *   parked    stream, element
 *   void      field, last version
 * Versions stay below 2^53, so comparing them as Lua's doubles is exact; values are only stored.
 */
static const char apply_script[] =
    "local stored = redis.call('GET', KEYS[1]) or ''\n"
    "if string.find(stored, '^%d+$') then stored = stored .. ' 1 0 0' end\n"
    "if stored ~= ARGV[1] then return {0, stored} end\n"
    "local k, a = 4, 8\n"
    "for i = 1, tonumber(ARGV[3]) do\n"
    "  local old, row = redis.pcall('GET', KEYS[k]), ARGV[a + 3]\n"
    "  if type(old) ~= 'string' then old = false end\n"
    "  local version = old and tonumber(string.match(old, '^%d+'))\n"
    "  if not version or version < tonumber(ARGV[a]) then\n"
    "    if ARGV[a + 2] ~= '' then\n"
    "      local blank = '0' .. string.rep('\\t\\\\0', tonumber(ARGV[a + 1]) - 1)\n"
    "      local merged, hits = string.gsub(old or blank, ARGV[a + 2], row)\n"
    "      row = hits > 0 and merged or string.gsub(blank, ARGV[a + 2], row)\n"
    "    end\n"
    "    redis.call('SET', KEYS[k], row)\n"
    "  end\n"
    "  k, a = k + 1, a + 4\n"
    "end\n"
    "for i = 1, tonumber(ARGV[4]) do\n"
    "  local longest, first, last = tonumber(ARGV[a]), a + 2, a + 1 + tonumber(ARGV[a + 1])\n"
    "  local newest = redis.call('LINDEX', KEYS[k], 0)\n"
    "  newest = newest and tonumber(string.match(newest, '^%d+')) or 0\n"
    "  k, a = k + 1, last + 1\n"
    "  while first <= last and newest > 0\n"
    "    and tonumber(string.match(ARGV[first], '^%d+')) <= newest do first = first + 1 end\n"
    "  if first <= last\n"
    "    and redis.call('LPUSH', KEYS[k - 1], unpack(ARGV, first, last)) > longest then\n"
    "    redis.call('LTRIM', KEYS[k - 1], 0, longest - 1)\n"
    "  end\n"
    "end\n"
    "for i = 1, tonumber(ARGV[5]) do\n"
    "  redis.call('HDEL', KEYS[2], ARGV[a])\n"
    "  redis.call('DEL', KEYS[k])\n"
    "  k, a = k + 1, a + 1\n"
    "end\n"
    "for i = 1, tonumber(ARGV[6]) do\n"
    "  redis.call('HSETNX', KEYS[2], ARGV[a], ARGV[a + 1])\n"
    "  redis.call('RPUSH', KEYS[k], ARGV[a + 1])\n"
    "  k, a = k + 1, a + 2\n"
    "end\n"
    "for i = 1, tonumber(ARGV[7]) do\n"
    "  redis.call('HSET', KEYS[3], ARGV[a], ARGV[a + 1])\n"
    "  a = a + 2\n"
    "end\n"
    "if ARGV[2] ~= '' then redis.call('SET', KEYS[1], ARGV[2]) end\n"
    "return {1, ARGV[2]}\n";

static const char *const scripts[] = {apply_script};

struct sink_redis {
    struct projection_sink base;
    struct sink_redis_options options;
    struct redis_link link;
    const struct row *
        *rows; /* of one batch: single ones, then lists sorted by stream and version */
    size_t row_cap;
};

static struct sink_redis *self_of(struct projection_sink *sink) {
    return (struct sink_redis *)(void *)sink;
}

/* --- keys --- */

static void put_checkpoint_key(struct sink_redis *self, int32_t partition) {
    redis_link_printf(&self->link, "{p%" PRId32 "}:checkpoint:%s%s", partition,
                      self->options.projection->name,
                      self->options.stage == SINK_LIVE ? "" : "#build");
}

static void put_parked_key(struct sink_redis *self, int32_t partition, int64_t model) {
    redis_link_printf(&self->link, "{p%" PRId32 "}:parked:%s%s", partition,
                      self->options.projection->name, redis_model_suffix(model).text);
}

static void put_parked_list_key(struct sink_redis *self, int32_t partition, int64_t model,
                                struct str stream_id) {
    redis_link_printf(&self->link, "{p%" PRId32 "}:parked:%s%s:%.*s", partition,
                      self->options.projection->name, redis_model_suffix(model).text,
                      STR_ARG(stream_id));
}

static void put_void_key(struct sink_redis *self, int32_t partition) {
    redis_link_printf(&self->link, "{p%" PRId32 "}:void:%s", partition,
                      self->options.projection->name);
}

static void put_row_key(struct sink_redis *self, int32_t partition, int64_t model,
                        const struct model_table *table, struct str stream_id) {
    redis_model_put_key(&self->link.bytes, partition, table, model, stream_id);
    redis_link_end(&self->link);
}

/* --- reading --- */

static enum err_code read_checkpoint_reply(const redisReply *reply, struct sink_checkpoint *out,
                                           struct err *err) {
    if (reply->type == REDIS_REPLY_NIL) {
        *out = (struct sink_checkpoint){.next = SINK_NO_CHECKPOINT};
        return ERR_OK;
    }
    return redis_model_parse_checkpoint(redis_reply_str(reply), out)
               ? ERR_OK
               : err_set(err, ERR_CORRUPT, "redis: a checkpoint is no checkpoint: \"%.40s\"",
                         reply->str != NULL ? reply->str : "");
}

static enum err_code sink_read_checkpoints(struct projection_sink *sink, const int32_t *partitions,
                                           size_t count, struct sink_checkpoint *out,
                                           struct err *err) {
    struct sink_redis *self = self_of(sink);
    enum err_code code = redis_link_ensure(&self->link, err);
    bool missing = false;

    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        redis_link_begin(&self->link);
        redis_link_put(&self->link, STR("GET"));
        put_checkpoint_key(self, partitions[i]);
        code = redis_link_send(&self->link, err);
    }
    enum err_code first = code;
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        redisReply *reply = NULL;
        code = redis_link_reply(&self->link, &reply, err);
        if (code == ERR_OK) {
            const enum err_code read = read_checkpoint_reply(reply, &out[i], err);
            first = first == ERR_OK ? read : first;
            missing = missing || !checkpoint_exists(&out[i]);
        }
        freeReplyObject(reply);
    }
    code = code == ERR_OK ? first : code;
    /* What took the checkpoint may have taken the partition count too, and readers need it. */
    return code == ERR_OK && missing ? redis_link_agree(&self->link, err) : code;
}

static enum err_code sink_read_heads(struct projection_sink *sink, int32_t partition,
                                     const struct sink_checkpoint *at, struct stream_head *heads,
                                     size_t count, struct err *err) {
    struct sink_redis *self = self_of(sink);
    const struct model_table *table = self->options.projection->heads;
    const bool list = table->redis_list_max > 0;
    enum err_code code = redis_link_ensure(&self->link, err);

    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        redis_link_begin(&self->link);
        redis_link_put(&self->link, list ? STR("LINDEX") : STR("GET"));
        put_row_key(self, partition, at->model, table, heads[i].stream_id);
        if (list) {
            redis_link_put(&self->link, STR("0"));
        }
        code = redis_link_send(&self->link, err);
    }
    bool broken = false;
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        redisReply *reply = NULL;
        code = redis_link_reply(&self->link, &reply, err);
        heads[i].version = 0;
        if (code == ERR_OK && reply->type == REDIS_REPLY_STRING) {
            struct str element = redis_reply_str(reply);
            struct str version = {0};
            broken = !redis_model_cut_piece(&element, &version) ||
                     !str_to_i64(version, &heads[i].version) || broken;
        }
        freeReplyObject(reply);
    }
    return code == ERR_OK && broken
               ? err_set(err, ERR_CORRUPT, "redis: a row's version is not a number")
               : code;
}

/* The parked streams' hash, then the length of each one's list. */
static enum err_code read_parked_streams(struct sink_redis *self, int32_t partition,
                                         const struct sink_checkpoint *at,
                                         const struct sink_exceptions *into, struct err *err) {
    redisReply *all = NULL;

    redis_link_begin(&self->link);
    redis_link_put(&self->link, STR("HGETALL"));
    put_parked_key(self, partition, at->model);
    enum err_code code = redis_link_call(&self->link, &all, err);
    for (size_t i = 0; code == ERR_OK && i + 1 < all->elements; i += 2) {
        struct parked_event first = {.stream_id = redis_reply_str(all->element[i])};
        redisReply *length = NULL;
        if (!redis_model_parse_parked(redis_reply_str(all->element[i + 1]), &first)) {
            code = err_set(err, ERR_CORRUPT, "redis: a parked event can't be read");
            break;
        }
        redis_link_begin(&self->link);
        redis_link_put(&self->link, STR("LLEN"));
        put_parked_list_key(self, partition, at->model, first.stream_id);
        code = redis_link_call(&self->link, &length, err);
        if (code == ERR_OK) {
            into->parked(into->arg, &first, length->integer);
        }
        freeReplyObject(length);
    }
    freeReplyObject(all);
    return code;
}

static enum err_code read_voids(struct sink_redis *self, int32_t partition,
                                const struct sink_exceptions *into, struct err *err) {
    redisReply *all = NULL;

    redis_link_begin(&self->link);
    redis_link_put(&self->link, STR("HGETALL"));
    put_void_key(self, partition);
    const enum err_code code = redis_link_call(&self->link, &all, err);
    for (size_t i = 0; code == ERR_OK && i + 1 < all->elements; i += 2) {
        const struct str field = redis_reply_str(all->element[i]);
        const char *slash = field.len > 0 ? memrchr(field.ptr, '/', field.len) : NULL;
        struct void_range range = {0};
        if (slash == NULL) {
            continue;
        }
        const size_t len = (size_t)(slash - field.ptr);
        range.stream_id = str_of(field.ptr, len);
        if (str_to_i64(str_of(slash + 1, field.len - len - 1), &range.first) &&
            str_to_i64(redis_reply_str(all->element[i + 1]), &range.last)) {
            into->voided(into->arg, &range);
        }
    }
    freeReplyObject(all);
    return code;
}

static enum err_code sink_read_exceptions(struct projection_sink *sink, int32_t partition,
                                          const struct sink_checkpoint *at,
                                          const struct sink_exceptions *into, struct err *err) {
    struct sink_redis *self = self_of(sink);
    enum err_code code = redis_link_ensure(&self->link, err);

    if (code == ERR_OK) {
        code = read_parked_streams(self, partition, at, into, err);
    }
    return code == ERR_OK ? read_voids(self, partition, into, err) : code;
}

static enum err_code sink_read_parked(struct projection_sink *sink, int32_t partition,
                                      const struct sink_checkpoint *at, struct str stream_id,
                                      sink_parked_fn *fn, void *arg, struct err *err) {
    struct sink_redis *self = self_of(sink);
    enum err_code code = redis_link_ensure(&self->link, err);
    redisReply *all = NULL;

    if (code == ERR_OK) {
        redis_link_begin(&self->link);
        redis_link_put(&self->link, STR("LRANGE"));
        put_parked_list_key(self, partition, at->model, stream_id);
        redis_link_put(&self->link, STR("0"));
        redis_link_put(&self->link, STR("-1"));
        code = redis_link_call(&self->link, &all, err);
    }
    for (size_t i = 0; code == ERR_OK && i < all->elements; i++) {
        struct parked_event event = {.stream_id = stream_id};
        if (!redis_model_parse_parked(redis_reply_str(all->element[i]), &event)) {
            code = err_set(err, ERR_CORRUPT, "redis: a parked event can't be read");
        } else {
            fn(arg, &event);
        }
    }
    freeReplyObject(all);
    return code;
}

/* --- writing --- */

/* Single rows first; lists after them by stream, versions ascending. */
static int compare_rows(const void *left, const void *right) {
    const struct row *a = *(const struct row *const *)left;
    const struct row *b = *(const struct row *const *)right;
    const bool list_a = a->table->redis_list_max > 0;
    const bool list_b = b->table->redis_list_max > 0;

    if (!list_a || !list_b || a->table != b->table) {
        return list_a != list_b ? list_a - list_b : (a > b) - (a < b);
    }
    const int by_stream = str_cmp(a->cells[0].text, b->cells[0].text);
    const int64_t version_a = a->cells[a->table->version_column].number;
    const int64_t version_b = b->cells[b->table->version_column].number;
    return by_stream != 0 ? by_stream : (version_a > version_b) - (version_a < version_b);
}

/* How many rows from `first` on go into the same list; 1 for one by itself. */
static size_t run_length(const struct sink_redis *self, const struct sink_batch *batch,
                         size_t first) {
    const struct row *row = self->rows[first];
    size_t end = first + 1;

    while (row->table->redis_list_max > 0 && end < batch->row_count &&
           self->rows[end]->table == row->table &&
           str_eq(self->rows[end]->cells[0].text, row->cells[0].text)) {
        end++;
    }
    return end - first;
}

static void put_row(struct sink_redis *self, const struct row *row) {
    const struct model_table *table = row->table;

    assert(row->cells[table->version_column].set);
    redis_link_put_number(&self->link, row->cells[table->version_column].number);
    redis_link_put_number(&self->link, (int64_t)table->column_count - 1);
    if (redis_model_is_whole(row)) {
        redis_link_end(&self->link);
        redis_model_put_element(&self->link.bytes, row);
    } else {
        redis_model_put_pattern(&self->link.bytes, row);
        redis_link_end(&self->link);
        redis_model_put_replacement(&self->link.bytes, row);
    }
    redis_link_end(&self->link);
}

static void put_list(struct sink_redis *self, size_t first, size_t count) {
    const struct model_table *table = self->rows[first]->table;
    const size_t longest = (size_t)table->redis_list_max;
    const size_t skip = count > longest ? count - longest : 0;

    redis_link_put_number(&self->link, table->redis_list_max);
    redis_link_put_number(&self->link, (int64_t)(count - skip));
    for (size_t i = first + skip; i < first + count; i++) {
        redis_model_put_element(&self->link.bytes, self->rows[i]);
        redis_link_end(&self->link);
    }
}

static void put_checkpoint(struct sink_redis *self, const struct sink_checkpoint *at) {
    if (checkpoint_exists(at)) {
        redis_model_put_checkpoint(&self->link.bytes, at);
    }
    redis_link_end(&self->link);
}

static void put_keys(struct sink_redis *self, const struct sink_batch *batch, int64_t model,
                     size_t groups) {
    redis_link_put_number(&self->link,
                          (int64_t)(3 + groups + batch->released_count + batch->parked_count));
    put_checkpoint_key(self, batch->partition);
    put_parked_key(self, batch->partition, model);
    put_void_key(self, batch->partition);
    for (size_t i = 0; i < batch->row_count; i += run_length(self, batch, i)) {
        put_row_key(self, batch->partition, model, self->rows[i]->table,
                    self->rows[i]->cells[0].text);
    }
    for (size_t i = 0; i < batch->released_count; i++) {
        put_parked_list_key(self, batch->partition, model, batch->released[i]);
    }
    for (size_t i = 0; i < batch->parked_count; i++) {
        put_parked_list_key(self, batch->partition, model, batch->parked[i].stream_id);
    }
}

static void put_exceptions(struct sink_redis *self, const struct sink_batch *batch) {
    for (size_t i = 0; i < batch->released_count; i++) {
        redis_link_put(&self->link, batch->released[i]);
    }
    for (size_t i = 0; i < batch->parked_count; i++) {
        redis_link_put(&self->link, batch->parked[i].stream_id);
        redis_model_put_parked(&self->link.bytes, &batch->parked[i]);
        redis_link_end(&self->link);
    }
    for (size_t i = 0; i < batch->void_count; i++) {
        redis_link_printf(&self->link, "%.*s/%" PRId64, STR_ARG(batch->voids[i].stream_id),
                          batch->voids[i].first);
        redis_link_put_number(&self->link, batch->voids[i].last);
    }
}

static void put_batch(struct sink_redis *self, const struct sink_batch *batch) {
    const int64_t model = batch->next.model;
    size_t singles = 0;
    size_t lists = 0;

    for (size_t i = 0; i < batch->row_count; i += run_length(self, batch, i)) {
        singles += self->rows[i]->table->redis_list_max == 0;
        lists += self->rows[i]->table->redis_list_max > 0;
    }
    redis_link_begin(&self->link);
    redis_link_put(&self->link, STR("EVALSHA"));
    redis_link_put(&self->link, str_from(self->link.shas[0]));
    put_keys(self, batch, model, singles + lists);
    put_checkpoint(self, &batch->expected);
    put_checkpoint(self, &batch->next);
    redis_link_put_number(&self->link, (int64_t)singles);
    redis_link_put_number(&self->link, (int64_t)lists);
    redis_link_put_number(&self->link, (int64_t)batch->released_count);
    redis_link_put_number(&self->link, (int64_t)batch->parked_count);
    redis_link_put_number(&self->link, (int64_t)batch->void_count);
    for (size_t i = 0; i < batch->row_count;) {
        const size_t count = run_length(self, batch, i);
        if (self->rows[i]->table->redis_list_max > 0) {
            put_list(self, i, count);
        } else {
            put_row(self, self->rows[i]);
        }
        i += count;
    }
    put_exceptions(self, batch);
}

static void sort_rows(struct sink_redis *self, const struct sink_batch *batch) {
    bool lists = false;

    if (batch->row_count > self->row_cap) {
        self->row_cap = batch->row_count;
        self->rows = mem_resize(self->rows, self->row_cap, sizeof(self->rows[0]));
    }
    for (size_t i = 0; i < batch->row_count; i++) {
        self->rows[i] = &batch->rows[i];
        lists = lists || batch->rows[i].table->redis_list_max > 0;
    }
    if (lists) {
        qsort(self->rows, batch->row_count, sizeof(self->rows[0]), compare_rows);
    }
}

/* What the script says. */
static enum err_code judge(const struct sink_batch *batch, const redisReply *reply,
                           struct err *err) {
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
        reply->element[0]->integer == 1) {
        return ERR_OK;
    }
    return err_set(err, ERR_FENCED,
                   "redis: the checkpoint of partition %" PRId32 " is \"%.60s\", not at %" PRId64,
                   batch->partition,
                   reply->elements == 2 && reply->element[1]->str != NULL ? reply->element[1]->str
                                                                          : "",
                   batch->expected.next);
}

static enum err_code sink_apply(struct projection_sink *sink, const struct sink_batch *batch,
                                struct err *err) {
    struct sink_redis *self = self_of(sink);
    redisReply *reply = NULL;
    enum err_code code = redis_link_ensure(&self->link, err);

    if (code != ERR_OK) {
        return code;
    }
    sort_rows(self, batch);
    put_batch(self, batch);
    code = redis_link_call(&self->link, &reply, err);
    if (code == ERR_NOT_FOUND) {
        put_batch(self, batch);
        code = redis_link_call(&self->link, &reply, err);
    }
    code = code == ERR_OK ? judge(batch, reply, err) : code;
    freeReplyObject(reply);
    return code;
}

/* Of several failures an outage is told before others, which may come of it. */
static void note(enum err_code *told, struct err *err, enum err_code code, const struct err *why) {
    if (*told == ERR_OK || (code == ERR_UNAVAILABLE && *told != ERR_UNAVAILABLE)) {
        *told = code;
        (void)err_set(err, code, "%s", why->message);
    }
}

/* One script call each, all in one write: one wait instead of one for each. */
static enum err_code sink_apply_all(struct projection_sink *sink, const struct sink_batch *batches,
                                    size_t count, enum err_code *codes, struct err *err) {
    struct sink_redis *self = self_of(sink);
    enum err_code told = redis_link_ensure(&self->link, err);

    for (size_t i = 0; i < count; i++) {
        struct err why = {0};
        codes[i] = ERR_UNAVAILABLE;
        if (self->link.redis == NULL) {
            continue;
        }
        sort_rows(self, &batches[i]);
        put_batch(self, &batches[i]);
        codes[i] = redis_link_send(&self->link, &why);
        if (codes[i] != ERR_OK) {
            note(&told, err, codes[i], &why);
        }
    }
    for (size_t i = 0; i < count; i++) {
        redisReply *reply = NULL;
        struct err why = {0};
        if (codes[i] != ERR_OK) {
            continue;
        }
        codes[i] = ERR_UNAVAILABLE;
        if (self->link.redis != NULL) {
            codes[i] = redis_link_reply(&self->link, &reply, &why);
            codes[i] = codes[i] == ERR_OK ? judge(&batches[i], reply, &why) : codes[i];
            freeReplyObject(reply);
        }
        if (codes[i] != ERR_OK) {
            note(&told, err, codes[i], &why);
        }
    }
    return told;
}

/* --- life --- */

static void sink_free(struct projection_sink *sink) {
    struct sink_redis *self = self_of(sink);

    redis_link_release(&self->link);
    mem_free(self->rows);
    mem_free(self);
}

enum err_code sink_redis_new(const struct sink_redis_options *options, struct projection_sink **out,
                             struct err *err) {
    static const struct projection_sink_ops ops = {
        .name = "redis",
        .read_checkpoints = sink_read_checkpoints,
        .read_exceptions = sink_read_exceptions,
        .read_parked = sink_read_parked,
        .read_heads = sink_read_heads,
        .apply = sink_apply,
        .apply_all = sink_apply_all,
        .free = sink_free,
    };
    struct redis_url url;
    const enum err_code code = redis_url_parse(str_from(options->url), &url, err);

    if (code != ERR_OK) {
        return code;
    }
    struct sink_redis *self = mem_zalloc(sizeof(*self));
    self->base.ops = &ops;
    self->base.store = STORE_REDIS;
    self->options = *options;
    redis_link_init(&self->link, &(struct redis_link_options){
                                     .url = url,
                                     .partitions = options->partitions,
                                     .timeout_ms = options->timeout_ms,
                                     .scripts = scripts,
                                     .script_count = ARRAY_LEN(scripts),
                                     .name = options->projection->name,
                                     .log = options->log,
                                     .health = options->health,
                                 });
    /* The script stores fields, it doesn't add; rows stand under their stream's id. */
    for (size_t i = 0; i < options->projection->table_count; i++) {
        const struct model_table *table = options->projection->tables[i];
        assert(!(table->stores & STORE_REDIS) ||
               (table->columns[0].kind == COLUMN_TEXT && table->version_column > 0 &&
                table->partition_column == 0 &&
                table->key_count == (table->redis_list_max > 0 ? 2U : 1U)));
    }
    *out = &self->base;
    return ERR_OK;
}
