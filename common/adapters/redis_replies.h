/*
 * Where hiredis puts a reply: by itself an allocation for each element and each text of it, sixteen
 * for an account; here all of one reply lie in one arena. Belongs to one connection, whose replies
 * hiredis makes and frees one after the other.
 */
#ifndef DAYBOOK_ADAPTERS_REDIS_REPLIES_H
#define DAYBOOK_ADAPTERS_REDIS_REPLIES_H

#include <hiredis/hiredis.h>

#include "common/base/arena.h"

struct redis_replies {
    struct arena arena;
};

/* A reply of more than max_bytes is refused: hiredis then gives up the connection. (One string of
 * it hiredis gathers first, as long as the request's time lasts.) */
void redis_replies_init(struct redis_replies *replies, size_t max_bytes);
/* After the connection is gone. */
void redis_replies_release(struct redis_replies *replies);

/* From now on this connection's replies lie in `replies`; they live until the callback, or the
 * reader, is done with them and must not be given to freeReplyObject. */
void redis_replies_use(struct redis_replies *replies, redisContext *connection);

#endif
