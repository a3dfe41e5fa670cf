/*
 * An arena: memory that is released all at once, one per request or batch, never more than its
 * limit. Not thread-safe; it belongs to one owner at a time.
 */
#ifndef DAYBOOK_BASE_ARENA_H
#define DAYBOOK_BASE_ARENA_H

#include <stddef.h>

#include "common/base/str.h"

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used_bytes;          /* handed out since init or clear */
    size_t max_bytes;           /* what may be handed out at most */
    size_t block_bytes;         /* size of an ordinary block */
};

/* Allocates nothing yet. */
void arena_init(struct arena *arena, size_t block_bytes, size_t max_bytes);
/* Keeps one block for reuse. */
void arena_clear(struct arena *arena);
void arena_release(struct arena *arena);

/* Zeroed, aligned for any type; NULL when max_bytes would be exceeded. */
MUST_CHECK void *arena_alloc(struct arena *arena, size_t bytes);
/* count * size with overflow check. */
MUST_CHECK void *arena_array(struct arena *arena, size_t count, size_t size);
/* A copy with a NUL behind it (not counted in len). `ptr` is NULL when the limit would be exceeded.
 */
MUST_CHECK struct str arena_str(struct arena *arena, struct str text);
MUST_CHECK struct str arena_printf(struct arena *arena, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
