/*
 * A small event loop over epoll(7): file descriptors, timers, work posted from other threads, and a
 * hook at the end of each turn. One thread runs it; only loop_post, loop_wake and loop_stop may be
 * called from others.
 */
#ifndef DAYBOOK_RUNTIME_LOOP_H
#define DAYBOOK_RUNTIME_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"

struct loop;

enum { LOOP_READ = 1, LOOP_WRITE = 2, LOOP_TIMERS_MAX = 256, LOOP_HOOKS_MAX = 8 };

typedef void loop_fd_fn(void *arg, int fd, unsigned events);
typedef void loop_fn(void *arg);

MUST_CHECK enum err_code loop_new(struct loop **out, struct err *err);
void loop_free(struct loop *loop);

/* Level-triggered. Watching an fd again changes its events and callback; events 0 keeps it known
 * but silent. */
MUST_CHECK enum err_code loop_watch(struct loop *loop, int fd, unsigned events, loop_fd_fn *fn,
                                    void *arg, struct err *err);
void loop_unwatch(struct loop *loop, int fd);

/* Calls fn once after delay_us. Returns an id for loop_cancel; 0: too many timers. */
uint64_t loop_after(struct loop *loop, int64_t delay_us, loop_fn *fn, void *arg);
void loop_cancel(struct loop *loop, uint64_t timer_id);

/* Called at the end of each turn, before the loop sleeps, in the order added. The place to flush
 * what a turn gathered. */
void loop_on_turn(struct loop *loop, loop_fn *fn, void *arg);
/* Asks that the next sleep last at most this long; holds for one turn. Called from callbacks and
 * turn hooks. */
void loop_sleep_at_most(struct loop *loop, int64_t delay_us);

/* From any thread: runs fn(arg) on the loop's thread soon. Bounded (65,536 waiting): false when
 * full. */
MUST_CHECK bool loop_post(struct loop *loop, loop_fn *fn, void *arg);
/* From any thread: the hooks run (once more) before the loop sleeps again. */
void loop_wake(struct loop *loop);

/* Runs until loop_stop. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

#endif
