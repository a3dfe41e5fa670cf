/* A projection's sink in memory, for tests: the same contract. One thread. */
#ifndef DAYBOOK_ADAPTERS_SINK_MEM_H
#define DAYBOOK_ADAPTERS_SINK_MEM_H

#include "common/ports/projection_sink.h"

enum { SINK_MEM_ANY = -1 };

/* `store`: which tables it is to keep, as if it were that store. */
struct projection_sink *sink_mem_new(const struct projection *projection, unsigned store);
/* The stored row with the key cells of `key`, or NULL; borrowed until the next apply. */
const struct row *sink_mem_find(const struct projection_sink *sink, const struct row *key);
/* How often it was written to, with success or not: a call that does several partitions in one step
 * is one. What fails before its work is none. */
uint64_t sink_mem_steps(const struct projection_sink *sink);
/* All data gone, as after a FLUSHALL. */
void sink_mem_lose(struct projection_sink *sink);
/* The next apply fails with `code`; before its work, or after it when `after`. */
void sink_mem_fail_next(struct projection_sink *sink, enum err_code code, bool after);
/* The next apply of this partition fails, before its work. */
void sink_mem_fail_in(struct projection_sink *sink, int32_t partition, enum err_code code);
/* From now on partitions share no step, as in Redis; none is tried behind an outage. */
void sink_mem_apart(struct projection_sink *sink);
/* Every batch with a row of this text key is refused as ERR_INVALID from now on; "": none is. */
void sink_mem_refuse(struct projection_sink *sink, const char *key);

#endif
