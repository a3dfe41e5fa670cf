#include "common/adapters/builder_redis.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/load_redis.h"
#include "common/adapters/redis_link.h"
#include "common/adapters/redis_model.h"
#include "common/base/mem.h"

/* KEYS: live and built checkpoint. ARGV: what both are, what the live one becomes. */
static const char swap_script[] =
    "if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end\n"
    "if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return 0 end\n"
    "redis.call('SET', KEYS[1], ARGV[3])\n"
    "redis.call('DEL', KEYS[2])\n"
    "return 1\n";

/* KEYS: a checkpoint. ARGV: what it is. */
static const char drop_script[] = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
                                  "return redis.call('DEL', KEYS[1])\n";

enum { SWAP, DROP };
static const char *const scripts[] = {[SWAP] = swap_script, [DROP] = drop_script};

enum { TEXT_BYTES = 96, CLEAN_AT_ONCE = 512 };

struct builder_redis {
    struct model_builder base;
    struct builder_redis_options options;
    struct redis_link link;
    struct sink_checkpoint live[TOPIC_PARTITIONS_MAX];
    struct sink_checkpoint built[TOPIC_PARTITIONS_MAX];
    char live_text[TOPIC_PARTITIONS_MAX][TEXT_BYTES];
    char built_text[TOPIC_PARTITIONS_MAX][TEXT_BYTES];
    bool building; /* the built model's keys are not to be cleaned */
    int64_t model;
};

static struct builder_redis *self_of(struct model_builder *builder) {
    return (struct builder_redis *)(void *)builder;
}

static void put_checkpoint_key(struct builder_redis *self, int32_t partition, const char *suffix) {
    redis_link_printf(&self->link, "{p%" PRId32 "}:checkpoint:%s%s", partition,
                      self->options.projection->name, suffix);
}

static enum err_code read_one(struct builder_redis *self, int32_t partition, const char *suffix,
                              char text[TEXT_BYTES], struct sink_checkpoint *out, struct err *err) {
    redisReply *reply = NULL;

    redis_link_begin(&self->link);
    redis_link_put(&self->link, STR("GET"));
    put_checkpoint_key(self, partition, suffix);
    enum err_code code = redis_link_call(&self->link, &reply, err);
    text[0] = '\0';
    *out = (struct sink_checkpoint){.next = SINK_NO_CHECKPOINT};
    if (code == ERR_OK && reply->type == REDIS_REPLY_STRING &&
        (!str_copy(text, TEXT_BYTES, redis_reply_str(reply)) ||
         !redis_model_parse_checkpoint(redis_reply_str(reply), out))) {
        code = err_set(err, ERR_CORRUPT, "redis: a checkpoint is no checkpoint: \"%.40s\"",
                       reply->str);
    }
    freeReplyObject(reply);
    return code;
}

static enum err_code read_live(struct builder_redis *self, struct err *err) {
    enum err_code code = redis_link_ensure(&self->link, err);

    for (int32_t p = 0; code == ERR_OK && p < self->options.partitions; p++) {
        code = read_one(self, p, "", self->live_text[p], &self->live[p], err);
    }
    return code;
}

/* --- cleaning --- */

/* What a projection's keys are called behind their partition, up to the model's number. */
struct names {
    struct str all[MODEL_TABLES_MAX + 1];
    size_t count;
    char parked[TEXT_BYTES];
};

static void list_names(const struct projection *projection, struct names *names) {
    names->count = 0;
    for (size_t i = 0; i < projection->table_count; i++) {
        if (projection->tables[i]->stores & STORE_REDIS) {
            names->all[names->count++] = str_from(projection->tables[i]->redis_prefix);
        }
    }
    (void)snprintf(names->parked, sizeof(names->parked), "parked:%s", projection->name);
    names->all[names->count++] = str_from(names->parked);
}

/* `rest` is <name>#<M>:… or <name>#<M>, or the same without a number, which is model 0. */
static bool is_of(struct str rest, struct str name, int64_t *model) {
    if (!str_starts_with(rest, name)) {
        return false;
    }
    rest = str_of(rest.ptr + name.len, rest.len - name.len);
    *model = 0;
    if (rest.len > 0 && rest.ptr[0] == '#') {
        const char *colon = memchr(rest.ptr, ':', rest.len);
        const size_t len = colon != NULL ? (size_t)(colon - rest.ptr) : rest.len;
        return str_to_i64(str_of(rest.ptr + 1, len - 1), model);
    }
    return rest.len == 0 || rest.ptr[0] == ':'; /* else a longer name that begins like ours */
}

/* Of a model that is neither live nor being built. Numbers only grow: a higher one than ours is of
 * a build that began after ours. */
static bool is_leftover(const struct builder_redis *self, struct str key,
                        const struct names *names) {
    int64_t partition = -1;
    int64_t model = 0;
    const char *brace = key.len > 0 ? memchr(key.ptr, '}', key.len) : NULL;

    if (brace == NULL || !str_starts_with(key, STR("{p")) ||
        !str_to_i64(str_of(key.ptr + 2, (size_t)(brace - key.ptr) - 2), &partition) ||
        partition < 0 || partition >= self->options.partitions) {
        return false;
    }
    const struct str rest = str_of(brace + 1, key.len - (size_t)(brace + 1 - key.ptr));
    bool ours = false;
    for (size_t i = 0; !ours && i < names->count && rest.len > 0 && rest.ptr[0] == ':'; i++) {
        ours = is_of(str_of(rest.ptr + 1, rest.len - 1), names->all[i], &model);
    }
    const struct sink_checkpoint *live = &self->live[partition];
    return ours && model <= self->model && model != (checkpoint_exists(live) ? live->model : 0) &&
           !(self->building && model == self->model);
}

static enum err_code unlink_leftovers(struct builder_redis *self, const redisReply *keys,
                                      const struct names *names, struct err *err) {
    redisReply *reply = NULL;
    size_t count = 0;

    redis_link_begin(&self->link);
    redis_link_put(&self->link, STR("UNLINK"));
    for (size_t i = 0; i < keys->elements; i++) {
        const struct str key = redis_reply_str(keys->element[i]);
        if (is_leftover(self, key, names)) {
            redis_link_put(&self->link, key);
            count++;
        }
    }
    if (count == 0) {
        return ERR_OK;
    }
    const enum err_code code = redis_link_call(&self->link, &reply, err);
    freeReplyObject(reply);
    return code;
}

/* The server looks at all its keys and sends those that begin like one of ours: a letter of the
 * name tells most others apart, so that one walk does for all names. */
static void put_scan(struct builder_redis *self, const char *cursor, const struct names *names) {
    char letters[MODEL_TABLES_MAX + 2] = "";

    for (size_t i = 0; i < names->count; i++) {
        letters[i] = names->all[i].ptr[0];
    }
    redis_link_begin(&self->link);
    redis_link_put(&self->link, STR("SCAN"));
    redis_link_put(&self->link, str_from(cursor));
    redis_link_put(&self->link, STR("MATCH"));
    redis_link_printf(&self->link, "{p*}:[%s]*", letters);
    redis_link_put(&self->link, STR("COUNT"));
    redis_link_put_number(&self->link, CLEAN_AT_ONCE);
}

static enum err_code clean_all(struct builder_redis *self, struct err *err) {
    struct names names;
    char cursor[32] = "0";
    enum err_code code = ERR_OK;

    list_names(self->options.projection, &names);
    do {
        redisReply *reply = NULL;
        put_scan(self, cursor, &names);
        code = redis_link_call(&self->link, &reply, err);
        if (code == ERR_OK &&
            (reply->elements != 2 ||
             !str_copy(cursor, sizeof(cursor), redis_reply_str(reply->element[0])))) {
            code = err_set(err, ERR_CORRUPT, "redis: SCAN answers something else");
        }
        if (code == ERR_OK) {
            code = unlink_leftovers(self, reply->element[1], &names, err);
        }
        freeReplyObject(reply);
    } while (code == ERR_OK && strcmp(cursor, "0") != 0);
    return code;
}

/* What is left of our claim. */
static enum err_code drop_claim(struct builder_redis *self, struct err *err) {
    enum err_code code = ERR_OK;

    for (int32_t p = 0; code == ERR_OK && p < self->options.partitions; p++) {
        redisReply *reply = NULL;
        code = read_one(self, p, "#build", self->built_text[p], &self->built[p], err);
        if (code != ERR_OK || !checkpoint_exists(&self->built[p]) ||
            self->built[p].model != self->model) {
            continue;
        }
        redis_link_begin(&self->link);
        redis_link_put(&self->link, STR("EVALSHA"));
        redis_link_put(&self->link, str_from(self->link.shas[DROP]));
        redis_link_put(&self->link, STR("1"));
        put_checkpoint_key(self, p, "#build");
        redis_link_put(&self->link, str_from(self->built_text[p]));
        code = redis_link_call(&self->link, &reply, err);
        freeReplyObject(reply);
        code =
            code == ERR_NOT_FOUND ? ERR_OK : code; /* a server without the script: let it stand */
    }
    return code;
}

static enum err_code builder_clean(struct model_builder *builder, struct err *err) {
    struct builder_redis *self = self_of(builder);

    self->building = false;
    enum err_code code = read_live(self, err);
    if (code == ERR_OK) {
        code = drop_claim(self, err);
    }
    return code == ERR_OK ? clean_all(self, err) : code;
}

/* --- building --- */

/* A number that no build has had: one that was given up may come to life again and write on, and is
 * to write where nobody looks. */
static enum err_code take_number(struct builder_redis *self, struct err *err) {
    redisReply *reply = NULL;
    enum err_code code = ERR_OK;
    int64_t taken = 0;

    for (bool first = true; code == ERR_OK && taken < self->model; first = false) {
        redis_link_begin(&self->link);
        redis_link_put(&self->link, STR("INCRBY"));
        redis_link_printf(&self->link, "daybook:models:%s", self->options.projection->name);
        redis_link_put_number(&self->link, first ? 1 : self->model - taken);
        code = redis_link_call(&self->link, &reply, err);
        taken = code == ERR_OK ? reply->integer : 0;
        freeReplyObject(reply);
    }
    self->model = taken;
    return code;
}

/* From now on a sink that builds with another number is refused. */
static enum err_code claim(struct builder_redis *self, const struct sink_checkpoint *at,
                           struct err *err) {
    enum err_code code = ERR_OK;

    for (int32_t p = 0; code == ERR_OK && p < self->options.partitions; p++) {
        redisReply *reply = NULL;
        redis_link_begin(&self->link);
        redis_link_put(&self->link, STR("SET"));
        put_checkpoint_key(self, p, "#build");
        redis_model_put_checkpoint(&self->link.bytes, at);
        redis_link_end(&self->link);
        code = redis_link_call(&self->link, &reply, err);
        freeReplyObject(reply);
    }
    return code;
}

static enum err_code builder_begin(struct model_builder *builder, int32_t partitions,
                                   struct sink_checkpoint *at, struct err *err) {
    struct builder_redis *self = self_of(builder);

    (void)partitions;
    self->building = false;
    enum err_code code = read_live(self, err);
    self->model = 1;
    for (int32_t p = 0; code == ERR_OK && p < self->options.partitions; p++) {
        if (checkpoint_exists(&self->live[p]) && self->live[p].model >= self->model) {
            self->model = self->live[p].model + 1;
        }
    }
    code = code == ERR_OK ? take_number(self, err) : code;
    *at = (struct sink_checkpoint){.version = self->options.projection->version,
                                   .model = self->model};
    code = code == ERR_OK ? claim(self, at, err) : code;
    /* Once more: a build that was at work may have become live before our number was taken, and
     * looks like a leftover to whoever doesn't know. From the claim on none with a lower one can.
     */
    code = code == ERR_OK ? read_live(self, err) : code;
    code = code == ERR_OK ? clean_all(self, err) : code;
    self->building = true;
    return code;
}

static enum err_code builder_load(struct model_builder *builder, const struct model_table *table,
                                  struct model_load **out, struct err *err) {
    const struct builder_redis *self = self_of(builder);

    (void)err;
    *out = table->append_only && table->redis_list_max > 0
               ? load_redis_new(&self->link.options, table, self->model, 0)
               : NULL;
    return ERR_OK;
}

static enum err_code builder_seal(struct model_builder *builder, struct err *err) {
    (void)builder;
    (void)err;
    return ERR_OK;
}

static void put_swap(struct builder_redis *self, int32_t p) {
    const struct sink_checkpoint after = {
        .next = self->built[p].next,
        .version = self->built[p].version,
        .model = self->model,
        .epoch = checkpoint_exists(&self->live[p]) ? self->live[p].epoch + 1 : 0,
    };

    redis_link_begin(&self->link);
    redis_link_put(&self->link, STR("EVALSHA"));
    redis_link_put(&self->link, str_from(self->link.shas[SWAP]));
    redis_link_put(&self->link, STR("2"));
    put_checkpoint_key(self, p, "");
    put_checkpoint_key(self, p, "#build");
    redis_link_put(&self->link, str_from(self->live_text[p]));
    redis_link_put(&self->link, str_from(self->built_text[p]));
    redis_model_put_checkpoint(&self->link.bytes, &after);
    redis_link_end(&self->link);
}

static enum err_code swap_partition(struct builder_redis *self, int32_t p, struct err *err) {
    const int64_t reached = self->live[p].next;
    redisReply *reply = NULL;
    enum err_code code = read_one(self, p, "", self->live_text[p], &self->live[p], err);

    if (code == ERR_OK && checkpoint_exists(&self->live[p]) && self->live[p].model == self->model) {
        return ERR_OK; /* at an earlier try */
    }
    if (code == ERR_OK) {
        code = read_one(self, p, "#build", self->built_text[p], &self->built[p], err);
    }
    if (code == ERR_OK &&
        (!checkpoint_exists(&self->built[p]) || self->built[p].model != self->model)) {
        return err_set(err, ERR_FENCED, "redis: the build of %s is no longer this process's",
                       self->options.projection->name);
    }
    if (code == ERR_OK && self->built[p].next < self->live[p].next &&
        self->live[p].next != reached) {
        return err_set(err, ERR_CONFLICT, "redis: partition %" PRId32 " is ahead", p);
    }
    if (code == ERR_OK) {
        put_swap(self, p);
        code = redis_link_call(&self->link, &reply, err);
    }
    if (code == ERR_NOT_FOUND) {
        put_swap(self, p);
        code = redis_link_call(&self->link, &reply, err);
    }
    if (code == ERR_OK && reply->integer != 1) {
        code = err_set(err, ERR_CONFLICT, "redis: partition %" PRId32 " moved meanwhile", p);
    }
    freeReplyObject(reply);
    return code;
}

static enum err_code builder_swap(struct model_builder *builder, builder_reach_fn *reach, void *arg,
                                  struct err *err) {
    struct builder_redis *self = self_of(builder);
    enum err_code code = read_live(self, err);

    if (code == ERR_OK) {
        code = reach(arg, self->live, err);
    }
    for (int32_t p = 0; code == ERR_OK && p < self->options.partitions; p++) {
        code = swap_partition(self, p, err);
    }
    return code;
}

static void builder_free(struct model_builder *builder) {
    redis_link_release(&self_of(builder)->link);
    mem_free(self_of(builder));
}

enum err_code builder_redis_new(const struct builder_redis_options *options,
                                struct model_builder **out, struct err *err) {
    static const struct model_builder_ops ops = {
        .name = "redis",
        .begin = builder_begin,
        .load = builder_load,
        .seal = builder_seal,
        .swap = builder_swap,
        .clean = builder_clean,
        .free = builder_free,
    };
    struct redis_url url;
    const enum err_code code = redis_url_parse(str_from(options->url), &url, err);

    if (code != ERR_OK) {
        return code;
    }
    struct builder_redis *self = mem_zalloc(sizeof(*self));
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
                                 });
    *out = &self->base;
    return ERR_OK;
}
