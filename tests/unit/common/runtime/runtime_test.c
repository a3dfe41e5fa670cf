/* Queue, loop, metrics, health, back-off. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "common/runtime/backoff.h"
#include "common/runtime/health.h"
#include "common/runtime/loop.h"
#include "common/runtime/metrics.h"
#include "common/runtime/queue.h"
#include "common/runtime/stop.h"

Test(queue, is_bounded_and_keeps_its_order) {
    struct queue *queue = queue_new(3);
    int items[4];
    void *taken[4];

    for (int i = 0; i < 3; i++) {
        cr_assert(queue_try_push(queue, &items[i]));
    }
    cr_assert_not(queue_try_push(queue, &items[3]));
    cr_assert_eq(queue_pop_many(queue, taken, 2, 0), 2);
    cr_assert_eq(taken[0], &items[0]);
    cr_assert_eq(taken[1], &items[1]);
    cr_assert_eq(queue_pop_many(queue, taken, 4, 0), 1);
    cr_assert_eq(queue_pop_many(queue, taken, 4, 10), 0, "waits no longer than told");
    queue_close(queue);
    cr_assert_not(queue_try_push(queue, &items[0]));
    cr_assert_eq(queue_pop_many(queue, taken, 4, -1), 0, "closed and empty");
    queue_free(queue);
}

struct traffic {
    struct queue *queue;
    size_t sum;
};

static void *produce(void *arg) {
    struct traffic *traffic = arg;
    static char items[1000];

    for (size_t i = 0; i < 1000; i++) {
        while (!queue_try_push(traffic->queue, &items[i])) {
            usleep(100);
        }
    }
    return NULL;
}

Test(queue, loses_nothing_between_threads, .timeout = 20) {
    struct traffic traffic = {queue_new(16), 0};
    pthread_t threads[3];
    void *taken[8];

    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(pthread_create(&threads[i], NULL, produce, &traffic), 0);
    }
    while (traffic.sum < 3000) {
        traffic.sum += queue_pop_many(traffic.queue, taken, 8, 1000);
    }
    for (size_t i = 0; i < 3; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    cr_assert_eq(queue_length(traffic.queue), 0);
    queue_free(traffic.queue);
}

struct loop_story {
    struct loop *loop;
    int pipe[2];
    char order[16];
    size_t count;
};

static void note(struct loop_story *story, char what) {
    story->order[story->count++] = what;
}

static void on_late(void *arg) {
    struct loop_story *story = arg;

    note(story, 'l');
    loop_stop(story->loop);
}

static void on_never(void *arg) {
    note(arg, '!');
}

static void on_posted(void *arg) {
    struct loop_story *story = arg;

    note(story, 'p');
    cr_assert_eq(write(story->pipe[1], "x", 1), 1);
}

static void on_readable(void *arg, int fd, unsigned events) {
    struct loop_story *story = arg;
    char c;

    cr_assert_eq(events, LOOP_READ);
    cr_assert_eq(read(fd, &c, 1), 1);
    note(story, 'r');
    cr_assert_neq(loop_after(story->loop, 2000, on_late, story), 0);
}

static void *post_to(void *arg) {
    struct loop_story *story = arg;

    cr_assert(loop_post(story->loop, on_posted, story));
    return NULL;
}

Test(loop, runs_posts_descriptors_and_timers, .timeout = 10) {
    struct loop_story story = {0};
    pthread_t thread;

    cr_assert_eq(pipe(story.pipe), 0);
    cr_assert_eq(loop_new(&story.loop, NULL), ERR_OK);
    cr_assert_eq(loop_watch(story.loop, story.pipe[0], LOOP_READ, on_readable, &story, NULL),
                 ERR_OK);
    loop_cancel(story.loop, loop_after(story.loop, 1000, on_never, &story));
    cr_assert_eq(pthread_create(&thread, NULL, post_to, &story), 0);
    loop_run(story.loop);
    (void)pthread_join(thread, NULL);
    cr_assert_eq(memcmp(story.order, "prl", 4), 0, "%s", story.order);
    loop_free(story.loop);
}

Test(metrics, are_rendered_by_family) {
    struct metrics *metrics = metrics_new();
    static const int64_t bounds[] = {1000, 2500000};
    struct buf text;

    buf_init(&text, 65536);
    metric_add(metrics_counter(metrics, "a_total", "x=\"1\"", "A."), 2);
    metric_set(metrics_gauge(metrics, "b", "", "B."), -4);
    metric_move(metrics_gauge(metrics, "b", "", "B."), 1);
    metric_add(metrics_counter(metrics, "a_total", "x=\"2\"", "A."), 1);
    metric_add(metrics_counter(metrics, "a_total", "x=\"1\"", "A."), 3);
    metric_set_micros(metrics_gauge(metrics, "c_seconds", "", "C."), 1500);
    struct metric_histogram *h =
        metrics_histogram(metrics, "d_seconds", "", "D.", bounds, 2, 1000000);
    metric_observe(h, 1000);
    metric_observe(h, 3000000);
    metrics_render(metrics, &text);
    cr_assert_not_null(strstr(text.ptr, "# HELP a_total A.\n# TYPE a_total counter\n"
                                        "a_total{x=\"1\"} 5\na_total{x=\"2\"} 1\n"));
    cr_assert_not_null(strstr(text.ptr, "\nb -3\n"));
    cr_assert_not_null(strstr(text.ptr, "\nc_seconds 0.0015\n"));
    cr_assert_not_null(strstr(text.ptr, "d_seconds_bucket{le=\"0.001\"} 1\n"
                                        "d_seconds_bucket{le=\"2.5\"} 1\n"
                                        "d_seconds_bucket{le=\"+Inf\"} 2\n"
                                        "d_seconds_sum 3.001\nd_seconds_count 2\n"));
    cr_assert_not_null(strstr(text.ptr, "process_resident_memory_bytes "));
    buf_release(&text);
    metrics_free(metrics);
}

Test(health, is_as_bad_as_its_worst_component) {
    struct health *health = health_new("x");
    struct health_component *a = health_component(health, "a");
    struct health_component *b = health_component(health, "b");
    struct buf text;

    cr_assert_not(health_ready(health), "starting");
    health_ok(a);
    health_ok(b);
    cr_assert(health_ready(health));
    health_degrade(b, "stream %s", "s");
    cr_assert(health_ready(health));
    health_fail(a, "down");
    cr_assert_not(health_ready(health));
    buf_init(&text, 4096);
    health_render(health, &text);
    cr_assert_str_eq(text.ptr,
                     "{\"status\":\"not_ready\",\"service\":\"x\",\"components\":["
                     "{\"name\":\"a\",\"status\":\"failed\",\"reason\":\"down\"},"
                     "{\"name\":\"b\",\"status\":\"degraded\",\"reason\":\"stream s\"}]}\n");
    health_ok(a);
    health_drain(health);
    cr_assert_not(health_ready(health));
    buf_release(&text);
    health_free(health);
}

Test(backoff, doubles_to_its_cap) {
    struct backoff backoff;

    backoff_init(&backoff, 100, 1000);
    for (int i = 0; i < 20; i++) {
        const int64_t full = i < 4 ? 100 << i : 1000;
        const int64_t wait = backoff_next_ms(&backoff);
        cr_assert_geq(wait, full / 2);
        cr_assert_leq(wait, full);
    }
    backoff_reset(&backoff);
    cr_assert_leq(backoff_next_ms(&backoff), 100);
}

Test(stop, ends_waits_and_stays_readable) {
    struct stop *stop;

    cr_assert_eq(stop_new_quiet(&stop, NULL), ERR_OK);
    cr_assert_not(stop_wait_ms(stop, 1));
    stop_request(stop);
    cr_assert(stop_wait_ms(stop, 60000));
    cr_assert(stop_requested(stop));
    stop_free(stop);
}
