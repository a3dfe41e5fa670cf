#include "query-api/reader.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/http/problem.h"

enum {
    ROW_LOOKS_MAX = 32,            /* looks of waiters at the row view in flight, per reader */
    ROWS_AFTER_BEHIND_US = 250000, /* the key view lives and is behind: it will get there */
    ROWS_AGAIN_US = 20000,         /* too many look at the row view now */
    TICK_SLACK_US = 500,           /* who is due this soon is due now */
    FIRST_LOOK_US = 250000,        /* even timeout_ms=0 waits so long for one view to answer */
    FIRST_LOOK_AGAIN_US = 1000,
    DRAIN_WAIT_US = 1000000,
    FREE_READS_MAX = 1024,
    SCRATCH_BYTES_MAX = 1024 * 1024,
};

enum source { SOURCE_REDIS, SOURCE_POSTGRESQL, SOURCE_NONE, SOURCES };
enum outcome {
    OUTCOME_FOUND,
    OUTCOME_NOT_MODIFIED,
    OUTCOME_NOT_FOUND,
    OUTCOME_BEHIND,
    OUTCOME_UNAVAILABLE,
    OUTCOME_FAILED,
    OUTCOMES
};

static const char *const source_names[SOURCES] = {"redis", "postgresql", "none"};
static const char *const outcome_names[OUTCOMES] = {"found",  "not_modified", "not_found",
                                                    "behind", "unavailable",  "failed"};

struct reader {
    struct reader_options options;
    struct waiters waiters;
    struct watch *watch;
    uint64_t timer;
    int64_t timer_due_us;
    size_t row_looks; /* of waiters, in flight */
    bool draining;
    struct read *live;
    struct read *unused;
    size_t unused_count;
    struct buf scratch;
    struct metric_counter *reads[SOURCES][OUTCOMES];
    struct metric_gauge *waiting;
    struct metric_histogram *wait_seconds;
};

/* --- life of a read --- */

static struct read *read_new(struct reader *reader) {
    struct read *read = reader->unused;

    if (read != NULL) {
        reader->unused = read->next;
        reader->unused_count--;
        *read = (struct read){0};
    } else {
        read = mem_zalloc(sizeof(*read));
    }
    read->reader = reader;
    read->next = reader->live;
    if (reader->live != NULL) {
        reader->live->previous = read;
    }
    reader->live = read;
    return read;
}

static void read_free_if_done(struct read *read) {
    struct reader *reader = read->reader;

    if (read->request != NULL || read->keys_in_flight || read->rows_in_flight) {
        return;
    }
    if (read->previous != NULL) {
        read->previous->next = read->next;
    } else {
        reader->live = read->next;
    }
    if (read->next != NULL) {
        read->next->previous = read->previous;
    }
    if (reader->unused_count < FREE_READS_MAX) {
        read->next = reader->unused;
        reader->unused = read;
        reader->unused_count++;
    } else {
        mem_free(read);
    }
}

static enum outcome outcome_of(int status) {
    switch (status) {
    case 200:
        return OUTCOME_FOUND;
    case 304:
        return OUTCOME_NOT_MODIFIED;
    case 404:
        return OUTCOME_NOT_FOUND;
    case 504:
        return OUTCOME_BEHIND;
    case 503:
        return OUTCOME_UNAVAILABLE;
    default:
        return OUTCOME_FAILED;
    }
}

static bool waits(const struct read *read) {
    return read->params.min_version > 0;
}

/* The response is filled: lets the request go. */
static void finish(struct read *read, enum source source) {
    struct reader *reader = read->reader;
    struct http_request *request = read->request;

    if (source != SOURCE_NONE) {
        http_respond_header(request, "Daybook-Source", str_from(source_names[source]));
    }
    if (read->params.prefer_wait_s >= 0 && waits(read)) {
        const struct str applied =
            arena_printf(&request->arena, "wait=%" PRId64, read->params.prefer_wait_s);
        http_respond_header(request, "Preference-Applied", applied);
    }
    metric_add(reader->reads[source][outcome_of(request->response.status)], 1);
    watch_remove(reader->watch, &read->watched);
    if (read->waiter.place > 0) {
        waiters_remove(&reader->waiters, &read->waiter);
        metric_move(reader->waiting, -1);
        metric_observe(reader->wait_seconds, clock_monotonic_us() - read->started_us);
    }
    read->request = NULL;
    http_complete(request);
}

/* --- answers that no view gave --- */

static void fail_overloaded(struct read *read, const char *what) {
    (void)problem_respond(read->request, 503, "overloaded", "Overloaded", "%s: try again soon",
                          what);
    finish(read, SOURCE_NONE);
}

static void fail_unavailable(struct read *read) {
    (void)problem_respond(read->request, 503, "read_model_unavailable", "Read model unavailable",
                          "no read model that could answer this can be reached: try again soon");
    finish(read, SOURCE_NONE);
}

static void fail_corrupt(struct read *read, const char *store) {
    log_error(read->reader->options.log, log_event("read.corrupt"), log_cstr("store", store),
              log_cstr("id", read->id), log_str("correlation_id", read->request->correlation_id));
    (void)problem_respond(read->request, 500, "read_model_corrupt", "Read model corrupt",
                          "what the read model holds here makes no sense; an operator is needed");
    finish(read, SOURCE_NONE);
}

static void fail_behind(struct read *read) {
    const struct str members = arena_printf(
        &read->request->arena, "\"visible_version\":%" PRId64 ",\"min_version\":%" PRId64,
        read->visible_version, read->params.min_version);

    if (read->reader->draining) {
        (void)problem_respond_with(read->request, 503, "draining", "Shutting down", members,
                                   "this process is shutting down: ask again");
    } else {
        (void)problem_respond_with(
            read->request, 504, "projection_behind", "Projection behind", members,
            "version %" PRId64 " did not become visible within %" PRId64 " ms; version %" PRId64
            " is",
            read->params.min_version, read->params.timeout_ms, read->visible_version);
    }
    finish(read, SOURCE_NONE);
}

/* --- asking --- */

static void on_keys(void *arg, enum err_code code, const struct account_view *account);
static void on_rows(void *arg, const struct row_result *result);

static bool has_failed(enum err_code code) {
    return code != ERR_OK && code != ERR_NOT_FOUND;
}

/* Refused: returns the code and nothing is in flight. */
static enum err_code ask_rows(struct read *read) {
    struct reader *reader = read->reader;
    const enum err_code code =
        reader->options.rows.read(reader->options.rows.self, &read->query, on_rows, read);

    read->rows_in_flight = code == ERR_OK;
    if (code == ERR_OK && waits(read)) {
        reader->row_looks++;
    }
    return code;
}

static enum err_code ask_keys(struct read *read) {
    struct reader *reader = read->reader;
    const enum err_code code =
        reader->options.keys.account(reader->options.keys.self, str_from(read->id), on_keys, read);

    read->keys_in_flight = code == ERR_OK;
    return code;
}

/* A read that does not wait and that the row view has to answer. */
static void ask_rows_or_fail(struct read *read) {
    const enum err_code code = ask_rows(read);

    if (code == ERR_LIMIT) {
        fail_overloaded(read, "too many reads wait for PostgreSQL");
    } else if (code != ERR_OK) {
        fail_unavailable(read);
    }
}

/* Nobody but the row view can answer this one, as things are. */
static bool needs_rows(const struct read *read) {
    return read->kind->answer_key == NULL || has_failed(read->keys_code);
}

/*
 * A waiting read looks at the row view where the key view can't tell: at once and again and again
 * when it is gone, now and then when it has no such key or stays behind.
 */
static void look_at_rows(struct read *read, int64_t now_us) {
    struct reader *reader = read->reader;

    if (read->rows_in_flight || now_us < read->rows_due_us || reader->row_looks >= ROW_LOOKS_MAX) {
        return;
    }
    if (needs_rows(read)) {
        read->rows_interval_us =
            waiters_interval_us(now_us - read->started_us, reader->waiters.count);
    } else {
        read->rows_interval_us = read->rows_interval_us < ROWS_AFTER_BEHIND_US
                                     ? ROWS_AFTER_BEHIND_US
                                     : 2 * read->rows_interval_us;
    }
    read->rows_due_us = now_us + read->rows_interval_us;
    const enum err_code code = ask_rows(read);
    if (code == ERR_OK || code == ERR_LIMIT) {
        return; /* a full queue now says nothing about later */
    }
    read->rows_code = code;
    if (needs_rows(read)) {
        fail_unavailable(read);
    }
}

static void look_at_keys(struct read *read) {
    if (read->kind->answer_key == NULL || read->keys_in_flight) {
        read->look_again = read->keys_in_flight;
        return;
    }
    const enum err_code code = ask_keys(read);
    read->look_again = code == ERR_LIMIT;
    if (code != ERR_OK && code != ERR_LIMIT) {
        if (!has_failed(read->keys_code)) {
            read->rows_due_us = 0;
        }
        read->keys_code = code;
    }
}

/* --- what the views answer --- */

static void on_keys(void *arg, enum err_code code, const struct account_view *account) {
    struct read *read = arg;

    read->keys_in_flight = false;
    if (read->request == NULL) {
        read_free_if_done(read);
        return;
    }
    if (code == ERR_CORRUPT) {
        log_error(read->reader->options.log, log_event("read.corrupt"), log_cstr("store", "redis"),
                  log_cstr("id", read->id));
    }
    if (code != ERR_OK && code != read->keys_code) {
        read->rows_due_us = 0;
    }
    read->keys_code = code;
    read->seen = read->seen || code == ERR_OK;
    if (code == ERR_OK && account->version > read->visible_version) {
        read->visible_version = account->version;
    }
    if (code == ERR_OK && account->version >= read->params.min_version) {
        read->kind->answer_key(read, account);
        finish(read, SOURCE_REDIS);
    } else if (!waits(read)) {
        ask_rows_or_fail(read);
    } else {
        if (read->look_again) {
            read->look_again = false;
            look_at_keys(read);
        }
        if (code != ERR_OK) {
            look_at_rows(read, clock_monotonic_us());
        }
    }
    read_free_if_done(read);
}

static void on_rows(void *arg, const struct row_result *result) {
    struct read *read = arg;

    read->rows_in_flight = false;
    if (waits(read)) {
        read->reader->row_looks--;
    }
    if (read->request == NULL) {
        read_free_if_done(read);
        return;
    }
    const bool failed = has_failed(result->code);
    const int64_t version = result->code == ERR_OK ? result->head_version : 0;
    read->rows_code = result->code;
    read->seen = read->seen || !failed;
    if (version > read->visible_version) {
        read->visible_version = version;
    }
    if (!failed && (!waits(read) || version >= read->params.min_version)) {
        read->kind->answer_rows(read, result);
        finish(read, SOURCE_POSTGRESQL);
    } else if (result->code == ERR_CORRUPT) {
        fail_corrupt(read, "postgresql");
    } else if (failed &&
               (!waits(read) || read->kind->answer_key == NULL || has_failed(read->keys_code))) {
        fail_unavailable(read);
    }
    read_free_if_done(read);
}

/* --- waiting --- */

static void on_tick(void *arg);

static void arm(struct reader *reader) {
    const struct waiter *first = waiters_first(&reader->waiters);

    if (first == NULL || (reader->timer != 0 && reader->timer_due_us <= first->due_us)) {
        return;
    }
    const int64_t now_us = clock_monotonic_us();
    loop_cancel(reader->options.loop, reader->timer);
    reader->timer_due_us = first->due_us;
    reader->timer = loop_after(
        reader->options.loop, first->due_us > now_us ? first->due_us - now_us : 0, on_tick, reader);
    assert(reader->timer != 0);
}

/* When a waiting read has to be looked at again. */
static int64_t next_look_us(const struct read *read, int64_t now_us) {
    const int64_t rows_us = read->rows_due_us > now_us ? read->rows_due_us : now_us + ROWS_AGAIN_US;

    return rows_us < read->deadline_us ? rows_us : read->deadline_us;
}

static void look(struct read *read, int64_t now_us) {
    struct reader *reader = read->reader;

    if (reader->draining && read->deadline_us > now_us + DRAIN_WAIT_US) {
        read->deadline_us = now_us + DRAIN_WAIT_US;
    }
    if (now_us >= read->deadline_us && !read->seen &&
        (read->keys_in_flight || read->rows_in_flight) &&
        now_us < read->started_us + FIRST_LOOK_US) {
        waiters_move(&reader->waiters, &read->waiter, now_us + FIRST_LOOK_AGAIN_US);
        return;
    }
    if (now_us >= read->deadline_us) {
        fail_behind(read);
        read_free_if_done(read);
        return;
    }
    if (read->look_again) {
        look_at_keys(read);
    }
    look_at_rows(read, now_us);
    if (read->request != NULL) {
        waiters_move(&reader->waiters, &read->waiter, next_look_us(read, now_us));
    }
    read_free_if_done(read);
}

/* Something has changed where the account lies, or it can't be told whether. */
static void on_change(struct watched *watched) {
    struct read *read = (struct read *)((char *)watched - offsetof(struct read, watched));

    look_at_keys(read);
    if (has_failed(read->keys_code)) {
        waiters_move(&read->reader->waiters, &read->waiter, clock_monotonic_us());
        arm(read->reader);
    }
}

static void on_tick(void *arg) {
    struct reader *reader = arg;
    const int64_t now_us = clock_monotonic_us();
    struct waiter *first = NULL;

    reader->timer = 0;
    while ((first = waiters_first(&reader->waiters)) != NULL &&
           first->due_us <= now_us + TICK_SLACK_US) {
        struct read *read = (struct read *)((char *)first - offsetof(struct read, waiter));
        /* Each look moves it past now or takes it out, so this ends. */
        look(read, first->due_us > now_us ? first->due_us : now_us);
    }
    arm(reader);
}

static void start_waiting(struct read *read) {
    struct reader *reader = read->reader;
    const int64_t now_us = read->started_us;

    read->deadline_us = now_us + read->params.timeout_ms * 1000;
    read->rows_due_us = read->kind->answer_key != NULL ? now_us + ROWS_AFTER_BEHIND_US : now_us;
    if (!waiters_add(&reader->waiters, &read->waiter, next_look_us(read, now_us))) {
        fail_overloaded(read, "too many requests wait for a version");
        return;
    }
    metric_move(reader->waiting, 1);
    if (read->kind->answer_key != NULL) {
        watch_add(reader->watch, &read->watched, str_from(read->id));
        look_at_keys(read);
    }
    if (needs_rows(read)) {
        look_at_rows(read, now_us);
    }
    if (read->request != NULL) {
        waiters_move(&reader->waiters, &read->waiter, next_look_us(read, now_us));
    }
    arm(reader);
}

/* --- for the queries --- */

enum http_result reader_start(struct reader *reader, struct http_request *request,
                              const struct read_kind *kind, struct str id,
                              const struct params *params, const struct row_query *query) {
    struct read *read = read_new(reader);

    read->kind = kind;
    read->request = request;
    read->params = *params;
    read->params.cursor = (struct str){0};
    read->query = *query;
    read->started_us = request->received_at_us;
    if (!str_copy(read->id, sizeof(read->id), id)) {
        assert(false); /* the queries have checked it */
    }
    read->query.id = str_of(read->id, id.len);
    if (waits(read)) {
        start_waiting(read);
    } else if (kind->answer_key != NULL) {
        const enum err_code code = ask_keys(read);
        if (code == ERR_LIMIT) {
            fail_overloaded(read, "too many reads wait for Redis");
        } else if (code != ERR_OK) {
            ask_rows_or_fail(read);
        }
    } else {
        ask_rows_or_fail(read);
    }
    read_free_if_done(read);
    return HTTP_LATER;
}

struct buf *reader_scratch(struct reader *reader) {
    buf_clear(&reader->scratch);
    return &reader->scratch;
}

struct log *reader_log(struct reader *reader) {
    return reader->options.log;
}

/* --- life --- */

static void register_metrics(struct reader *reader) {
    struct metrics *metrics = reader->options.metrics;
    char labels[96];

    for (size_t i = 0; i < SOURCES; i++) {
        for (size_t j = 0; j < OUTCOMES; j++) {
            (void)snprintf(labels, sizeof(labels), "source=\"%s\",outcome=\"%s\"", source_names[i],
                           outcome_names[j]);
            reader->reads[i][j] = metrics_counter(metrics, "daybook_query_reads_total", labels,
                                                  "Reads answered, by the store they came from.");
        }
    }
    reader->waiting = metrics_gauge(metrics, "daybook_query_waiters", "",
                                    "Requests that wait for a version to become visible.");
    reader->wait_seconds = metrics_latency(metrics, "daybook_query_wait_seconds", "",
                                           "How long requests with min_version took.");
}

struct reader *reader_new(const struct reader_options *options) {
    struct reader *reader = mem_zalloc(sizeof(*reader));

    reader->options = *options;
    waiters_init(&reader->waiters, options->waiters_max);
    reader->watch = watch_new(options->loop, &options->keys, on_change);
    buf_init(&reader->scratch, SCRATCH_BYTES_MAX);
    register_metrics(reader);
    return reader;
}

void reader_free(struct reader *reader) {
    if (reader == NULL) {
        return;
    }
    while (reader->live != NULL) {
        struct read *next = reader->live->next;
        mem_free(reader->live);
        reader->live = next;
    }
    while (reader->unused != NULL) {
        struct read *next = reader->unused->next;
        mem_free(reader->unused);
        reader->unused = next;
    }
    waiters_release(&reader->waiters);
    watch_free(reader->watch);
    buf_release(&reader->scratch);
    mem_free(reader);
}

void reader_drain(void *arg) {
    struct reader *reader = arg;

    reader->draining = true;
    waiters_all_due(&reader->waiters, clock_monotonic_us());
    arm(reader);
}
