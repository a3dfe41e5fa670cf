#include "common/adapters/view_redis_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/host_lookup.h"
#include "common/adapters/redis_tls.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

enum {
    RESOLVE_POLL_US = 2000,
    CHECK_EVERY_US = 2000000,
    CHECK_AGAIN_US = 250000, /* while the answer is no */
    BACKOFF_FIRST_MS = 50,
    BACKOFF_CAP_MS = 2000,
};

static void step(void *arg);

/* --- telling --- */

static void tell(struct view_redis *view, enum view_state state, const char *reason) {
    const struct view_state_listener *listener = &view->options.listener;

    if (view->told && state == view->told_state && strcmp(reason, view->told_reason) == 0) {
        return;
    }
    view->told = true;
    view->told_state = state;
    (void)snprintf(view->told_reason, sizeof(view->told_reason), "%s", reason);
    if (state == VIEW_UP) {
        log_info(view->options.log, log_event("redis.ready"), log_cstr("host", view->url.host));
    } else {
        log_warn(view->options.log, log_event("redis.unavailable"), log_cstr("reason", reason));
    }
    if (listener->changed != NULL) {
        listener->changed(listener->arg, state, reason);
    }
}

static void set_phase(struct view_redis *view, enum phase phase) {
    view->phase = phase;
    view->phase_since_us = clock_monotonic_us();
}

static void step_after(struct view_redis *view, int64_t delay_us) {
    loop_cancel(view->options.loop, view->step_timer);
    view->step_timer = loop_after(view->options.loop, delay_us, step, view);
    assert(view->step_timer != 0);
}

/* --- calls --- */

bool view_redis_answered(struct view_redis *view, struct call *call, const void *reply) {
    calls_pop(&view->calls, call);
    if (reply == NULL) {
        view->phase = PHASE_WAITING;
    }
    return reply != NULL && !view->closing;
}

/* --- losing and trying again --- */

/* Ends the connection; all in flight fail with `code`. Never from inside a hiredis callback. */
static void drop(struct view_redis *view, enum err_code code, const char *reason) {
    redisAsyncContext *connection = view->connection;

    host_lookup_free(view->lookup);
    view->lookup = NULL;
    view->lost_code = code;
    view->connection = NULL;
    set_phase(view, PHASE_WAITING);
    tell(view, view->ever_up ? VIEW_DOWN : VIEW_STARTING, reason);
    step_after(view, backoff_next_ms(&view->backoff) * 1000);
    if (connection != NULL) {
        redisAsyncFree(connection);
    }
}

/* hiredis has given up on the connection and frees it after this. */
static void lost(struct view_redis *view, const redisAsyncContext *connection) {
    char reason[VIEW_REDIS_REASON_BYTES];

    if (view->connection != connection) {
        return; /* we dropped it ourselves */
    }
    view->connection = NULL;
    view->lost_code = ERR_UNAVAILABLE;
    (void)snprintf(reason, sizeof(reason), "connection %s: %s",
                   view->phase == PHASE_CONNECTING ? "failed" : "lost",
                   connection->c.err != 0 ? connection->c.errstr : "closed");
    set_phase(view, PHASE_WAITING);
    tell(view, view->ever_up ? VIEW_DOWN : VIEW_STARTING, reason);
    step_after(view, backoff_next_ms(&view->backoff) * 1000);
}

static void check_limit(void *arg) {
    struct view_redis *view = arg;
    const int64_t limit_us = view->options.request_timeout_ms * 1000;

    view->limit_timer = 0;
    if (view->calls.oldest == NULL) {
        return;
    }
    const int64_t left_us = view->calls.oldest->sent_us + limit_us - clock_monotonic_us();
    if (left_us <= 0) {
        drop(view, ERR_TIMEOUT, "no answer within the time limit");
    } else {
        view->limit_timer = loop_after(view->options.loop, left_us, check_limit, view);
    }
}

void view_redis_arm_limit(struct view_redis *view) {
    if (view->limit_timer == 0) {
        view->limit_timer = loop_after(view->options.loop, view->options.request_timeout_ms * 1000,
                                       check_limit, view);
    }
}

/* --- hiredis on our loop --- */

static void on_socket(void *arg, int fd, unsigned events) {
    struct view_redis *view = arg;

    (void)fd;
    if ((events & LOOP_READ) != 0 && view->connection != NULL) {
        redisAsyncHandleRead(view->connection);
    }
    if ((events & LOOP_WRITE) != 0 && view->connection != NULL) {
        redisAsyncHandleWrite(view->connection);
    }
}

static void watch(struct view_redis *view, unsigned events) {
    struct err err = {0};

    if (view->connection == NULL || view->watched == events) {
        return;
    }
    if (loop_watch(view->options.loop, view->connection->c.fd, events, on_socket, view, &err) !=
        ERR_OK) {
        /* Without a watch the time limit ends what is in flight. */
        log_error(view->options.log, log_event("redis.watch_failed"), log_err(&err));
        return;
    }
    view->watched = events;
}

static void on_add_read(void *arg) {
    struct view_redis *view = arg;

    watch(view, view->watched | LOOP_READ);
}

static void on_del_read(void *arg) {
    struct view_redis *view = arg;

    watch(view, view->watched & ~(unsigned)LOOP_READ);
}

static void on_add_write(void *arg) {
    struct view_redis *view = arg;

    view->write_wanted = true;
}

static void on_del_write(void *arg) {
    struct view_redis *view = arg;

    view->write_wanted = false;
}

/* Called while the descriptor is still open. */
static void on_cleanup(void *arg) {
    struct view_redis *view = arg;

    loop_unwatch(view->options.loop, view->fd);
    view->watched = 0;
    view->write_wanted = false;
}

/* At the end of a turn: everything that the turn asked leaves in one write. */
static void flush(void *arg) {
    struct view_redis *view = arg;

    if (view->connection == NULL) {
        return;
    }
    memset(view->asked, 0, sizeof(view->asked));
    if (view->phase != PHASE_CONNECTING && view->write_wanted) {
        redisAsyncHandleWrite(view->connection);
    }
    if (view->connection != NULL) {
        watch(view, view->write_wanted ? LOOP_READ | LOOP_WRITE : LOOP_READ);
    }
}

/* --- the question of the partitions --- */

static void refuse(struct view_redis *view, enum view_state state, const char *reason) {
    set_phase(view, PHASE_REFUSED);
    tell(view, state, reason);
    step_after(view, CHECK_AGAIN_US);
}

static void judge_partitions(struct view_redis *view, const redisReply *reply) {
    char reason[VIEW_REDIS_REASON_BYTES];
    int64_t partitions = 0;

    if (reply->type == REDIS_REPLY_ERROR) {
        (void)snprintf(reason, sizeof(reason), "Redis answers: %s", reply->str);
        refuse(view, view->ever_up ? VIEW_DOWN : VIEW_STARTING, reason);
        view->drop_due = true; /* logging in anew may help */
    } else if (reply->type == REDIS_REPLY_NIL) {
        refuse(view, view->ever_up ? VIEW_DOWN : VIEW_STARTING,
               "the key daybook:partitions is missing: no projector has filled this Redis yet");
    } else if (reply->type != REDIS_REPLY_STRING ||
               !str_to_i64(str_of(reply->str, (size_t)reply->len), &partitions) ||
               partitions != view->options.partitions) {
        (void)snprintf(reason, sizeof(reason),
                       "the projectors use %.20s partitions (daybook:partitions), this process is "
                       "configured for %d (DAYBOOK_TOPIC_PARTITIONS)",
                       reply->type == REDIS_REPLY_STRING ? reply->str : "unreadable",
                       view->options.partitions);
        refuse(view, VIEW_WRONG, reason);
    } else {
        set_phase(view, PHASE_READY);
        view->ever_up = true;
        backoff_reset(&view->backoff);
        tell(view, VIEW_UP, "");
        step_after(view, CHECK_EVERY_US);
    }
}

static void on_own_reply(redisAsyncContext *connection, void *raw, void *arg) {
    struct view_redis *view = connection->data;
    const redisReply *reply = raw;

    if (view_redis_answered(view, arg, reply) && reply->type == REDIS_REPLY_ERROR) {
        /* AUTH or SELECT was refused: what comes after them will be as well, and says so. */
        log_warn(view->options.log, log_event("redis.refused"),
                 log_str("answer", str_of(reply->str, (size_t)reply->len)));
    }
}

static void on_partitions(redisAsyncContext *connection, void *raw, void *arg) {
    struct view_redis *view = connection->data;

    view->check_in_flight = false;
    if (view_redis_answered(view, arg, raw)) {
        judge_partitions(view, raw);
    }
}

static void send_own(struct view_redis *view, redisCallbackFn *fn, int argc, const char **argv) {
    struct call *call = calls_push(&view->calls);

    if (redisAsyncCommandArgv(view->connection, fn, call, argc, argv, NULL) != REDIS_OK) {
        /* Only a connection that is being torn down refuses, and ours is not. */
        assert(false);
    }
    view_redis_arm_limit(view);
}

static void ask_partitions(struct view_redis *view) {
    const char *argv[] = {"GET", "daybook:partitions"};

    if (!view->check_in_flight) {
        view->check_in_flight = true;
        send_own(view, on_partitions, 2, argv);
    }
    step_after(view, CHECK_EVERY_US);
}

/* --- connecting --- */

static void on_connected(const redisAsyncContext *connection, int status) {
    struct view_redis *view = connection->data;
    const char *auth[] = {"AUTH", view->url.user, view->url.password};
    const char *auth_old[] = {"AUTH", view->url.password};
    char database[24];

    if (status != REDIS_OK) {
        lost(view, connection);
        return;
    }
    set_phase(view, PHASE_CHECKING);
    if (view->url.user[0] != '\0') {
        send_own(view, on_own_reply, 3, auth);
    } else if (view->url.password[0] != '\0') {
        send_own(view, on_own_reply, 2, auth_old);
    }
    if (view->url.database != 0) {
        (void)snprintf(database, sizeof(database), "%lld", (long long)view->url.database);
        const char *select[] = {"SELECT", database};
        send_own(view, on_own_reply, 2, select);
    }
    ask_partitions(view);
}

static void on_disconnected(const redisAsyncContext *connection, int status) {
    (void)status;
    lost(connection->data, connection);
}

static void connect_to(struct view_redis *view, const char *address) {
    redisAsyncContext *connection = redisAsyncConnect(address, view->url.port);
    char reason[VIEW_REDIS_REASON_BYTES];

    if (connection == NULL || connection->err != 0) {
        (void)snprintf(reason, sizeof(reason), "connection failed: %s",
                       connection != NULL ? connection->errstr : "out of memory");
        if (connection != NULL) {
            redisAsyncFree(connection);
        }
        drop(view, ERR_UNAVAILABLE, reason);
        return;
    }
    struct err why = {0};
    if (view->url.tls && redis_tls_start(&connection->c, &view->url, &why) != ERR_OK) {
        redisAsyncFree(connection);
        drop(view, ERR_UNAVAILABLE, why.message);
        return;
    }
    view->connection = connection;
    view->fd = connection->c.fd;
    view->lost_code = ERR_UNAVAILABLE;
    view->check_in_flight = false;
    view->drop_due = false;
    view->watched = 0;
    view->write_wanted = false;
    memset(view->model_heard_us, 0, sizeof(view->model_heard_us));
    redis_replies_use(&view->replies, &connection->c);
    connection->data = view;
    connection->ev.data = view;
    connection->ev.addRead = on_add_read;
    connection->ev.delRead = on_del_read;
    connection->ev.addWrite = on_add_write;
    connection->ev.delWrite = on_del_write;
    connection->ev.cleanup = on_cleanup;
    set_phase(view, PHASE_CONNECTING);
    (void)redisAsyncSetDisconnectCallback(connection, on_disconnected);
    (void)redisAsyncSetConnectCallback(connection, on_connected); /* calls addWrite */
    watch(view, LOOP_READ | LOOP_WRITE);
    step_after(view, view->options.connect_timeout_ms * 1000);
}

static void resolve(struct view_redis *view) {
    char address[HOST_LOOKUP_TEXT_BYTES];
    struct err err = {0};

    switch (host_lookup_poll(view->lookup, view->tries, address, &err)) {
    case HOST_LOOKUP_DONE:
        host_lookup_free(view->lookup);
        view->lookup = NULL;
        connect_to(view, address);
        break;
    case HOST_LOOKUP_PENDING:
        if (clock_monotonic_us() - view->phase_since_us > view->options.connect_timeout_ms * 1000) {
            drop(view, ERR_UNAVAILABLE, "the host's address could not be found in time");
        } else {
            step_after(view, RESOLVE_POLL_US);
        }
        break;
    case HOST_LOOKUP_FAILED:
    default:
        drop(view, ERR_UNAVAILABLE, err.message);
        break;
    }
}

/* The step timer has come: what the phase waited for is due. */
static void step(void *arg) {
    struct view_redis *view = arg;

    view->step_timer = 0;
    switch (view->phase) {
    case PHASE_WAITING:
        view->lookup = host_lookup_new(view->url.host);
        view->tries++;
        set_phase(view, PHASE_RESOLVING);
        resolve(view);
        break;
    case PHASE_RESOLVING:
        resolve(view);
        break;
    case PHASE_CONNECTING:
        drop(view, ERR_UNAVAILABLE, "no connection within the time limit");
        break;
    case PHASE_CHECKING:
    case PHASE_READY:
    case PHASE_REFUSED:
        if (view->drop_due) {
            drop(view, ERR_UNAVAILABLE, "logging in anew after an error answer");
        } else {
            ask_partitions(view);
        }
        break;
    default:
        assert(false);
    }
}

/* --- life --- */

enum err_code view_redis_new(const struct view_redis_options *options, struct view_redis **out,
                             struct err *err) {
    struct view_redis *view = mem_zalloc(sizeof(*view));
    const enum err_code code = redis_url_parse(str_from(options->url), &view->url, err);

    if (code != ERR_OK) {
        mem_free(view);
        return code;
    }
    view->options = *options;
    buf_init(&view->key, VIEW_REDIS_ASK_BYTES);
    buf_init(&view->ask, VIEW_REDIS_ASK_BYTES);
    redis_replies_init(&view->replies, VIEW_REDIS_REPLY_BYTES_MAX);
    backoff_init(&view->backoff, BACKOFF_FIRST_MS, BACKOFF_CAP_MS);
    view->seconds = metrics_latency(options->metrics, "daybook_query_redis_seconds", "",
                                    "From asking Redis for an account to its answer.");
    view->in_flight_gauge = metrics_gauge(options->metrics, "daybook_query_redis_in_flight", "",
                                          "Requests that wait for Redis.");
    set_phase(view, PHASE_WAITING);
    loop_on_turn(options->loop, flush, view);
    step_after(view, 0);
    *out = view;
    return ERR_OK;
}

void view_redis_free(struct view_redis *view) {
    if (view == NULL) {
        return;
    }
    redisAsyncContext *connection = view->connection;
    view->closing = true;
    view->connection = NULL;
    loop_cancel(view->options.loop, view->step_timer);
    loop_cancel(view->options.loop, view->limit_timer);
    host_lookup_free(view->lookup);
    if (connection != NULL) {
        redisAsyncFree(connection);
    }
    calls_release(&view->calls);
    buf_release(&view->key);
    buf_release(&view->ask);
    redis_replies_release(&view->replies);
    mem_free(view);
}
