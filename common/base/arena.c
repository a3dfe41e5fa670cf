#include "common/base/arena.h"

#include <stdalign.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/mem.h"

struct arena_block {
    struct arena_block *next; /* older */
    size_t size;              /* bytes in data */
    size_t used;
    alignas(max_align_t) unsigned char data[];
};

enum { ARENA_ALIGNMENT = alignof(max_align_t), ARENA_BLOCK_BYTES_MIN = 256 };

void arena_init(struct arena *arena, size_t block_bytes, size_t max_bytes) {
    *arena = (struct arena){
        .max_bytes = max_bytes,
        .block_bytes = block_bytes < ARENA_BLOCK_BYTES_MIN ? ARENA_BLOCK_BYTES_MIN : block_bytes,
    };
}

void arena_clear(struct arena *arena) {
    /* An ordinary block is the one worth keeping: a large one was somebody's exception. */
    struct arena_block *kept = NULL;
    struct arena_block *block = arena->blocks;
    while (block) {
        struct arena_block *next = block->next;
        if (!kept && block->size == arena->block_bytes) {
            kept = block;
        } else {
            mem_free(block);
        }
        block = next;
    }
    if (kept) {
        kept->next = NULL;
        kept->used = 0;
    }
    arena->blocks = kept;
    arena->used_bytes = 0;
}

void arena_release(struct arena *arena) {
    struct arena_block *block = arena->blocks;
    while (block) {
        struct arena_block *next = block->next;
        mem_free(block);
        block = next;
    }
    arena->blocks = NULL;
    arena->used_bytes = 0;
}

static struct arena_block *block_new(size_t size) {
    struct arena_block *block = mem_zalloc(sizeof *block + size);
    block->size = size;
    return block;
}

static struct arena_block *block_with_room(struct arena *arena, size_t bytes) {
    struct arena_block *newest = arena->blocks;
    if (newest && newest->size - newest->used >= bytes) {
        return newest;
    }
    if (newest && bytes > arena->block_bytes) {
        /* A block of its own, put behind the newest, whose rest stays in use. */
        struct arena_block *large = block_new(bytes);
        large->next = newest->next;
        newest->next = large;
        return large;
    }
    struct arena_block *block = block_new(bytes > arena->block_bytes ? bytes : arena->block_bytes);
    block->next = newest;
    arena->blocks = block;
    return block;
}

void *arena_alloc(struct arena *arena, size_t bytes) {
    size_t rounded;
    if (__builtin_add_overflow(bytes ? bytes : 1, (size_t)ARENA_ALIGNMENT - 1, &rounded)) {
        return NULL;
    }
    rounded &= ~((size_t)ARENA_ALIGNMENT - 1);
    /* used_bytes counts rounded sizes: what the limit bounds is memory. */
    if (rounded > arena->max_bytes || arena->used_bytes > arena->max_bytes - rounded) {
        return NULL;
    }
    struct arena_block *block = block_with_room(arena, rounded);
    void *ptr = block->data + block->used;
    block->used += rounded;
    arena->used_bytes += rounded;
    /* A block kept by arena_clear holds what was there before. */
    memset(ptr, 0, rounded);
    return ptr;
}

void *arena_array(struct arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        return NULL;
    }
    return arena_alloc(arena, bytes);
}

struct str arena_str(struct arena *arena, struct str text) {
    size_t bytes;
    char *copy = __builtin_add_overflow(text.len, 1, &bytes) ? NULL : arena_alloc(arena, bytes);
    if (!copy) {
        return (struct str){0};
    }
    if (text.len > 0) {
        memcpy(copy, text.ptr, text.len);
    }
    return str_of(copy, text.len);
}

struct str arena_printf(struct arena *arena, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = len < 0 ? NULL : arena_alloc(arena, (size_t)len + 1);
    if (text) {
        vsnprintf(text, (size_t)len + 1, format, again);
    }
    va_end(again);
    return text ? str_of(text, (size_t)len) : (struct str){0};
}
