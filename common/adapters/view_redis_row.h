/* The row that holds an account in Redis: how it is asked for, and how the reply is read. */
#ifndef DAYBOOK_ADAPTERS_VIEW_REDIS_ROW_H
#define DAYBOOK_ADAPTERS_VIEW_REDIS_ROW_H

#include <hiredis/hiredis.h>

#include "common/base/buf.h"
#include "common/ports/key_view.h"

/* Makes `out` the request for the row at `key`, in Redis' own protocol: hiredis' way to put one
 * together from its arguments costs several times as much. */
void view_redis_row_ask(struct buf *out, struct str key);

/*
 * ERR_OK fills the zeroed `out`. ERR_NOT_FOUND: there is no such key. ERR_UNAVAILABLE: Redis
 * answers with an error that is not about this key. ERR_CORRUPT: anything else.
 */
MUST_CHECK enum err_code view_redis_row_read(const redisReply *reply, struct account_view *out);

#endif
