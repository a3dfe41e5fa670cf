#include "common/adapters/redis_replies.h"

#include <string.h>

enum { BLOCK_BYTES = 2048 };

/* hiredis 1.0 counts elements in a size_t. */
#if HIREDIS_MAJOR >= 1
typedef size_t element_count;
#else
typedef int element_count;
#endif

/* NULL: no room, which hiredis takes for out of memory. */
static redisReply *make(const redisReadTask *task, int type) {
    struct redis_replies *replies = task->privdata;

    if (task->parent == NULL) {
        /* The one before has been used: hiredis has one at a time. */
        arena_clear(&replies->arena);
    }
    redisReply *reply = arena_alloc(&replies->arena, sizeof(*reply));
    if (reply == NULL) {
        return NULL;
    }
    reply->type = type;
    if (task->parent != NULL) {
        const redisReply *parent = task->parent->obj;
        parent->element[task->idx] = reply;
    }
    return reply;
}

static void *make_string(const redisReadTask *task, char *text, size_t len) {
    struct redis_replies *replies = task->privdata;
    redisReply *reply = make(task, task->type);
    char *copy = reply != NULL ? arena_alloc(&replies->arena, len + 1) : NULL;

    if (copy == NULL) {
        return NULL;
    }
    memcpy(copy, text, len);
    reply->str = copy;
    reply->len = len;
    return reply;
}

static void *make_array(const redisReadTask *task, element_count count) {
    struct redis_replies *replies = task->privdata;
    redisReply *reply = make(task, REDIS_REPLY_ARRAY);

    if (reply == NULL) {
        return NULL;
    }
    reply->elements = (size_t)count;
    reply->element = arena_array(&replies->arena, reply->elements, sizeof(redisReply *));
    return reply->element != NULL ? reply : NULL;
}

static void *make_integer(const redisReadTask *task, long long value) {
    redisReply *reply = make(task, REDIS_REPLY_INTEGER);

    if (reply != NULL) {
        reply->integer = value;
    }
    return reply;
}

static void *make_nil(const redisReadTask *task) {
    return make(task, REDIS_REPLY_NIL);
}

/* All at once, when the next begins. */
static void free_nothing(void *reply) {
    (void)reply;
}

#if HIREDIS_MAJOR >= 1
/* Kinds of RESP3, which nobody asks for: NULL ends the connection. Without these functions hiredis
 * would hand on a small integer as the reply's address. */
static void *refuse_double(const redisReadTask *task, double value, char *text, size_t len) {
    (void)task;
    (void)value;
    (void)text;
    (void)len;
    return NULL;
}

static void *refuse_bool(const redisReadTask *task, int value) {
    (void)task;
    (void)value;
    return NULL;
}
#endif

static redisReplyObjectFunctions functions = {
    .createString = make_string,
    .createArray = make_array,
    .createInteger = make_integer,
    .createNil = make_nil,
#if HIREDIS_MAJOR >= 1
    .createDouble = refuse_double,
    .createBool = refuse_bool,
#endif
    .freeObject = free_nothing,
};

void redis_replies_init(struct redis_replies *replies, size_t max_bytes) {
    arena_init(&replies->arena, BLOCK_BYTES, max_bytes);
}

void redis_replies_release(struct redis_replies *replies) {
    arena_release(&replies->arena);
}

void redis_replies_use(struct redis_replies *replies, redisContext *connection) {
    connection->reader->fn = &functions;
    connection->reader->privdata = replies;
}
