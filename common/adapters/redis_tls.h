/*
 * TLS for a connection to Redis (rediss:// URLs). hiredis speaks it from 1.0 on, where it was built
 * so (Debian 13; Debian 12 has 0.14): without it such URLs are refused at the start.
 */
#ifndef DAYBOOK_ADAPTERS_REDIS_TLS_H
#define DAYBOOK_ADAPTERS_REDIS_TLS_H

#include "common/adapters/redis_url.h"

struct redisContext;

bool redis_tls_available(void);
/* Right after connecting, also while a non-blocking connection is being made. The server's
 * certificate must be vouched for and name the URL's host. ERR_INVALID: a file of the URL can't be
 * used; ERR_UNAVAILABLE: the handshake failed. */
MUST_CHECK enum err_code redis_tls_start(struct redisContext *redis, const struct redis_url *url,
                                         struct err *err);

#endif
