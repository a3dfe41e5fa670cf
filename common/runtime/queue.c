#include "common/runtime/queue.h"

#include <assert.h>
#include <pthread.h>
#include <time.h>

#include "common/base/mem.h"

struct queue {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t filled;
    void **ring;
    size_t capacity;
    size_t first;
    size_t count;
    bool closed;
};

struct queue *queue_new(size_t capacity) {
    struct queue *queue = mem_zalloc(sizeof(*queue));
    pthread_condattr_t attr;

    assert(capacity > 0);
    queue->ring = mem_array(capacity, sizeof(void *));
    queue->capacity = capacity;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->filled, &attr);
    pthread_condattr_destroy(&attr);
    return queue;
}

void queue_free(struct queue *queue) {
    if (queue == NULL) {
        return;
    }
    pthread_cond_destroy(&queue->filled);
    pthread_mutex_destroy(&queue->lock);
    mem_free(queue->ring);
    mem_free(queue);
}

size_t queue_try_push_many(struct queue *queue, void *const *items, size_t count) {
    pthread_mutex_lock(&queue->lock);
    const size_t room = queue->closed ? 0 : queue->capacity - queue->count;
    const size_t fitting = count < room ? count : room;
    const bool was_empty = queue->count == 0;
    for (size_t i = 0; i < fitting; i++) {
        queue->ring[(queue->first + queue->count) % queue->capacity] = items[i];
        queue->count++;
    }
    if (was_empty && fitting > 0) {
        pthread_cond_signal(&queue->filled);
    }
    pthread_mutex_unlock(&queue->lock);
    return fitting;
}

bool queue_try_push(struct queue *queue, void *item) {
    return queue_try_push_many(queue, &item, 1) == 1;
}

static struct timespec deadline_after(int64_t ms) {
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

size_t queue_pop_many(struct queue *queue, void **items, size_t max, int64_t wait_ms) {
    const struct timespec deadline = deadline_after(wait_ms > 0 ? wait_ms : 0);
    int waited = 0;
    size_t taken = 0;

    pthread_mutex_lock(&queue->lock);
    while (queue->count == 0 && !queue->closed && waited == 0 && wait_ms != 0) {
        waited = wait_ms < 0 ? pthread_cond_wait(&queue->filled, &queue->lock)
                             : pthread_cond_timedwait(&queue->filled, &queue->lock, &deadline);
    }
    while (queue->count > 0 && taken < max) {
        items[taken++] = queue->ring[queue->first];
        queue->first = (queue->first + 1) % queue->capacity;
        queue->count--;
    }
    if (queue->count > 0) {
        pthread_cond_signal(&queue->filled); /* another consumer may take the rest */
    }
    pthread_mutex_unlock(&queue->lock);
    return taken;
}

void queue_close(struct queue *queue) {
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_cond_broadcast(&queue->filled);
    pthread_mutex_unlock(&queue->lock);
}

bool queue_closed(struct queue *queue) {
    pthread_mutex_lock(&queue->lock);
    const bool closed = queue->closed;
    pthread_mutex_unlock(&queue->lock);
    return closed;
}

size_t queue_length(struct queue *queue) {
    pthread_mutex_lock(&queue->lock);
    const size_t count = queue->count;
    pthread_mutex_unlock(&queue->lock);
    return count;
}
