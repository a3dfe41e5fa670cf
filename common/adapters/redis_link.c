#include "common/adapters/redis_link.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/redis_tls.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

void redis_link_init(struct redis_link *link, const struct redis_link_options *options) {
    assert(options->script_count <= REDIS_LINK_SCRIPTS_MAX);
    *link = (struct redis_link){.options = *options};
    buf_init(&link->bytes, REDIS_LINK_BYTES_MAX);
    backoff_init(&link->backoff, 50, 1000);
}

static void disconnect(struct redis_link *link) {
    if (link->redis != NULL) {
        redisFree(link->redis);
        link->redis = NULL;
    }
    link->awaited = 0;
}

void redis_link_release(struct redis_link *link) {
    disconnect(link);
    buf_release(&link->bytes);
    mem_free(link->ends);
    mem_free(link->pointers);
    mem_free(link->lengths);
}

/* --- arguments --- */

void redis_link_begin(struct redis_link *link) {
    buf_clear(&link->bytes);
    link->count = 0;
}

void redis_link_end(struct redis_link *link) {
    if (link->count == link->cap) {
        link->cap = link->cap > 0 ? 2 * link->cap : 256;
        link->ends = mem_resize(link->ends, link->cap, sizeof(size_t));
        link->pointers = mem_resize(link->pointers, link->cap, sizeof(char *));
        link->lengths = mem_resize(link->lengths, link->cap, sizeof(size_t));
    }
    link->ends[link->count++] = link->bytes.len;
}

void redis_link_put(struct redis_link *link, struct str argument) {
    buf_put_str(&link->bytes, argument);
    redis_link_end(link);
}

void redis_link_put_number(struct redis_link *link, int64_t argument) {
    buf_put_i64(&link->bytes, argument);
    redis_link_end(link);
}

void redis_link_printf(struct redis_link *link, const char *format, ...) {
    char text[512];
    va_list args;

    va_start(args, format);
    const int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    assert(len >= 0 && (size_t)len < sizeof(text));
    redis_link_put(link, str_of(text, (size_t)len));
}

/* --- calling --- */

enum err_code redis_link_failed(struct redis_link *link, const char *why, struct err *err) {
    const int64_t wait_ms = backoff_next_ms(&link->backoff);
    const enum err_code code = err_set(err, ERR_UNAVAILABLE, "redis: %s", why);

    if (link->options.health != NULL) {
        health_fail(link->options.health, "%s", why);
    }
    if (link->redis != NULL || link->backoff.tries == 1) {
        log_warn(link->options.log, log_event("redis.unavailable"),
                 log_cstr("projection", link->options.name), log_cstr("why", why),
                 log_i64("retry_in_ms", wait_ms));
    }
    disconnect(link); /* `why` may be the connection's */
    link->retry_at_us = clock_monotonic_us() + wait_ms * 1000;
    return code;
}

static void point(struct redis_link *link) {
    size_t start = 0;

    for (size_t i = 0; i < link->count; i++) {
        link->pointers[i] = link->bytes.ptr + start;
        link->lengths[i] = link->ends[i] - start;
        start = link->ends[i];
    }
}

enum err_code redis_link_send(struct redis_link *link, struct err *err) {
    if (buf_failed(&link->bytes)) {
        return err_set(err, ERR_LIMIT, "redis: a command over %d bytes", REDIS_LINK_BYTES_MAX);
    }
    point(link);
    if (redisAppendCommandArgv(link->redis, (int)link->count, link->pointers, link->lengths) !=
        REDIS_OK) {
        return redis_link_failed(link, link->redis->errstr, err);
    }
    link->awaited++;
    return ERR_OK;
}

enum err_code redis_link_flush(struct redis_link *link, struct err *err) {
    int done = 0;

    while (!done) {
        if (redisBufferWrite(link->redis, &done) != REDIS_OK) {
            return redis_link_failed(link, link->redis->errstr, err);
        }
    }
    return ERR_OK;
}

static enum err_code load_scripts(struct redis_link *link, struct err *err) {
    for (size_t i = 0; i < link->options.script_count; i++) {
        redisReply *reply = redisCommand(link->redis, "SCRIPT LOAD %s", link->options.scripts[i]);
        if (reply == NULL) {
            return redis_link_failed(link, link->redis->errstr, err);
        }
        const struct str sha = redis_reply_str(reply);
        const bool loaded = sha.len + 1 == REDIS_SHA_BYTES;
        if (loaded) {
            memcpy(link->shas[i], sha.ptr, REDIS_SHA_BYTES);
        }
        const enum err_code code =
            loaded ? ERR_OK
                   : redis_link_failed(link, reply->str != NULL ? reply->str : "SCRIPT LOAD", err);
        freeReplyObject(reply);
        if (code != ERR_OK) {
            return code;
        }
    }
    return ERR_OK;
}

enum err_code redis_link_reply(struct redis_link *link, redisReply **reply, struct err *err) {
    void *raw = NULL;

    if (redisGetReply(link->redis, &raw) != REDIS_OK || raw == NULL) {
        return redis_link_failed(link, link->redis->errstr, err);
    }
    *reply = raw;
    link->awaited--;
    if ((*reply)->type != REDIS_REPLY_ERROR) {
        return ERR_OK;
    }
    enum err_code code;
    if (strncmp((*reply)->str, "NOSCRIPT", 8) == 0 && link->awaited == 0) {
        /* A restarted or flushed server has forgotten them. */
        code = load_scripts(link, err);
        code = code == ERR_OK ? err_set(err, ERR_NOT_FOUND, "redis: scripts loaded anew") : code;
    } else if (strncmp((*reply)->str, "WRONGTYPE", 9) == 0) {
        code = err_set(err, ERR_CORRUPT, "redis: %s", (*reply)->str);
    } else {
        code = redis_link_failed(link, (*reply)->str, err);
    }
    freeReplyObject(*reply);
    *reply = NULL;
    return code;
}

enum err_code redis_link_call(struct redis_link *link, redisReply **reply, struct err *err) {
    const enum err_code code = redis_link_send(link, err);

    return code == ERR_OK ? redis_link_reply(link, reply, err) : code;
}

/* For set-up: any reply but an error will do. */
static enum err_code call_simply(struct redis_link *link, struct err *err) {
    redisReply *reply = NULL;
    const enum err_code code = redis_link_call(link, &reply, err);

    freeReplyObject(reply);
    return code;
}

/* --- connecting --- */

static enum err_code authenticate(struct redis_link *link, struct err *err) {
    const struct redis_url *url = &link->options.url;
    enum err_code code = ERR_OK;

    if (url->password[0] != '\0') {
        redis_link_begin(link);
        redis_link_put(link, STR("AUTH"));
        if (url->user[0] != '\0') {
            redis_link_put(link, str_from(url->user));
        }
        redis_link_put(link, str_from(url->password));
        code = call_simply(link, err);
    }
    if (code == ERR_OK && url->database != 0) {
        redis_link_begin(link);
        redis_link_put(link, STR("SELECT"));
        redis_link_put_number(link, url->database);
        code = call_simply(link, err);
    }
    return code;
}

/* The first projector writes the partition count, all others must agree with it. */
enum err_code redis_link_agree(struct redis_link *link, struct err *err) {
    redisReply *reply = NULL;
    int64_t stored = 0;

    redis_link_begin(link);
    redis_link_put(link, STR("SET"));
    redis_link_put(link, STR("daybook:partitions"));
    redis_link_put_number(link, link->options.partitions);
    redis_link_put(link, STR("NX"));
    enum err_code code = call_simply(link, err);
    if (code != ERR_OK) {
        return code;
    }
    redis_link_begin(link);
    redis_link_put(link, STR("GET"));
    redis_link_put(link, STR("daybook:partitions"));
    code = redis_link_call(link, &reply, err);
    if (code == ERR_OK && reply != NULL &&
        (!str_to_i64(redis_reply_str(reply), &stored) || stored != link->options.partitions)) {
        char why[128];
        (void)snprintf(
            why, sizeof(why),
            "its keys are made for %.16s partitions, DAYBOOK_TOPIC_PARTITIONS is %" PRId32,
            reply->str != NULL ? reply->str : "?", link->options.partitions);
        code = redis_link_failed(link, why, err);
    }
    freeReplyObject(reply);
    return code;
}

enum err_code redis_link_ensure(struct redis_link *link, struct err *err) {
    const int64_t now_us = clock_monotonic_us();
    const struct timeval timeout = {link->options.timeout_ms / 1000,
                                    (link->options.timeout_ms % 1000) * 1000};

    if (link->redis != NULL) {
        return ERR_OK;
    }
    if (now_us < link->retry_at_us) {
        return err_set(err, ERR_UNAVAILABLE, "redis: not connected");
    }
    link->redis = redisConnectWithTimeout(link->options.url.host, link->options.url.port, timeout);
    if (link->redis == NULL || link->redis->err != 0) {
        return redis_link_failed(link, link->redis != NULL ? link->redis->errstr : "out of memory",
                                 err);
    }
    (void)redisSetTimeout(link->redis, timeout);
    struct err why = {0};
    if (link->options.url.tls && redis_tls_start(link->redis, &link->options.url, &why) != ERR_OK) {
        return redis_link_failed(link, why.message, err);
    }
    enum err_code code = authenticate(link, err);
    if (code == ERR_OK) {
        code = load_scripts(link, err);
    }
    if (code == ERR_OK) {
        code = redis_link_agree(link, err);
    }
    if (code == ERR_OK) {
        backoff_reset(&link->backoff);
        if (link->options.health != NULL) {
            health_ok(link->options.health);
        }
        log_info(link->options.log, log_event("redis.connected"),
                 log_cstr("projection", link->options.name));
    }
    return code;
}
