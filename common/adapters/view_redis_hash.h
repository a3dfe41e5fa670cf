/* The hash that holds an account in Redis: its fields, and how a reply to the request is read. */
#ifndef DAYBOOK_ADAPTERS_VIEW_REDIS_HASH_H
#define DAYBOOK_ADAPTERS_VIEW_REDIS_HASH_H

#include <hiredis/hiredis.h>

#include "common/base/buf.h"
#include "common/ports/key_view.h"

/*
 * Makes `out` the request for all fields of the hash at `key`, in Redis' own protocol. All but the
 * key is the same each time, and having hiredis put it together from nine arguments is a large part
 * of what a read costs.
 */
void view_redis_hash_ask(struct buf *out, struct str key);

/*
 * ERR_OK fills the zeroed `out`. ERR_NOT_FOUND: none of the fields is there. ERR_UNAVAILABLE: Redis
 * answers with an error that is not about this key. ERR_CORRUPT: anything else.
 */
MUST_CHECK enum err_code view_redis_hash_read(const redisReply *reply, struct account_view *out);

#endif
