/*
 * What the Redis key view's own files share; nobody else includes this.
 *
 *   view_redis.c        the connection: making, checking, losing it
 *   view_redis_ask.c    what is asked over it, and the answers
 *   view_redis_calls.c  what is in flight
 *   view_redis_row.c    an account's row: its request, its reply
 */
#ifndef DAYBOOK_ADAPTERS_VIEW_REDIS_INTERNAL_H
#define DAYBOOK_ADAPTERS_VIEW_REDIS_INTERNAL_H

#include <hiredis/async.h>
#include <hiredis/hiredis.h>

#include "common/adapters/redis_replies.h"
#include "common/adapters/redis_url.h"
#include "common/adapters/view_redis.h"
#include "common/adapters/view_redis_calls.h"
#include "common/ports/event_reader.h"
#include "common/runtime/backoff.h"

enum {
    VIEW_REDIS_REASON_BYTES = 256,
    VIEW_REDIS_ASK_BYTES = STREAM_ID_BYTES_MAX + 512,
    VIEW_REDIS_REPLY_BYTES_MAX = 64 * 1024, /* an account takes less than one */
};

struct host_lookup;

enum phase {
    PHASE_WAITING, /* for the next try */
    PHASE_RESOLVING,
    PHASE_CONNECTING,
    PHASE_CHECKING, /* connected; whether Redis speaks of the same partitions is not known yet */
    PHASE_READY,
    PHASE_REFUSED, /* connected; it does not */
};

struct view_redis {
    struct view_redis_options options;
    struct redis_url url;
    enum phase phase;
    struct host_lookup *lookup;
    size_t tries; /* to connect */
    redisAsyncContext *connection;
    int fd; /* of the connection */
    struct backoff backoff;
    int64_t phase_since_us;
    uint64_t step_timer;
    uint64_t limit_timer; /* set while anything is in flight */
    bool write_wanted;    /* hiredis has bytes to write */
    unsigned watched;     /* what the loop watches the socket for */
    enum err_code lost_code;
    bool closing; /* being freed: no call of `done` any more */
    bool check_in_flight;
    bool drop_due; /* the next step ends the connection and begins anew */
    bool ever_up;
    struct redis_replies replies;
    struct calls calls;
    struct buf key; /* of the account being asked for */
    struct buf ask;
    int64_t models[TOPIC_PARTITIONS_MAX]; /* which keys are live, as last heard */
    bool outdated[TOPIC_PARTITIONS_MAX];  /* what they hold is of a version before ours */
    int64_t model_heard_us[TOPIC_PARTITIONS_MAX];
    bool asked[TOPIC_PARTITIONS_MAX]; /* in this turn of the loop */
    enum view_state told_state;
    char told_reason[VIEW_REDIS_REASON_BYTES];
    bool told;
    struct metric_histogram *seconds;
    struct metric_gauge *in_flight_gauge;
    int64_t in_flight_told; /* of this view, in the gauge that all views share */
};

/* view_redis.c */

/*
 * What every reply callback does first; false: there is no answer. hiredis calls back without a
 * reply while it tears a connection down, before it says that it does: from the first such call on
 * nothing may be sent any more.
 */
bool view_redis_answered(struct view_redis *view, struct call *call, const void *reply);
/* Something was asked: the time limit runs. */
void view_redis_arm_limit(struct view_redis *view);

#endif
