/* A bounded queue of pointers between threads (many producers, many consumers). Its mutex guards
 * only the ring. */
#ifndef DAYBOOK_RUNTIME_QUEUE_H
#define DAYBOOK_RUNTIME_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/attr.h"

struct queue;

struct queue *queue_new(size_t capacity);
/* Must be empty or its items owned elsewhere. */
void queue_free(struct queue *queue);

/* False when full or closed. */
MUST_CHECK bool queue_try_push(struct queue *queue, void *item);
/* Pushes the first items, as many as there is room for, under one lock; returns how many. */
MUST_CHECK size_t queue_try_push_many(struct queue *queue, void *const *items, size_t count);
/* Takes up to `max` at once, in order; waits up to wait_ms (-1: for ever) for the first. 0:
 * timeout, or closed and empty. */
MUST_CHECK size_t queue_pop_many(struct queue *queue, void **items, size_t max, int64_t wait_ms);
/* No more pushes; what is inside can still be popped. */
void queue_close(struct queue *queue);
bool queue_closed(struct queue *queue);
size_t queue_length(struct queue *queue);

#endif
