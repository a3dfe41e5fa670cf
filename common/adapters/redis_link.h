/*
 * A projector's connection to Redis: bounded in time, re-made by itself with a back-off, with the
 * arguments of a command gathered in one buffer. Belongs to one thread.
 *
 *   redis_link_begin(link); redis_link_put(link, STR("GET")); …; reply = redis_link_call(link);
 */
#ifndef DAYBOOK_ADAPTERS_REDIS_LINK_H
#define DAYBOOK_ADAPTERS_REDIS_LINK_H

#include <hiredis.h>

#include "common/adapters/redis_url.h"
#include "common/base/buf.h"
#include "common/base/log.h"
#include "common/runtime/backoff.h"
#include "common/runtime/health.h"

enum { REDIS_LINK_BYTES_MAX = 64 * 1024 * 1024, REDIS_LINK_SCRIPTS_MAX = 4, REDIS_SHA_BYTES = 41 };

struct redis_link_options {
    struct redis_url url;
    int32_t partitions; /* must agree with what the keys were made for */
    int64_t timeout_ms;
    const char *const *scripts; /* loaded once per connection */
    size_t script_count;
    const char *name; /* for the log: the projection */
    struct log *log;
    struct health_component *health; /* told of every change; may be NULL */
};

struct redis_link {
    struct redis_link_options options;
    redisContext *redis; /* NULL when not connected */
    size_t awaited;      /* sent, and no reply taken yet */
    char shas[REDIS_LINK_SCRIPTS_MAX][REDIS_SHA_BYTES];
    struct backoff backoff;
    int64_t retry_at_us;
    struct buf bytes; /* the arguments of one call, back to back */
    size_t *ends;     /* end of each argument in bytes */
    size_t count, cap;
    const char **pointers;
    size_t *lengths;
};

void redis_link_init(struct redis_link *link, const struct redis_link_options *options);
void redis_link_release(struct redis_link *link);

/* Connected on return, or ERR_UNAVAILABLE. */
MUST_CHECK enum err_code redis_link_ensure(struct redis_link *link, struct err *err);
/* Says that the partition count is the one we make keys for: it may have been lost with the data.
 */
MUST_CHECK enum err_code redis_link_agree(struct redis_link *link, struct err *err);
/* Drops the connection and waits a little before the next. Returns ERR_UNAVAILABLE. */
enum err_code redis_link_failed(struct redis_link *link, const char *why, struct err *err);

void redis_link_begin(struct redis_link *link);
void redis_link_put(struct redis_link *link, struct str argument);
void redis_link_put_number(struct redis_link *link, int64_t argument);
void redis_link_printf(struct redis_link *link, const char *format, ...) PRINTF_LIKE(2, 3);
/* Ends an argument that was appended to link->bytes piece by piece. */
void redis_link_end(struct redis_link *link);

/* Sends what was gathered as one command. ERR_OK: *reply is the caller's (freeReplyObject) and is
 * no error reply. An error reply is ERR_UNAVAILABLE and drops the connection, but for NOSCRIPT:
 * ERR_NOT_FOUND, after the scripts were loaded again: gather and call once more. (With further
 * replies on their way it drops the connection, too; the next one has the scripts.) */
MUST_CHECK enum err_code redis_link_call(struct redis_link *link, redisReply **reply,
                                         struct err *err);
/* The same without a wait for the reply; each needs one redis_link_reply later. It leaves at the
 * next flush or wait for a reply. */
MUST_CHECK enum err_code redis_link_send(struct redis_link *link, struct err *err);
MUST_CHECK enum err_code redis_link_flush(struct redis_link *link, struct err *err);
MUST_CHECK enum err_code redis_link_reply(struct redis_link *link, redisReply **reply,
                                          struct err *err);

static inline struct str redis_reply_str(const redisReply *reply) {
    return reply->type == REDIS_REPLY_STRING || reply->type == REDIS_REPLY_STATUS
               ? str_of(reply->str, reply->len)
               : (struct str){0};
}

#endif
