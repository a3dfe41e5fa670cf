/* The key view against a Redis that misbehaves on command: a thread that speaks just enough of the
 * protocol. */
#include "common/adapters/view_redis.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"

enum { LIMIT_US = 5000000, TIMEOUT_MS = 80 };

/* What the fake answers when asked for an account. */
enum manner { ANSWERS, IS_SILENT, HANGS_UP, SPEAKS_NONSENSE, SAYS_TOO_MUCH, IS_LOADING };

struct fake {
    int listener;
    uint16_t port;
    pthread_t thread;
    atomic_bool stopping;
    atomic_int manner;
    _Atomic(const char *) partitions; /* the reply to GET daybook:partitions; NULL: none */
    _Atomic(const char *)
        checkpoint;         /* the reply to GET {pN}:checkpoint:accounts; NULL: by manner */
    atomic_int checkpoints; /* asked for */
    atomic_int connections;
    atomic_int logins;
};

static struct fake fake;
static struct loop *loop;
static pthread_t loop_thread;
static struct metrics *metrics;
static struct view_redis *view;
static struct key_view keys;
static atomic_int state; /* enum view_state as last told */
static char reason[256];
static pthread_mutex_t reason_lock = PTHREAD_MUTEX_INITIALIZER;

/* --- the fake --- */

static void say(int fd, const char *text) {
    (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

static const char account[] = "$21\r\n5\topen\tUSD\t\\0\t700\t1\t2\r\n";

/* The same of the model with the number 2, one version later. */
static const char account_of_2[] = "$21\r\n6\topen\tUSD\t\\0\t700\t1\t2\r\n";

static void say_too_much(int fd) {
    static char text[200000];

    memset(text, 'x', sizeof(text) - 1);
    say(fd, "$199999\r\n");
    say(fd, text);
    say(fd, "\r\n");
}

/* One reply per command in what has come; commands arrive whole here. False: hang up. */
static bool reply(int fd, const char *text) {
    for (const char *at = strchr(text, '*'); at != NULL; at = strchr(at + 1, '*')) {
        const char *end = strchr(at + 1, '*');
        const size_t len = end != NULL ? (size_t)(end - at) : strlen(at);
        if (memmem(at, len, "AUTH", 4) != NULL || memmem(at, len, "SELECT", 6) != NULL) {
            atomic_fetch_add(&fake.logins, 1);
            say(fd, "+OK\r\n");
        } else if (memmem(at, len, "daybook:partitions", 18) != NULL) {
            const char *partitions = atomic_load(&fake.partitions);
            if (partitions != NULL) {
                say(fd, partitions);
            }
        } else if (memmem(at, len, "checkpoint", 10) != NULL &&
                   atomic_load(&fake.checkpoint) != NULL) {
            atomic_fetch_add(&fake.checkpoints, 1);
            say(fd, atomic_load(&fake.checkpoint));
        } else if (memmem(at, len, "account#2:", 10) != NULL) {
            say(fd, account_of_2);
        } else {
            switch ((enum manner)atomic_load(&fake.manner)) {
            case ANSWERS:
                say(fd, account);
                break;
            case IS_LOADING:
                say(fd, "-LOADING Redis is loading the dataset in memory\r\n");
                break;
            case SPEAKS_NONSENSE:
                say(fd, "HTTP/1.1 400 Bad Request\r\n\r\n");
                break;
            case SAYS_TOO_MUCH:
                say_too_much(fd);
                break;
            case HANGS_UP:
                return false;
            case IS_SILENT:
            default:
                break;
            }
        }
    }
    return true;
}

static void converse(int fd) {
    char text[65536];
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    while (!atomic_load(&fake.stopping)) {
        if (poll(&ready, 1, 5) <= 0) {
            continue;
        }
        const ssize_t got = recv(fd, text, sizeof(text) - 1, 0);
        if (got <= 0) {
            break;
        }
        text[got] = '\0';
        if (!reply(fd, text)) {
            break;
        }
    }
    (void)close(fd);
}

static void *serve(void *arg) {
    struct pollfd ready = {.fd = fake.listener, .events = POLLIN};

    (void)arg;
    while (!atomic_load(&fake.stopping)) {
        if (poll(&ready, 1, 5) > 0) {
            const int fd = accept4(fake.listener, NULL, NULL, SOCK_CLOEXEC);
            if (fd >= 0) {
                atomic_fetch_add(&fake.connections, 1);
                converse(fd);
            }
        }
    }
    return NULL;
}

static void listen_on(uint16_t port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t len = sizeof(at);
    const int on = 1;

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    fake.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(fake.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    cr_assert_eq(bind(fake.listener, (const struct sockaddr *)&at, sizeof(at)), 0);
    cr_assert_eq(listen(fake.listener, 16), 0);
    (void)getsockname(fake.listener, (struct sockaddr *)&at, &len);
    fake.port = ntohs(at.sin_port);
}

/* --- the view --- */

static void on_state(void *arg, enum view_state now, const char *why) {
    (void)arg;
    pthread_mutex_lock(&reason_lock);
    (void)snprintf(reason, sizeof(reason), "%s", why);
    pthread_mutex_unlock(&reason_lock);
    atomic_store(&state, (int)now);
}

static void *run(void *arg) {
    loop_run(arg);
    return NULL;
}

static void start_view(const char *login, const char *path) {
    char url[128];
    struct err err = {0};

    (void)snprintf(url, sizeof(url), "redis://%s127.0.0.1:%u%s", login, (unsigned)fake.port, path);
    cr_assert_eq(loop_new(&loop, &err), ERR_OK);
    metrics = metrics_new();
    const struct view_redis_options options = {.url = url,
                                               .partitions = 6,
                                               .request_timeout_ms = TIMEOUT_MS,
                                               .connect_timeout_ms = 500,
                                               .in_flight_max = 3,
                                               .loop = loop,
                                               .metrics = metrics,
                                               .listener = {.changed = on_state}};
    cr_assert_eq(view_redis_new(&options, &view, &err), ERR_OK, "%s", err.message);
    keys = view_redis_keys(view);
    cr_assert_eq(pthread_create(&loop_thread, NULL, run, loop), 0);
}

static void start_fake(void) {
    cr_assert_eq(pthread_create(&fake.thread, NULL, serve, NULL), 0);
}

static void set_up(void) {
    atomic_store(&fake.partitions, "$1\r\n6\r\n");
    listen_on(0);
}

static void tear_down(void) {
    loop_stop(loop);
    (void)pthread_join(loop_thread, NULL);
    view_redis_free(view);
    metrics_free(metrics);
    loop_free(loop);
    atomic_store(&fake.stopping, true);
    (void)pthread_join(fake.thread, NULL);
    (void)close(fake.listener);
}

TestSuite(view_redis_faults, .init = set_up, .fini = tear_down, .timeout = 30);

/* --- asking --- */

struct ask {
    atomic_bool answered;
    bool refused;
    enum err_code code;
    struct account_view account;
};

static void on_key(void *arg, enum err_code code, const struct account_view *found) {
    struct ask *ask = arg;

    ask->code = code;
    ask->account = found != NULL ? *found : (struct account_view){0};
    atomic_store(&ask->answered, true);
}

static void post_key(void *arg) {
    struct ask *ask = arg;
    const enum err_code code = keys.account(keys.self, STR("a1"), on_key, ask);

    if (code != ERR_OK) {
        ask->code = code;
        ask->refused = true;
        atomic_store(&ask->answered, true);
    }
}

static enum err_code ask_once(struct ask *ask) {
    const int64_t limit_us = clock_monotonic_us() + LIMIT_US;

    *ask = (struct ask){0};
    cr_assert(loop_post(loop, post_key, ask));
    while (!atomic_load(&ask->answered)) {
        cr_assert_lt(clock_monotonic_us(), limit_us, "no answer");
        (void)usleep(200);
    }
    return ask->code;
}

static void until_state(enum view_state wanted) {
    const int64_t limit_us = clock_monotonic_us() + LIMIT_US;

    while (atomic_load(&state) != (int)wanted) {
        cr_assert_lt(clock_monotonic_us(), limit_us, "the view does not get into state %d", wanted);
        (void)usleep(200);
    }
}

static bool reason_has(const char *text) {
    pthread_mutex_lock(&reason_lock);
    const bool found = strstr(reason, text) != NULL;
    pthread_mutex_unlock(&reason_lock);
    return found;
}

/* --- tests --- */

Test(view_redis_faults, logs_in_chooses_the_database_and_reads) {
    struct ask ask;
    start_fake();
    start_view("me:secret@", "/3");

    until_state(VIEW_UP);
    cr_expect_eq(atomic_load(&fake.logins), 2);
    cr_expect_eq(ask_once(&ask), ERR_OK);
    cr_expect_eq(ask.account.version, 5);
    cr_expect_eq(ask.account.balance_minor, 700);
    cr_expect_str_empty(ask.account.owner);
}

Test(view_redis_faults, silence_is_a_time_out_and_then_a_refusal) {
    struct ask ask;
    start_fake();
    start_view("", "");
    until_state(VIEW_UP);

    atomic_store(&fake.manner, IS_SILENT);
    atomic_store(&fake.partitions, NULL);
    const int64_t started_us = clock_monotonic_us();
    cr_expect_eq(ask_once(&ask), ERR_TIMEOUT);
    const int64_t took_us = clock_monotonic_us() - started_us;
    cr_expect_geq(took_us, (int64_t)(TIMEOUT_MS - 5) * 1000);
    cr_expect_lt(took_us, (int64_t)(TIMEOUT_MS + 500) * 1000);
    until_state(VIEW_DOWN);
    cr_expect_eq(ask_once(&ask), ERR_UNAVAILABLE);
    cr_expect(ask.refused, "it must not wait");

    atomic_store(&fake.manner, ANSWERS);
    atomic_store(&fake.partitions, "$1\r\n6\r\n");
    until_state(VIEW_UP);
    cr_expect_eq(ask_once(&ask), ERR_OK);
}

/* One question is lost; once the fake answers again the view is there again. */
static void expect_lost_and_back(enum manner manner) {
    struct ask ask;
    start_fake();
    start_view("", "");
    until_state(VIEW_UP);

    atomic_store(&fake.manner, (int)manner);
    cr_expect_eq(ask_once(&ask), ERR_UNAVAILABLE);
    until_state(VIEW_DOWN);
    atomic_store(&fake.manner, ANSWERS);
    until_state(VIEW_UP);
    cr_expect_eq(ask_once(&ask), ERR_OK);
}

Test(view_redis_faults, a_lost_connection_fails_what_is_in_flight_and_comes_back) {
    expect_lost_and_back(HANGS_UP);
    cr_expect_geq(atomic_load(&fake.connections), 2);
}

Test(view_redis_faults, what_is_not_redis_is_a_lost_connection) {
    expect_lost_and_back(SPEAKS_NONSENSE);
}

Test(view_redis_faults, a_reply_beyond_all_bounds_is_a_lost_connection) {
    expect_lost_and_back(SAYS_TOO_MUCH);
}

Test(view_redis_faults, the_live_model_is_not_asked_for_each_time_and_a_switch_is_noticed_soon) {
    enum { READS = 20, TRUSTED_US = 10000, SOON_US = 1000000 };
    struct ask ask;
    atomic_store(&fake.checkpoint, "$7\r\n5 2 0 0\r\n");
    start_fake();
    start_view("", "");
    until_state(VIEW_UP);

    int64_t began_us = clock_monotonic_us();
    for (int i = 0; i < READS; i++) {
        cr_assert_eq(ask_once(&ask), ERR_OK);
        cr_expect_eq(ask.account.version, 5);
    }
    cr_expect_leq(atomic_load(&fake.checkpoints),
                  1 + (clock_monotonic_us() - began_us) / TRUSTED_US);
    atomic_store(&fake.checkpoint, "$7\r\n5 2 2 0\r\n");
    began_us = clock_monotonic_us();
    while (ask_once(&ask) == ERR_OK && ask.account.version != 6) {
        cr_assert_lt(clock_monotonic_us() - began_us, SOON_US, "the old model is still read");
    }
    cr_expect_eq(ask.account.version, 6);
}

Test(view_redis_faults, a_model_of_a_version_before_ours_means_ask_elsewhere) {
    enum { SOON_US = 1000000 };
    struct ask ask;
    atomic_store(&fake.checkpoint, "$7\r\n5 1 0 0\r\n");
    start_fake();
    start_view("", "");
    until_state(VIEW_UP);

    cr_expect_eq(ask_once(&ask), ERR_UNAVAILABLE);
    cr_expect_not(ask.refused);
    atomic_store(&fake.checkpoint, "$7\r\n5 2 2 0\r\n");
    const int64_t began_us = clock_monotonic_us();
    while (ask_once(&ask) != ERR_OK) {
        cr_assert_lt(clock_monotonic_us() - began_us, SOON_US, "the new model is not read");
    }
    cr_expect_eq(ask.account.version, 6);
}

Test(view_redis_faults, an_error_answer_means_ask_elsewhere) {
    struct ask ask;
    start_fake();
    start_view("", "");
    until_state(VIEW_UP);

    atomic_store(&fake.manner, IS_LOADING);
    cr_expect_eq(ask_once(&ask), ERR_UNAVAILABLE);
    cr_expect_not(ask.refused);
}

Test(view_redis_faults, missing_partitions_are_waited_for) {
    struct ask ask;
    atomic_store(&fake.partitions, "$-1\r\n");
    start_fake();
    start_view("", "");

    const int64_t limit_us = clock_monotonic_us() + LIMIT_US;
    while (!reason_has("daybook:partitions is missing")) {
        cr_assert_lt(clock_monotonic_us(), limit_us);
        (void)usleep(200);
    }
    cr_expect_eq(atomic_load(&state), VIEW_STARTING);
    cr_expect_eq(ask_once(&ask), ERR_UNAVAILABLE);
    atomic_store(&fake.partitions, "$1\r\n6\r\n");
    until_state(VIEW_UP);
    cr_expect_eq(atomic_load(&fake.connections), 1);
}

Test(view_redis_faults, other_partitions_are_refused_with_both_numbers) {
    struct ask ask;
    atomic_store(&fake.partitions, "$2\r\n12\r\n");
    start_fake();
    start_view("", "");

    until_state(VIEW_WRONG);
    cr_expect(reason_has("12"));
    cr_expect(reason_has("6"));
    cr_expect_eq(ask_once(&ask), ERR_UNAVAILABLE);
}

Test(view_redis_faults, a_server_that_starts_later_is_found) {
    const uint16_t port = fake.port;
    struct ask ask;
    (void)close(fake.listener);
    start_view("", "");

    cr_expect_eq(ask_once(&ask), ERR_UNAVAILABLE);
    const int64_t limit_us = clock_monotonic_us() + LIMIT_US;
    while (!reason_has("connection failed")) {
        cr_assert_lt(clock_monotonic_us(), limit_us);
        (void)usleep(200);
    }
    cr_expect_eq(atomic_load(&state), VIEW_STARTING);
    listen_on(port);
    start_fake();
    until_state(VIEW_UP);
    cr_expect_eq(ask_once(&ask), ERR_OK);
}

static struct ask burst[8];

static void post_burst(void *arg) {
    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(burst); i++) {
        post_key(&burst[i]);
    }
}

Test(view_redis_faults, requests_in_flight_are_bounded) {
    size_t refused = 0;
    start_fake();
    start_view("", "");
    until_state(VIEW_UP);

    cr_assert(loop_post(loop, post_burst, NULL));
    const int64_t limit_us = clock_monotonic_us() + LIMIT_US;
    for (size_t i = 0; i < ARRAY_LEN(burst); i++) {
        while (!atomic_load(&burst[i].answered)) {
            cr_assert_lt(clock_monotonic_us(), limit_us);
            (void)usleep(200);
        }
        refused += burst[i].refused;
        cr_expect_eq(burst[i].code, burst[i].refused ? ERR_LIMIT : ERR_OK);
    }
    cr_expect_geq(refused, ARRAY_LEN(burst) - 3);
    cr_expect_lt(refused, ARRAY_LEN(burst));
}

Test(view_redis_faults, a_name_is_looked_up) {
    char url[64];
    struct err err = {0};
    struct ask ask;

    start_fake();
    start_view("", ""); /* for tear_down; the one below is what is tested */
#if defined(__SANITIZE_THREAD__)
    cr_skip_test("glibc looks names up in threads of its own, which the sanitizer can't follow");
#endif
    until_state(VIEW_UP);
    struct view_redis *numbered = view;
    loop_stop(loop);
    (void)pthread_join(loop_thread, NULL);
    view_redis_free(numbered);
    loop_free(loop);
    atomic_store(&state, VIEW_STARTING);

    (void)snprintf(url, sizeof(url), "redis://localhost:%u", (unsigned)fake.port);
    cr_assert_eq(loop_new(&loop, &err), ERR_OK);
    const struct view_redis_options options = {.url = url,
                                               .partitions = 6,
                                               .request_timeout_ms = TIMEOUT_MS,
                                               .connect_timeout_ms = 2000,
                                               .in_flight_max = 3,
                                               .loop = loop,
                                               .metrics = metrics,
                                               .listener = {.changed = on_state}};
    cr_assert_eq(view_redis_new(&options, &view, &err), ERR_OK, "%s", err.message);
    keys = view_redis_keys(view);
    cr_assert_eq(pthread_create(&loop_thread, NULL, run, loop), 0);
    until_state(VIEW_UP);
    cr_expect_eq(ask_once(&ask), ERR_OK);
}
