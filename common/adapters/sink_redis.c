#include "common/adapters/sink_redis.h"

#include <assert.h>
#include <hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/redis_url.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/uuid.h"
#include "common/runtime/backoff.h"

enum { ARGUMENTS_BYTES_MAX = 64 * 1024 * 1024, SHA_BYTES = 41 };

/*
 * KEYS: checkpoint, rows. ARGV: expected checkpoint ('' for none), next, then for each row its
 * version
 * ('' for none), the number of its fields, and the fields. Versions stay below 2^53, so comparing
 * them as Lua's doubles is exact; values are only stored.
 */
static const char script[] =
    "local stored = redis.call('GET', KEYS[1]) or ''\n"
    "if stored ~= ARGV[1] then return {0, stored} end\n"
    "local a = 3\n"
    "for i = 2, #KEYS do\n"
    "  local version, count = ARGV[a], 2 * tonumber(ARGV[a + 1])\n"
    "  a = a + 2\n"
    "  local old = version ~= '' and redis.call('HGET', KEYS[i], 'version')\n"
    "  if not old or tonumber(old) < tonumber(version) then\n"
    "    redis.call('HSET', KEYS[i], unpack(ARGV, a, a + count - 1))\n"
    "  end\n"
    "  a = a + count\n"
    "end\n"
    "redis.call('SET', KEYS[1], ARGV[2])\n"
    "return {1, ARGV[2]}\n";

struct sink_redis {
    struct projection_sink base;
    struct sink_redis_options options;
    struct redis_url url;
    redisContext *redis;
    char sha[SHA_BYTES];
    struct backoff backoff;
    int64_t retry_at_us;
    const struct model_table *table; /* the one keyed by stream id */
    struct buf bytes;                /* the arguments of one call, back to back */
    size_t *ends;                    /* end of each argument in bytes */
    size_t argument_count;
    size_t argument_cap;
    const char **pointers;
    size_t *lengths;
};

static struct sink_redis *self_of(struct projection_sink *sink) {
    return (struct sink_redis *)(void *)sink;
}

/* --- arguments --- */

static void end_argument(struct sink_redis *self) {
    if (self->argument_count == self->argument_cap) {
        self->argument_cap = self->argument_cap > 0 ? 2 * self->argument_cap : 256;
        self->ends = mem_resize(self->ends, self->argument_cap, sizeof(size_t));
        self->pointers = mem_resize(self->pointers, self->argument_cap, sizeof(char *));
        self->lengths = mem_resize(self->lengths, self->argument_cap, sizeof(size_t));
    }
    self->ends[self->argument_count++] = self->bytes.len;
}

static void put_argument(struct sink_redis *self, struct str value) {
    buf_put_str(&self->bytes, value);
    end_argument(self);
}

static void put_number(struct sink_redis *self, int64_t value) {
    buf_put_i64(&self->bytes, value);
    end_argument(self);
}

static void begin_arguments(struct sink_redis *self) {
    buf_clear(&self->bytes);
    self->argument_count = 0;
}

static void put_checkpoint_key(struct sink_redis *self, int32_t partition) {
    buf_printf(&self->bytes, "{p%" PRId32 "}:checkpoint:%s", partition,
               self->options.projection->name);
    end_argument(self);
}

static void put_stream_key(struct sink_redis *self, int32_t partition, struct str stream_id) {
    buf_printf(&self->bytes, "{p%" PRId32 "}:%s:", partition, self->table->redis_prefix);
    put_argument(self, stream_id);
}

static void put_cell(struct sink_redis *self, enum column_kind kind, const struct cell *cell) {
    char text[UUID_TEXT_BYTES];

    switch (kind) {
    case COLUMN_TEXT:
        put_argument(self, cell->text);
        break;
    case COLUMN_UUID:
        uuid_format(text, &cell->uuid);
        put_argument(self, str_from(text));
        break;
    case COLUMN_I64:
    case COLUMN_TIME:
    case COLUMN_DATE:
        put_number(self, cell->number);
        break;
    }
}

static void put_row_key(struct sink_redis *self, int32_t partition, const struct row *row) {
    buf_printf(&self->bytes, "{p%" PRId32 "}:%s", partition, row->table->redis_prefix);
    for (size_t i = 0; i < row->table->key_count; i++) {
        buf_put_char(&self->bytes, ':');
        if (row->table->columns[i].kind == COLUMN_TEXT) {
            buf_put_str(&self->bytes, row->cells[i].text);
        } else {
            buf_put_i64(&self->bytes, row->cells[i].number);
        }
    }
    end_argument(self);
}

static void put_row_fields(struct sink_redis *self, const struct row *row) {
    const struct model_table *table = row->table;
    int64_t fields = 0;

    for (size_t i = table->key_count; i < table->column_count; i++) {
        fields += row->cells[i].set;
    }
    assert(table->version_column >= 0 && row->cells[table->version_column].set);
    put_number(self, row->cells[table->version_column].number);
    put_number(self, fields);
    for (size_t i = table->key_count; i < table->column_count; i++) {
        if (row->cells[i].set) {
            put_argument(self, str_from(table->columns[i].name));
            put_cell(self, table->columns[i].kind, &row->cells[i]);
        }
    }
}

/* --- the connection --- */

static void disconnect(struct sink_redis *self) {
    if (self->redis != NULL) {
        redisFree(self->redis);
        self->redis = NULL;
    }
}

static enum err_code failed(struct sink_redis *self, const char *why, struct err *err) {
    const int64_t wait_ms = backoff_next_ms(&self->backoff);
    const enum err_code code = err_set(err, ERR_UNAVAILABLE, "redis: %s", why);

    if (self->options.health != NULL) {
        health_fail(self->options.health, "%s", why);
    }
    disconnect(self); /* `why` may be the connection's */
    self->retry_at_us = clock_monotonic_us() + wait_ms * 1000;
    return code;
}

/* Sends the gathered arguments as one command and waits for its reply, which is the caller's. An
 * error reply is returned as such. NULL: the connection is lost. */
static redisReply *call(struct sink_redis *self) {
    size_t start = 0;

    for (size_t i = 0; i < self->argument_count; i++) {
        self->pointers[i] = self->bytes.ptr + start;
        self->lengths[i] = self->ends[i] - start;
        start = self->ends[i];
    }
    return redisCommandArgv(self->redis, (int)self->argument_count, self->pointers, self->lengths);
}

static redisReply *call_texts(struct sink_redis *self, const char *const *texts, size_t count) {
    begin_arguments(self);
    for (size_t i = 0; i < count; i++) {
        put_argument(self, str_from(texts[i]));
    }
    return call(self);
}

/* For set-up: any reply but an error will do. */
static enum err_code expect_fine(struct sink_redis *self, redisReply *reply, struct err *err) {
    enum err_code code = ERR_OK;

    if (reply == NULL) {
        return failed(self, self->redis->errstr, err);
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        code = failed(self, reply->str, err);
    }
    freeReplyObject(reply);
    return code;
}

static enum err_code authenticate(struct sink_redis *self, struct err *err) {
    char database[24];
    const char *const auth[] = {"AUTH", self->url.user, self->url.password};
    const char *const plain_auth[] = {"AUTH", self->url.password};
    const char *const select[] = {"SELECT", database};
    enum err_code code = ERR_OK;

    (void)snprintf(database, sizeof(database), "%" PRId64, self->url.database);
    if (self->url.password[0] != '\0') {
        code = expect_fine(self,
                           self->url.user[0] != '\0' ? call_texts(self, auth, 3)
                                                     : call_texts(self, plain_auth, 2),
                           err);
    }
    if (code == ERR_OK && self->url.database != 0) {
        code = expect_fine(self, call_texts(self, select, 2), err);
    }
    return code;
}

static enum err_code load_script(struct sink_redis *self, struct err *err) {
    const char *const load[] = {"SCRIPT", "LOAD", script};
    redisReply *reply = call_texts(self, load, 3);

    if (reply != NULL && reply->type == REDIS_REPLY_STRING && reply->len < SHA_BYTES) {
        memcpy(self->sha, reply->str, reply->len + 1);
    }
    return expect_fine(self, reply, err);
}

/* The first projector writes the partition count, all others must agree with it. */
static enum err_code agree_on_partitions(struct sink_redis *self, struct err *err) {
    char count[16];
    const char *const set[] = {"SET", "daybook:partitions", count, "NX"};
    const char *const get[] = {"GET", "daybook:partitions"};

    (void)snprintf(count, sizeof(count), "%" PRId32, self->options.partitions);
    const enum err_code code = expect_fine(self, call_texts(self, set, 4), err);
    if (code != ERR_OK) {
        return code;
    }
    redisReply *reply = call_texts(self, get, 2);
    if (reply != NULL && reply->type == REDIS_REPLY_STRING && strcmp(reply->str, count) != 0) {
        char why[128];
        (void)snprintf(why, sizeof(why),
                       "its keys are made for %.16s partitions, DAYBOOK_TOPIC_PARTITIONS is %s",
                       reply->str, count);
        freeReplyObject(reply);
        return failed(self, why, err);
    }
    return expect_fine(self, reply, err);
}

static enum err_code ensure(struct sink_redis *self, struct err *err) {
    const int64_t now_us = clock_monotonic_us();
    const struct timeval timeout = {self->options.timeout_ms / 1000,
                                    (self->options.timeout_ms % 1000) * 1000};

    if (self->redis != NULL) {
        return ERR_OK;
    }
    if (now_us < self->retry_at_us) {
        return err_set(err, ERR_UNAVAILABLE, "redis: not connected");
    }
    self->redis = redisConnectWithTimeout(self->url.host, self->url.port, timeout);
    if (self->redis == NULL || self->redis->err != 0) {
        return failed(self, self->redis != NULL ? self->redis->errstr : "out of memory", err);
    }
    (void)redisSetTimeout(self->redis, timeout);
    enum err_code code = authenticate(self, err);
    if (code == ERR_OK) {
        code = load_script(self, err);
    }
    if (code == ERR_OK) {
        code = agree_on_partitions(self, err);
    }
    if (code == ERR_OK) {
        backoff_reset(&self->backoff);
        if (self->options.health != NULL) {
            health_ok(self->options.health);
        }
        log_info(self->options.log, log_event("redis.connected"),
                 log_cstr("projection", self->options.projection->name));
    }
    return code;
}

/* --- the port --- */

static enum err_code sink_read_checkpoint(struct projection_sink *sink, int32_t partition,
                                          int64_t *next, struct err *err) {
    struct sink_redis *self = self_of(sink);
    enum err_code code = ensure(self, err);

    if (code != ERR_OK) {
        return code;
    }
    begin_arguments(self);
    put_argument(self, STR("GET"));
    put_checkpoint_key(self, partition);
    redisReply *reply = call(self);
    if (reply != NULL && reply->type == REDIS_REPLY_NIL) {
        *next = SINK_NO_CHECKPOINT;
        freeReplyObject(reply);
        /* What took the checkpoint may have taken this key too, and readers need it. */
        return agree_on_partitions(self, err);
    }
    if (reply != NULL && reply->type == REDIS_REPLY_STRING &&
        !str_to_i64(str_of(reply->str, reply->len), next)) {
        freeReplyObject(reply);
        return err_set(err, ERR_CORRUPT,
                       "redis: the checkpoint of partition %" PRId32 " is not a number", partition);
    }
    return expect_fine(self, reply, err);
}

static enum err_code sink_read_heads(struct projection_sink *sink, int32_t partition,
                                     struct stream_head *heads, size_t count, struct err *err) {
    struct sink_redis *self = self_of(sink);
    enum err_code code = ensure(self, err);

    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        size_t start = 0;
        begin_arguments(self);
        put_argument(self, STR("HGET"));
        put_stream_key(self, partition, heads[i].stream.stream_id);
        put_argument(self, STR("version"));
        for (size_t j = 0; j < self->argument_count; j++) {
            self->pointers[j] = self->bytes.ptr + start;
            self->lengths[j] = self->ends[j] - start;
            start = self->ends[j];
        }
        if (redisAppendCommandArgv(self->redis, (int)self->argument_count, self->pointers,
                                   self->lengths) != REDIS_OK) {
            return failed(self, self->redis->errstr, err);
        }
    }
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        void *raw = NULL;
        heads[i].version = 0;
        if (redisGetReply(self->redis, &raw) != REDIS_OK) {
            return failed(self, self->redis->errstr, err);
        }
        redisReply *reply = raw;
        if (reply->type == REDIS_REPLY_STRING &&
            !str_to_i64(str_of(reply->str, reply->len), &heads[i].version)) {
            code = err_set(err, ERR_CORRUPT, "redis: the version of %.*s is not a number",
                           STR_ARG(heads[i].stream.stream_id));
        } else if (reply->type == REDIS_REPLY_ERROR) {
            code = failed(self, reply->str, err);
        }
        freeReplyObject(reply);
    }
    if (code == ERR_CORRUPT) {
        disconnect(self); /* replies may be left unread */
    }
    return code;
}

static void put_batch(struct sink_redis *self, const struct sink_batch *batch) {
    begin_arguments(self);
    put_argument(self, STR("EVALSHA"));
    put_argument(self, str_from(self->sha));
    put_number(self, (int64_t)batch->row_count + 1);
    put_checkpoint_key(self, batch->partition);
    for (size_t i = 0; i < batch->row_count; i++) {
        put_row_key(self, batch->partition, &batch->rows[i]);
    }
    if (batch->expected == SINK_NO_CHECKPOINT) {
        put_argument(self, STR(""));
    } else {
        put_number(self, batch->expected);
    }
    put_number(self, batch->next);
    for (size_t i = 0; i < batch->row_count; i++) {
        put_row_fields(self, &batch->rows[i]);
    }
}

static enum err_code sink_apply(struct projection_sink *sink, const struct sink_batch *batch,
                                struct err *err) {
    struct sink_redis *self = self_of(sink);
    enum err_code code = ensure(self, err);

    if (code != ERR_OK) {
        return code;
    }
    put_batch(self, batch);
    if (buf_failed(&self->bytes)) {
        return err_set(err, ERR_LIMIT, "redis: a batch over %d bytes", ARGUMENTS_BYTES_MAX);
    }
    redisReply *reply = call(self);
    if (reply != NULL && reply->type == REDIS_REPLY_ERROR &&
        strncmp(reply->str, "NOSCRIPT", 8) == 0) {
        /* A restarted or flushed server has forgotten it. */
        freeReplyObject(reply);
        code = load_script(self, err);
        if (code != ERR_OK) {
            return code;
        }
        put_batch(self, batch);
        reply = call(self);
    }
    if (reply != NULL && reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
        reply->element[0]->integer == 0) {
        code = err_set(err, ERR_FENCED,
                       "redis: the checkpoint of partition %" PRId32 " is \"%s\", not %" PRId64,
                       batch->partition, reply->element[1]->str, batch->expected);
        freeReplyObject(reply);
        return code;
    }
    return expect_fine(self, reply, err);
}

static void sink_free(struct projection_sink *sink) {
    struct sink_redis *self = self_of(sink);

    disconnect(self);
    buf_release(&self->bytes);
    mem_free(self->ends);
    mem_free(self->pointers);
    mem_free(self->lengths);
    mem_free(self);
}

enum err_code sink_redis_new(const struct sink_redis_options *options, struct projection_sink **out,
                             struct err *err) {
    static const struct projection_sink_ops ops = {
        .name = "redis",
        .read_checkpoint = sink_read_checkpoint,
        .read_heads = sink_read_heads,
        .apply = sink_apply,
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
    self->url = url;
    buf_init(&self->bytes, ARGUMENTS_BYTES_MAX);
    backoff_init(&self->backoff, 50, 2000);
    for (size_t i = 0; i < options->projection->table_count && self->table == NULL; i++) {
        if (options->projection->tables[i]->stores & STORE_REDIS) {
            self->table = options->projection->tables[i];
        }
    }
    /* The script stores fields, it doesn't add; and heads are read from the rows. */
    assert(self->table != NULL && self->table->key_count == 1 && self->table->version_column >= 0);
    for (size_t i = 0; i < self->table->column_count; i++) {
        assert(self->table->columns[i].merge == MERGE_SET);
    }
    *out = &self->base;
    return ERR_OK;
}
