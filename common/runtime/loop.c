#include "common/runtime/loop.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

enum { POSTS_MAX = 65536, EVENTS_PER_TURN = 64, WATCHES_MAX = 64 };

struct watch {
    int fd;
    bool used;
    unsigned events;
    loop_fd_fn *fn;
    void *arg;
};

struct call {
    loop_fn *fn;
    void *arg;
};

struct timer {
    uint64_t id; /* 0: free */
    int64_t due_us;
    struct call call;
};

/* The loop that this thread runs. */
static _Thread_local const struct loop *running_here;

struct loop {
    int epoll_fd;
    int wake_fd;
    atomic_bool stopping;
    atomic_bool awake; /* a wake-up is on its way: no need for another */
    struct watch watches[WATCHES_MAX];
    struct timer timers[LOOP_TIMERS_MAX];
    uint64_t next_timer_id;
    struct call hooks[LOOP_HOOKS_MAX];
    size_t hook_count;
    bool in_hooks;
    int64_t sleep_limit_us; /* for the next sleep only; -1: none */
    pthread_mutex_t lock;   /* guards posts and post_count */
    struct call *posts;     /* POSTS_MAX, grown on demand */
    size_t post_count;
    size_t post_cap;
    struct call *running; /* what the loop took from posts: the two arrays swap */
    size_t running_cap;
};

enum err_code loop_new(struct loop **out, struct err *err) {
    struct loop *loop = mem_zalloc(sizeof(*loop));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};

    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    loop->sleep_limit_us = -1;
    pthread_mutex_init(&loop->lock, NULL);
    if (loop->epoll_fd < 0 || loop->wake_fd < 0 ||
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &event) != 0) {
        const enum err_code code = err_set(err, ERR_INTERNAL, "event loop: %s", strerror(errno));
        loop_free(loop);
        return code;
    }
    *out = loop;
    return ERR_OK;
}

void loop_free(struct loop *loop) {
    if (loop == NULL) {
        return;
    }
    if (loop->epoll_fd >= 0) {
        (void)close(loop->epoll_fd);
    }
    if (loop->wake_fd >= 0) {
        (void)close(loop->wake_fd);
    }
    pthread_mutex_destroy(&loop->lock);
    mem_free(loop->posts);
    mem_free(loop->running);
    mem_free(loop);
}

/* The watch of this descriptor, or a free one, or NULL. */
static struct watch *find_watch(struct loop *loop, int fd) {
    struct watch *unused = NULL;

    for (size_t i = 0; i < WATCHES_MAX; i++) {
        struct watch *watch = &loop->watches[i];
        if (watch->used && watch->fd == fd) {
            return watch;
        }
        if (!watch->used && unused == NULL) {
            unused = watch;
        }
    }
    return unused;
}

enum err_code loop_watch(struct loop *loop, int fd, unsigned events, loop_fd_fn *fn, void *arg,
                         struct err *err) {
    struct watch *watch = find_watch(loop, fd);
    struct epoll_event event = {0};

    if (watch == NULL) {
        return err_set(err, ERR_LIMIT, "event loop: more than %d descriptors", WATCHES_MAX);
    }
    event.events = ((events & LOOP_READ) ? (uint32_t)EPOLLIN : 0) |
                   ((events & LOOP_WRITE) ? (uint32_t)EPOLLOUT : 0);
    event.data.ptr = watch;
    const int op = watch->used ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if ((!watch->used || watch->events != events) &&
        epoll_ctl(loop->epoll_fd, op, fd, &event) != 0) {
        return err_set(err, ERR_INTERNAL, "epoll_ctl: %s", strerror(errno));
    }
    *watch = (struct watch){.fd = fd, .used = true, .events = events, .fn = fn, .arg = arg};
    return ERR_OK;
}

void loop_unwatch(struct loop *loop, int fd) {
    for (size_t i = 0; i < WATCHES_MAX; i++) {
        if (loop->watches[i].used && loop->watches[i].fd == fd) {
            (void)epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
            loop->watches[i] = (struct watch){0};
            return;
        }
    }
}

uint64_t loop_after(struct loop *loop, int64_t delay_us, loop_fn *fn, void *arg) {
    for (size_t i = 0; i < LOOP_TIMERS_MAX; i++) {
        struct timer *timer = &loop->timers[i];
        if (timer->id == 0) {
            *timer = (struct timer){.id = ++loop->next_timer_id,
                                    .due_us = clock_monotonic_us() + delay_us,
                                    .call = {fn, arg}};
            return timer->id;
        }
    }
    return 0;
}

void loop_cancel(struct loop *loop, uint64_t timer_id) {
    for (size_t i = 0; timer_id != 0 && i < LOOP_TIMERS_MAX; i++) {
        if (loop->timers[i].id == timer_id) {
            loop->timers[i].id = 0;
        }
    }
}

void loop_on_turn(struct loop *loop, loop_fn *fn, void *arg) {
    assert(loop->hook_count < LOOP_HOOKS_MAX);
    loop->hooks[loop->hook_count++] = (struct call){fn, arg};
}

void loop_sleep_at_most(struct loop *loop, int64_t delay_us) {
    if (loop->sleep_limit_us < 0 || delay_us < loop->sleep_limit_us) {
        loop->sleep_limit_us = delay_us > 0 ? delay_us : 0;
    }
}

void loop_wake(struct loop *loop) {
    const uint64_t one = 1;

    if (running_here == loop) { /* it is awake; the hooks are still to come, or are under way */
        if (loop->in_hooks) {
            loop_sleep_at_most(loop, 0);
        }
        return;
    }
    if (!atomic_exchange(&loop->awake, true) && write(loop->wake_fd, &one, sizeof(one)) < 0) {
        /* The counter is full: the loop is awake already. */
    }
}

bool loop_post(struct loop *loop, loop_fn *fn, void *arg) {
    pthread_mutex_lock(&loop->lock);
    const bool fits = loop->post_count < POSTS_MAX;
    if (fits) {
        if (loop->post_count == loop->post_cap) {
            loop->post_cap = loop->post_cap > 0 ? loop->post_cap * 2 : 64;
            loop->posts = mem_resize(loop->posts, loop->post_cap, sizeof(struct call));
        }
        loop->posts[loop->post_count++] = (struct call){fn, arg};
    }
    pthread_mutex_unlock(&loop->lock);
    if (fits && running_here == loop) {
        loop_sleep_at_most(loop, 0);
    } else if (fits) {
        loop_wake(loop);
    }
    return fits;
}

void loop_stop(struct loop *loop) {
    atomic_store(&loop->stopping, true);
    loop_wake(loop);
}

static void run_posts(struct loop *loop) {
    pthread_mutex_lock(&loop->lock);
    struct call *calls = loop->posts;
    const size_t count = loop->post_count;
    const size_t cap = loop->post_cap;
    loop->posts = loop->running;
    loop->post_cap = loop->running_cap;
    loop->post_count = 0;
    pthread_mutex_unlock(&loop->lock);
    loop->running = calls;
    loop->running_cap = cap;
    for (size_t i = 0; i < count; i++) {
        calls[i].fn(calls[i].arg);
    }
}

static void run_timers(struct loop *loop) {
    const int64_t now_us = clock_monotonic_us();

    for (size_t i = 0; i < LOOP_TIMERS_MAX; i++) {
        struct timer *timer = &loop->timers[i];
        if (timer->id != 0 && timer->due_us <= now_us) {
            const struct call call = timer->call;
            timer->id = 0;
            call.fn(call.arg);
        }
    }
}

static int sleep_ms(struct loop *loop) {
    int64_t left_us = loop->sleep_limit_us;
    const int64_t now_us = clock_monotonic_us();

    loop->sleep_limit_us = -1;
    for (size_t i = 0; i < LOOP_TIMERS_MAX; i++) {
        const struct timer *timer = &loop->timers[i];
        if (timer->id == 0) {
            continue;
        }
        const int64_t due_us = timer->due_us > now_us ? timer->due_us - now_us : 0;
        left_us = left_us < 0 || due_us < left_us ? due_us : left_us;
    }
    if (left_us > INT64_C(3600000000)) {
        left_us = INT64_C(3600000000);
    }
    return left_us < 0 ? -1 : (int)((left_us + 999) / 1000);
}

static void dispatch(const struct epoll_event *event) {
    struct watch *watch = event->data.ptr;
    unsigned events = 0;

    if (watch == NULL || !watch->used) {
        return;
    }
    events |= (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) ? LOOP_READ : 0u;
    events |= (event->events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) ? LOOP_WRITE : 0u;
    events &= watch->events;
    if (events != 0) {
        watch->fn(watch->arg, watch->fd, events);
    }
}

/*
 * The flag is cleared only once the eventfd was seen readable. Clearing it earlier, while a waker
 * is between its exchange and its write, would leave the descriptor readable with nobody to drain
 * it, and the loop spinning.
 */
static void drain_wakes(struct loop *loop, const struct epoll_event *events, int count) {
    for (int i = 0; i < count; i++) {
        uint64_t drained;
        if (events[i].data.ptr == NULL) {
            (void)!read(loop->wake_fd, &drained, sizeof(drained));
            atomic_store(&loop->awake, false);
        }
    }
}

void loop_run(struct loop *loop) {
    struct epoll_event events[EVENTS_PER_TURN];

    running_here = loop;
    while (!atomic_load(&loop->stopping)) {
        loop->in_hooks = true;
        for (size_t i = 0; i < loop->hook_count; i++) {
            loop->hooks[i].fn(loop->hooks[i].arg);
        }
        loop->in_hooks = false;
        const int count = epoll_wait(loop->epoll_fd, events, EVENTS_PER_TURN, sleep_ms(loop));
        drain_wakes(loop, events, count);
        run_posts(loop);
        for (int i = 0; i < count; i++) {
            dispatch(&events[i]);
        }
        run_timers(loop);
    }
    running_here = NULL;
}
