/*
 * C11's threads as POSIX ones, for ThreadSanitizer, which knows these alone: a thread that
 * librdkafka starts by thrd_create ends the process at its first intercepted call, and its locks
 * count for nothing. glibc's types are the same bytes. Linked into all programs of SANITIZE=thread.
 */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "glibc's");
_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t), "glibc's");

struct start {
    thrd_start_t run;
    void *arg;
};

static pthread_mutex_t *mutex_of(mtx_t *mutex) {
    return (pthread_mutex_t *)(void *)mutex;
}

static pthread_cond_t *cond_of(cnd_t *cond) {
    return (pthread_cond_t *)(void *)cond;
}

static int outcome(int error) {
    switch (error) {
    case 0:
        return thrd_success;
    case ENOMEM:
        return thrd_nomem;
    case ETIMEDOUT:
        return thrd_timedout;
    case EBUSY:
        return thrd_busy;
    default:
        return thrd_error;
    }
}

static void *run(void *arg) {
    const struct start start = *(struct start *)arg;

    free(arg);
    return (void *)(intptr_t)start.run(start.arg);
}

int thrd_create(thrd_t *thread, thrd_start_t function, void *arg) {
    struct start *start = malloc(sizeof(*start));

    if (start == NULL) {
        return thrd_nomem;
    }
    *start = (struct start){function, arg};
    const int error = pthread_create(thread, NULL, run, start);
    if (error != 0) {
        free(start);
    }
    return outcome(error);
}

int thrd_join(thrd_t thread, int *result) {
    void *value = NULL;
    const int error = pthread_join(thread, &value);

    if (error == 0 && result != NULL) {
        *result = (int)(intptr_t)value;
    }
    return outcome(error);
}

int thrd_detach(thrd_t thread) {
    return outcome(pthread_detach(thread));
}

int mtx_init(mtx_t *mutex, int type) {
    pthread_mutexattr_t attributes;

    (void)pthread_mutexattr_init(&attributes);
    (void)pthread_mutexattr_settype(
        &attributes, (type & mtx_recursive) != 0 ? PTHREAD_MUTEX_RECURSIVE : PTHREAD_MUTEX_NORMAL);
    const int error = pthread_mutex_init(mutex_of(mutex), &attributes);
    (void)pthread_mutexattr_destroy(&attributes);
    return outcome(error);
}

void mtx_destroy(mtx_t *mutex) {
    (void)pthread_mutex_destroy(mutex_of(mutex));
}

int mtx_lock(mtx_t *mutex) {
    return outcome(pthread_mutex_lock(mutex_of(mutex)));
}

int mtx_trylock(mtx_t *mutex) {
    return outcome(pthread_mutex_trylock(mutex_of(mutex)));
}

int mtx_unlock(mtx_t *mutex) {
    return outcome(pthread_mutex_unlock(mutex_of(mutex)));
}

int cnd_init(cnd_t *cond) {
    return outcome(pthread_cond_init(cond_of(cond), NULL));
}

void cnd_destroy(cnd_t *cond) {
    (void)pthread_cond_destroy(cond_of(cond));
}

int cnd_signal(cnd_t *cond) {
    return outcome(pthread_cond_signal(cond_of(cond)));
}

int cnd_broadcast(cnd_t *cond) {
    return outcome(pthread_cond_broadcast(cond_of(cond)));
}

int cnd_wait(cnd_t *cond, mtx_t *mutex) {
    return outcome(pthread_cond_wait(cond_of(cond), mutex_of(mutex)));
}

int cnd_timedwait(cnd_t *restrict cond, mtx_t *restrict mutex,
                  const struct timespec *restrict until) {
    return outcome(pthread_cond_timedwait(cond_of(cond), mutex_of(mutex), until));
}
