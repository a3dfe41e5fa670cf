/* The hash that holds an account in Redis: its fields, and how a reply to HMGET of them is read. */
#ifndef DAYBOOK_ADAPTERS_VIEW_REDIS_HASH_H
#define DAYBOOK_ADAPTERS_VIEW_REDIS_HASH_H

#include <hiredis/hiredis.h>

#include "common/ports/key_view.h"

enum { VIEW_REDIS_HASH_FIELDS = 7 };

/* In the order in which they are asked for. */
extern const char *const view_redis_hash_fields[VIEW_REDIS_HASH_FIELDS];

/*
 * ERR_OK fills the zeroed `out`. ERR_NOT_FOUND: none of the fields is there. ERR_UNAVAILABLE: Redis
 * answers with an error that is not about this key. ERR_CORRUPT: anything else.
 */
MUST_CHECK enum err_code view_redis_hash_read(const redisReply *reply, struct account_view *out);

#endif
