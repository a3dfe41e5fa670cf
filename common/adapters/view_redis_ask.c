#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/redis_model.h"
#include "common/adapters/view_redis_internal.h"
#include "common/adapters/view_redis_row.h"
#include "common/base/clock.h"
#include "common/base/hash.h"

/* A switch is noticed so late at most, and each thread notices by itself: for so long one may show
 * an account as the old model had it last, another as the new one has it. A key that is gone is
 * looked up elsewhere. Who waits for a version is told of the switch by the mark it changes. */
enum { MODEL_TRUSTED_US = 10000 };

/* Of the projection: the first one whose rows are strings. While replicas rebuild an older model
 * its rows are answered from elsewhere, without a word for each. */
enum { FIRST_VERSION_READ = 2 };

static void learn_model(struct view_redis *view, int32_t partition, const redisReply *reply) {
    struct sink_checkpoint at = {0};
    const bool known = reply->type == REDIS_REPLY_STRING &&
                       redis_model_parse_checkpoint(str_of(reply->str, reply->len), &at);

    view->models[partition] = known ? at.model : 0;
    view->outdated[partition] = known && at.version < FIRST_VERSION_READ;
    view->model_heard_us[partition] = clock_monotonic_us();
}

/* Which model of a partition is live stands in its checkpoint; see redis_model.h. */
static void on_checkpoint(redisAsyncContext *connection, void *raw, void *arg) {
    struct view_redis *view = connection->data;
    const int32_t partition = ((const struct call *)arg)->partition;

    if (view_redis_answered(view, arg, raw)) {
        learn_model(view, partition, raw);
    }
}

/* Who writes to a partition writes its checkpoint in the same step: it is the partition's mark. */
static void on_mark(redisAsyncContext *connection, void *raw, void *arg) {
    struct view_redis *view = connection->data;
    const struct call call = *(struct call *)arg;
    const redisReply *reply = raw;
    uint64_t mark = 0;

    const bool has_answer = view_redis_answered(view, arg, raw);
    if (view->closing) {
        return;
    }
    if (has_answer) {
        learn_model(view, call.partition, reply);
        mark = reply->type == REDIS_REPLY_STRING
                   ? hash_fnv1a(HASH_FNV1A_START, str_of(reply->str, reply->len))
                   : 0;
    }
    call.mark_done(call.arg, has_answer ? ERR_OK : view->lost_code, mark);
}

static struct call *ask_checkpoint(struct view_redis *view, int32_t partition,
                                   redisCallbackFn *fn) {
    char key[64];
    const char *argv[] = {"GET", key};
    struct call *call = calls_push(&view->calls);

    view->asked[partition] = true;
    (void)snprintf(key, sizeof(key), "{p%d}:checkpoint:accounts", partition);
    call->partition = partition;
    if (redisAsyncCommandArgv(view->connection, fn, call, 2, argv, NULL) != REDIS_OK) {
        assert(false);
    }
    return call;
}

/* Before the account, so that its answer comes before that one. */
static void ask_model(struct view_redis *view, int32_t partition, int64_t now_us) {
    if (!view->asked[partition] && now_us - view->model_heard_us[partition] > MODEL_TRUSTED_US) {
        (void)ask_checkpoint(view, partition, on_checkpoint);
    }
}

static void send_account(struct view_redis *view, const struct call *request);

static void on_account(redisAsyncContext *connection, void *raw, void *arg) {
    struct view_redis *view = connection->data;
    const struct call call = *(struct call *)arg;
    struct account_view account = {0};

    const bool has_answer = view_redis_answered(view, arg, raw);
    if (view->closing) {
        return;
    }
    if (has_answer && call.model != view->models[call.partition]) {
        send_account(view, &call); /* the model was switched: these were the old one's keys */
        return;
    }
    enum err_code code = view->lost_code;
    if (has_answer) {
        code =
            view->outdated[call.partition] ? ERR_UNAVAILABLE : view_redis_row_read(raw, &account);
    }
    metric_observe(view->seconds, clock_monotonic_us() - call.sent_us);
    metric_move(view->in_flight_gauge, (int64_t)view->calls.count - view->in_flight_told);
    view->in_flight_told = (int64_t)view->calls.count;
    call.done(call.arg, code, code == ERR_OK ? &account : NULL);
}

static void send_account(struct view_redis *view, const struct call *request) {
    const int64_t model = view->models[request->partition];
    struct call *call = calls_push(&view->calls);
    struct buf *key = &view->key;

    calls_copy(call, request);
    call->model = model;
    buf_clear(key);
    buf_put_text(key, "{p");
    buf_put_i64(key, request->partition);
    buf_put_text(key, "}:account");
    buf_put_text(key, redis_model_suffix(model).text);
    buf_put_char(key, ':');
    buf_put_text(key, request->id);
    view_redis_row_ask(&view->ask, buf_str(key));
    if (redisAsyncFormattedCommand(view->connection, on_account, call, view->ask.ptr,
                                   view->ask.len) != REDIS_OK) {
        assert(false);
    }
}

static enum err_code get_account(void *self, struct str id, key_view_fn *done, void *arg) {
    struct view_redis *view = self;
    struct call request = {.done = done, .arg = arg, .sent_us = clock_monotonic_us()};

    if (view->phase != PHASE_READY) {
        return ERR_UNAVAILABLE;
    }
    if (view->calls.count >= view->options.in_flight_max) {
        return ERR_LIMIT;
    }
    if (!str_copy(request.id, sizeof(request.id), id)) {
        return ERR_INVALID;
    }
    request.partition = hash_kafka_partition(id, view->options.partitions);
    ask_model(view, request.partition, request.sent_us);
    send_account(view, &request);
    view_redis_arm_limit(view);
    return ERR_OK;
}

static int32_t get_place(void *self, struct str id) {
    const struct view_redis *view = self;

    return hash_kafka_partition(id, view->options.partitions);
}

static enum err_code get_mark(void *self, int32_t place, key_mark_fn *done, void *arg) {
    struct view_redis *view = self;

    if (view->phase != PHASE_READY) {
        return ERR_UNAVAILABLE;
    }
    if (view->calls.count >= view->options.in_flight_max) {
        return ERR_LIMIT;
    }
    struct call *call = ask_checkpoint(view, place, on_mark);
    call->mark_done = done;
    call->arg = arg;
    view_redis_arm_limit(view);
    return ERR_OK;
}

struct key_view view_redis_keys(struct view_redis *view) {
    return (struct key_view){.self = view,
                             .place_count = view->options.partitions,
                             .account = get_account,
                             .place = get_place,
                             .mark = get_mark};
}
