#include "common/adapters/view_log_pg.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "common/adapters/event_row.h"
#include "common/adapters/log_horizon.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

enum {
    SETTLE_WAIT_US = 20000, /* for those who are about to commit, when a page begins */
    SETTLE_LOOK_NS = 2000000,
    NUMBER_BYTES = 24,
};
/* How far apart the clocks of those who record may be. */
#define CLOCK_SLACK_US INT64_C(3600000000)

/* Plans must not depend on how large the table was when they were made; times come as text. What is
 * switched off counts as immensely dear where it can't be avoided, as the order of a stream's page:
 * PostgreSQL would compile that plan anew each time, for a third of a second. */
static const char setup[] = "SET default_transaction_read_only = on; SET TimeZone = 'UTC';"
                            " SET DateStyle = 'ISO'; SET plan_cache_mode = force_generic_plan;"
                            " SET enable_seqscan = off; SET enable_sort = off; SET jit = off";

#define PAGE "SELECT " EVENT_ROW_COLUMNS " FROM daybook.events WHERE "
#define FILTERS                                           \
    " AND ($3::text IS NULL OR aggregate_type = $3)"      \
    " AND ($4::text IS NULL OR event_type = $4)"          \
    " AND ($5::timestamptz IS NULL OR recorded_at >= $5)" \
    " AND ($6::timestamptz IS NULL OR recorded_at < $6)"
#define STREAM                                                                    \
    "SELECT " EVENT_ROW_COLUMNS ", h.head"                                        \
    " FROM (SELECT max(version) AS head FROM daybook.events WHERE stream_id = $1" \
    "  AND aggregate_type = $2) h"                                                \
    " LEFT JOIN LATERAL (SELECT * FROM daybook.events WHERE stream_id = $1"       \
    "  AND aggregate_type = $2 AND "

static const struct pg_statement statements[] = {
    /* The snapshot is older than the list of locks: see log_horizon.h. */
    {"look",
     "SELECT coalesce((SELECT max(position) FROM daybook.events), 0),"
     " (SELECT string_agg(virtualtransaction, ' ') FROM pg_catalog.pg_locks"
     "  WHERE locktype = 'relation' AND relation = 'daybook.events'::regclass AND granted"
     "  AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())"
     "  AND mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',"
     "   'AccessExclusiveLock'))"},
    /* The last position before a time: halving, since times rise with positions, more or less. */
    {"position_before",
     "WITH RECURSIVE s(lo, hi) AS (SELECT 0::bigint, $2::bigint UNION ALL"
     " SELECT CASE WHEN e.position IS NULL OR e.recorded_at < $1::timestamptz"
     "   THEN (s.lo + s.hi + 1) / 2 ELSE s.lo END,"
     "  CASE WHEN e.position IS NULL OR e.recorded_at < $1::timestamptz"
     "   THEN s.hi ELSE e.position - 1 END"
     " FROM s LEFT JOIN LATERAL (SELECT position, recorded_at FROM daybook.events"
     "  WHERE position > s.lo AND position <= (s.lo + s.hi + 1) / 2"
     "  ORDER BY position DESC LIMIT 1) e ON true WHERE s.lo < s.hi)"
     " SELECT max(lo) FROM s"},
    {"events_forwards", PAGE "position > $1::bigint AND position <= $2::bigint" FILTERS
                             " ORDER BY position LIMIT $7::bigint"},
    {"events_backwards", PAGE "position > $1::bigint AND position <= $2::bigint" FILTERS
                              " ORDER BY position DESC LIMIT $7::bigint"},
    {"stream_forwards", STREAM "version > $3::bigint ORDER BY version LIMIT $4::bigint) e ON true"
                               " ORDER BY e.version"},
    {"stream_backwards",
     STREAM "version < $3::bigint ORDER BY version DESC LIMIT $4::bigint) e ON true"
            " ORDER BY e.version DESC"},
    {"event", PAGE "event_id = $1::uuid"},
    {"probe", "SELECT 1"},
};

struct view_log_pg {
    struct pg_pool *pool;
    pthread_mutex_t lock; /* guards horizon */
    struct log_horizon horizon;
};

struct view_log_pg_client {
    struct view_log_pg *log;
    struct pg_pool_client *base;
};

struct log_job {
    struct pg_job base;
    struct view_log_pg *log;
    struct log_query query;
    char id[STREAM_ID_BYTES_MAX + 1]; /* what the query's texts point to */
    char aggregate_type[LOG_VIEW_NAME_BYTES];
    char event_type[LOG_VIEW_NAME_BYTES];
    log_view_fn *done;
    void *arg;
    PGresult *rows; /* what the events point to */
    struct recorded_event *events;
    struct log_result result;
};

static struct log_job *self_of(struct pg_job *job) {
    return (struct log_job *)(void *)job;
}

/* --- parameters and rows, both as text --- */

struct number {
    char text[NUMBER_BYTES];
};

static struct pg_param number_param(struct number *number, int64_t value) {
    const int len = snprintf(number->text, sizeof(number->text), "%" PRId64, value);

    return (struct pg_param){.ptr = number->text, .len = len > 0 ? (size_t)len : 0};
}

static struct pg_param text_or_null(struct str text) {
    return (struct pg_param){.ptr = text.len > 0 ? text.ptr : NULL, .len = text.len};
}

/* Times beyond what PostgreSQL and RFC 3339 know are no bounds. */
static struct pg_param time_or_null(char text[CLOCK_RFC3339_BYTES], int64_t wall_us) {
    if (wall_us == INT64_MIN || wall_us == INT64_MAX) {
        return (struct pg_param){0};
    }
    const size_t len = clock_format_rfc3339(text, wall_us);
    return (struct pg_param){.ptr = text, .len = len};
}

static bool read_number(const PGresult *rows, int row, int column, int64_t *out) {
    return str_to_i64(pg_get_str(rows, row, column), out);
}

static enum err_code corrupt(struct err *err) {
    return err_set(err, ERR_CORRUPT, "the log's answer makes no sense");
}

/* Takes the rows; `count` of them become the result's events. */
static enum err_code take_rows(struct log_job *job, PGresult *rows, size_t count, struct err *err) {
    PQclear(job->rows);
    mem_free(job->events);
    job->rows = rows;
    job->events = mem_array(count + 1, sizeof(job->events[0]));
    for (size_t i = 0; i < count; i++) {
        struct str fields[EVENT_ROW_FIELDS];
        for (int j = 0; j < EVENT_ROW_FIELDS; j++) {
            fields[j] = pg_get_str(rows, (int)i, j);
        }
        const enum err_code code = event_row_decode(fields, &job->events[i], err);
        if (code != ERR_OK) {
            return code;
        }
    }
    job->result.events = job->events;
    job->result.count = count;
    return ERR_OK;
}

/* --- what is settled --- */

static enum err_code look(struct view_log_pg *log, struct pg_conn *connection, int64_t *newest,
                          int64_t *settled, struct err *err) {
    struct log_look seen = {0};
    PGresult *rows = NULL;

    pthread_mutex_lock(&log->lock);
    log_horizon_begin(&log->horizon, &seen);
    pthread_mutex_unlock(&log->lock);
    enum err_code code = pg_conn_run(connection, "look", NULL, 0, false, &rows, err);
    if (code != ERR_OK) {
        return code;
    }
    if (PQntuples(rows) != 1 || !read_number(rows, 0, 0, &seen.newest)) {
        code = corrupt(err);
    } else {
        log_look_set_holders(&seen, pg_get_str(rows, 0, 1));
        pthread_mutex_lock(&log->lock);
        log_horizon_advance(&log->horizon, &seen);
        *settled = log->horizon.settled;
        pthread_mutex_unlock(&log->lock);
        *newest = seen.newest;
    }
    PQclear(rows);
    return code;
}

/* What had been committed before is settled as soon as those who write now are done, which takes
 * them milliseconds; who takes longer is not waited for. */
static enum err_code settle(struct log_job *job, struct pg_conn *connection, struct err *err) {
    const int64_t limit_us = clock_monotonic_us() + SETTLE_WAIT_US;
    const struct timespec pause = {.tv_nsec = SETTLE_LOOK_NS};
    int64_t newest = 0;
    enum err_code code = look(job->log, connection, &newest, &job->result.settled, err);
    const int64_t wanted = newest;

    while (code == ERR_OK && job->result.settled < wanted && clock_monotonic_us() < limit_us) {
        (void)nanosleep(&pause, NULL);
        code = look(job->log, connection, &newest, &job->result.settled, err);
    }
    return code;
}

static bool must_look(struct log_job *job) {
    const struct log_query *query = &job->query;

    pthread_mutex_lock(&job->log->lock);
    const int64_t settled = job->log->horizon.settled;
    pthread_mutex_unlock(&job->log->lock);
    job->result.settled = settled;
    return query->backwards ? query->place == 0 || query->place > settled + 1
                            : query->place > settled - LOG_VIEW_SCAN_MAX;
}

/* --- reads --- */

static enum err_code position_before(struct pg_conn *connection, int64_t wall_us, int64_t settled,
                                     int64_t *out, struct err *err) {
    char time[CLOCK_RFC3339_BYTES];
    struct number upper;
    const struct pg_param params[] = {time_or_null(time, wall_us), number_param(&upper, settled)};
    PGresult *rows = NULL;
    enum err_code code = pg_conn_run(connection, "position_before", params, 2, false, &rows, err);

    if (code == ERR_OK) {
        code = PQntuples(rows) == 1 && read_number(rows, 0, 0, out) ? ERR_OK : corrupt(err);
        PQclear(rows);
    }
    return code;
}

/* The part of the log that the page may come from: behind `after`, up to `upto`. */
struct window {
    int64_t after;
    int64_t upto;
};

static enum err_code bound(struct log_job *job, struct pg_conn *connection, struct window *out,
                           struct err *err) {
    const struct log_query *query = &job->query;
    const int64_t settled = job->result.settled;
    int64_t position = 0;
    enum err_code code = ERR_OK;

    *out = (struct window){.upto = settled};
    if (query->backwards && query->place > 0 && query->place <= settled) {
        out->upto = query->place - 1;
    } else if (!query->backwards) {
        out->after = query->place;
    }
    if (query->from_us > INT64_MIN + CLOCK_SLACK_US) {
        code =
            position_before(connection, query->from_us - CLOCK_SLACK_US, settled, &position, err);
        out->after = position > out->after ? position : out->after;
    }
    if (code == ERR_OK && query->to_us < INT64_MAX - CLOCK_SLACK_US) {
        code = position_before(connection, query->to_us + CLOCK_SLACK_US, settled, &position, err);
        out->upto = position < out->upto ? position : out->upto;
    }
    return code;
}

static enum err_code read_events(struct log_job *job, struct pg_conn *connection, struct err *err) {
    const struct log_query *query = &job->query;
    struct window whole;
    struct number numbers[3];
    char times[2][CLOCK_RFC3339_BYTES];
    PGresult *rows = NULL;
    enum err_code code = must_look(job) ? settle(job, connection, err) : ERR_OK;

    if (code == ERR_OK) {
        code = bound(job, connection, &whole, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    job->result.last = query->place;
    if (whole.after >= whole.upto) {
        return take_rows(job, NULL, 0, err);
    }
    struct window part = whole;
    if (whole.upto - whole.after > LOG_VIEW_SCAN_MAX) {
        if (query->backwards) {
            part.after = whole.upto - LOG_VIEW_SCAN_MAX;
        } else {
            part.upto = whole.after + LOG_VIEW_SCAN_MAX;
        }
    }
    const struct pg_param params[] = {
        number_param(&numbers[0], part.after),
        number_param(&numbers[1], part.upto),
        text_or_null(query->aggregate_type),
        text_or_null(query->event_type),
        time_or_null(times[0], query->from_us),
        time_or_null(times[1], query->to_us),
        number_param(&numbers[2], (int64_t)query->limit + 1),
    };
    code = pg_conn_run(connection, query->backwards ? "events_backwards" : "events_forwards",
                       params, ARRAY_LEN(params), false, &rows, err);
    if (code != ERR_OK) {
        return code;
    }
    const bool full = (size_t)PQntuples(rows) > query->limit;
    code = take_rows(job, rows, full ? query->limit : (size_t)PQntuples(rows), err);
    if (code == ERR_OK && full) {
        job->result.more = true;
        job->result.last = job->events[query->limit - 1].position;
    } else if (code == ERR_OK) {
        job->result.more = query->backwards ? part.after > whole.after : part.upto < whole.upto;
        job->result.last = query->backwards ? part.after + 1 : part.upto;
    }
    return code;
}

static enum err_code read_aggregate(struct log_job *job, struct pg_conn *connection,
                                    struct err *err) {
    const struct log_query *query = &job->query;
    const int64_t place = query->backwards && query->place == 0 ? INT64_MAX : query->place;
    struct number numbers[2];
    const struct pg_param params[] = {
        text_or_null(query->id),
        text_or_null(query->aggregate_type),
        number_param(&numbers[0], place),
        number_param(&numbers[1], (int64_t)query->limit + 1),
    };
    PGresult *rows = NULL;
    enum err_code code =
        pg_conn_run(connection, query->backwards ? "stream_backwards" : "stream_forwards", params,
                    ARRAY_LEN(params), false, &rows, err);

    if (code != ERR_OK) {
        return code;
    }
    const size_t found =
        PQntuples(rows) > 0 && !PQgetisnull(rows, 0, 0) ? (size_t)PQntuples(rows) : 0;
    if (PQntuples(rows) == 0 || PQgetisnull(rows, 0, EVENT_ROW_FIELDS)) {
        PQclear(rows);
        return ERR_NOT_FOUND;
    }
    if (!read_number(rows, 0, EVENT_ROW_FIELDS, &job->result.head_version)) {
        PQclear(rows);
        return corrupt(err);
    }
    job->result.more = found > query->limit;
    code = take_rows(job, rows, job->result.more ? query->limit : found, err);
    job->result.last = code == ERR_OK && job->result.count > 0
                           ? job->events[job->result.count - 1].version
                           : query->place;
    return code;
}

static enum err_code read_event(struct log_job *job, struct pg_conn *connection, struct err *err) {
    char text[UUID_TEXT_BYTES];
    PGresult *rows = NULL;

    uuid_format(text, &job->query.event_id);
    const struct pg_param param = text_or_null(str_from(text));
    const enum err_code code = pg_conn_run(connection, "event", &param, 1, false, &rows, err);
    if (code != ERR_OK) {
        return code;
    }
    if (PQntuples(rows) != 1) {
        PQclear(rows);
        return ERR_NOT_FOUND;
    }
    return take_rows(job, rows, 1, err);
}

/* May be called twice: the second time on a new connection. */
static enum err_code run_job(struct pg_job *base, struct pg_conn *connection, struct err *err) {
    struct log_job *job = self_of(base);

    job->result = (struct log_result){0};
    switch (job->query.read) {
    case LOG_READ_EVENTS:
        return read_events(job, connection, err);
    case LOG_READ_AGGREGATE:
        return read_aggregate(job, connection, err);
    case LOG_READ_EVENT:
        return read_event(job, connection, err);
    case LOG_READ_SETTLED:
        return settle(job, connection, err);
    default:
        assert(false);
        return ERR_INTERNAL;
    }
}

static void hand_over(struct pg_job *base) {
    struct log_job *job = self_of(base);

    job->result.code = base->code;
    if (base->code != ERR_OK) {
        job->result.events = NULL;
        job->result.count = 0;
    }
    job->done(job->arg, &job->result);
}

static void free_job(struct pg_job *base) {
    struct log_job *job = self_of(base);

    PQclear(job->rows);
    mem_free(job->events);
    mem_free(job);
}

static enum err_code start_read(void *self, const struct log_query *query, log_view_fn *done,
                                void *arg) {
    struct view_log_pg_client *client = self;
    struct log_job *job = mem_zalloc(sizeof(*job));
    enum err_code code = ERR_INVALID;

    *job = (struct log_job){.log = client->log, .query = *query, .done = done, .arg = arg};
    job->base = (struct pg_job){.run = run_job, .done = hand_over, .free = free_job};
    if (str_copy(job->id, sizeof(job->id), query->id) &&
        str_copy(job->aggregate_type, sizeof(job->aggregate_type), query->aggregate_type) &&
        str_copy(job->event_type, sizeof(job->event_type), query->event_type)) {
        job->query.id = str_of(job->id, query->id.len);
        job->query.aggregate_type = str_of(job->aggregate_type, query->aggregate_type.len);
        job->query.event_type = str_of(job->event_type, query->event_type.len);
        code = pg_pool_queue(client->base, &job->base);
    }
    if (code != ERR_OK) {
        mem_free(job);
    }
    return code;
}

/* --- life --- */

enum err_code view_log_pg_start(struct pg_pool_options options, struct view_log_pg **out,
                                struct err *err) {
    struct view_log_pg *log = mem_zalloc(sizeof(*log));

    options.setup_sql = setup;
    options.statements = statements;
    options.statement_count = ARRAY_LEN(statements);
    options.metrics_labels = "database=\"log\"";
    pthread_mutex_init(&log->lock, NULL);
    const enum err_code code = pg_pool_start(&options, &log->pool, err);
    if (code != ERR_OK) {
        view_log_pg_free(log);
        return code;
    }
    *out = log;
    return ERR_OK;
}

void view_log_pg_stop(struct view_log_pg *log) {
    pg_pool_stop(log->pool);
}

void view_log_pg_free(struct view_log_pg *log) {
    if (log == NULL) {
        return;
    }
    pg_pool_free(log->pool);
    pthread_mutex_destroy(&log->lock);
    mem_free(log);
}

struct view_log_pg_client *view_log_pg_client_new(struct view_log_pg *log, struct loop *loop) {
    struct view_log_pg_client *client = mem_zalloc(sizeof(*client));

    client->log = log;
    client->base = pg_pool_client_new(log->pool, loop);
    return client;
}

void view_log_pg_client_free(struct view_log_pg_client *client) {
    if (client != NULL) {
        pg_pool_client_free(client->base);
        mem_free(client);
    }
}

struct log_view view_log_pg_view(struct view_log_pg_client *client) {
    return (struct log_view){.self = client, .read = start_read};
}
