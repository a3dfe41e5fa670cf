/*
 * Rows of an append-only table whose newest ones stand in Redis as a list per stream, on their way
 * into a model that is being built: a partition's are kept in memory, only the newest of each
 * stream are sent, each list in one go. Nobody else writes these lists meanwhile: a model's number
 * is given to one build alone.
 */
#ifndef DAYBOOK_ADAPTERS_LOAD_REDIS_H
#define DAYBOOK_ADAPTERS_LOAD_REDIS_H

#include "common/adapters/redis_link.h"
#include "common/ports/model_builder.h"

/* `link` is copied but for its scripts. About kept_bytes (0: 32 MiB) are kept at most: what was
 * gathered in one half of them leaves, a piece with each call, while the other half fills. */
struct model_load *load_redis_new(const struct redis_link_options *link,
                                  const struct model_table *table, int64_t model,
                                  size_t kept_bytes);

#endif
