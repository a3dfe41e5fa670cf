/*
 * The log view: events as they stand in the log, for people and programs that page through it or
 * follow it.
 *
 *  1. Pages over the whole log go by position, and end at the settled position: up to there every
 *     event that will ever be is visible. A smaller position may become visible after a larger one;
 *     so what lies beyond is not shown, however long it has been committed.
 *  2. Pages over one stream go by version; versions commit in order, so all that is visible is
 *     shown.
 *  3. A page looks at a limited part of the log. With filters it may hold few events, or none, and
 *     still say that there is more.
 *
 * Belongs to one event loop. It never blocks that loop; its answers come later, on the same loop.
 */
#ifndef DAYBOOK_PORTS_LOG_VIEW_H
#define DAYBOOK_PORTS_LOG_VIEW_H

#include <stdbool.h>

#include "common/base/err.h"
#include "common/domain/aggregate.h"
#include "common/ports/recorded_event.h"

enum { LOG_VIEW_LIMIT_MAX = 1000, LOG_VIEW_NAME_BYTES = 64, LOG_VIEW_SCAN_MAX = 100000 };

enum log_read {
    LOG_READ_EVENTS,    /* place, backwards, filters, limit */
    LOG_READ_AGGREGATE, /* id, aggregate_type, place (a version), backwards, limit */
    LOG_READ_EVENT,     /* event_id */
    LOG_READ_SETTLED,   /* nothing but `settled`, as it is now */
};

struct log_query {
    enum log_read read;
    struct str id; /* the stream's */
    struct uuid event_id;
    /* Forwards: the page begins behind this position or version (0: with the first). Backwards: it
     * begins before it (0: with the newest). */
    int64_t place;
    bool backwards;
    struct str aggregate_type; /* len 0: any; of AGGREGATE: the stream's */
    struct str event_type;     /* len 0: any */
    /* INT64_MIN, INT64_MAX: any. recorded_at is compared exactly; but events recorded more than an
     * hour apart from those beside them in the log may be missed. */
    int64_t from_us;
    int64_t to_us; /* exclusive */
    size_t limit;  /* 1 … LOG_VIEW_LIMIT_MAX */
};

/*
 * code: ERR_OK; ERR_NOT_FOUND: of AGGREGATE: there is no such stream, of EVENT: no such event;
 * ERR_TIMEOUT, ERR_UNAVAILABLE, ERR_CORRUPT: no answer.
 */
struct log_result {
    enum err_code code;
    const struct recorded_event *events;
    size_t count;
    bool more;            /* the log goes on behind `last` in the direction asked for */
    int64_t last;         /* where the page ended: `place` of the next one */
    int64_t settled;      /* of EVENTS and SETTLED */
    int64_t head_version; /* of AGGREGATE */
};

/* `result` is borrowed for the call. */
typedef void log_view_fn(void *arg, const struct log_result *result);

struct log_view {
    void *self;
    /*
     * ERR_OK: `done` will be called exactly once, later (never inside this call), within the view's
     * time limit. Otherwise it won't: ERR_UNAVAILABLE: not connected, or stopping; ERR_LIMIT: the
     * queue is full. The query is borrowed for the call.
     */
    enum err_code (*read)(void *self, const struct log_query *query, log_view_fn *done, void *arg);
};

#endif
