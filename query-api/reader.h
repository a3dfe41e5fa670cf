/*
 * A reader answers the reads of one HTTP thread, on that thread's loop. It knows the order in which
 * the views are asked and how long; what is asked and how an answer looks is the queries' business
 * (queries/).
 *
 *  1. A read of the present asks the key view; where that has no answer (down, slow, no such key,
 *     nonsense) the row view. A 404 comes from the row view only. A read of the past, a page or a
 *     list asks the row view alone.
 *  2. A read with min_version waits in a heap (waiters.h), not in a thread, until a view shows that
 *     version or later, or its time is up (504). The key view is looked at again when something
 *     has changed there (watch.h: one look for all that wait); the row view at growing intervals,
 *     the longer the more wait.
 *  3. Everything of a read happens on its loop's thread, so nothing here needs a lock.
 *  4. An answered read may still be waited for by a view (it lost a race, or its time was up): it
 *     lives on without its request until the view has called back.
 *  5. Bounded: waiters, looks at the row view in flight; the views bound the rest.
 */
#ifndef DAYBOOK_QUERY_API_READER_H
#define DAYBOOK_QUERY_API_READER_H

#include "common/http/http_server.h"
#include "common/ports/key_view.h"
#include "common/ports/row_view.h"
#include "query-api/params.h"
#include "query-api/waiters.h"
#include "query-api/watch.h"

struct reader;
struct read;

/* What a query does with what was found: it fills read->request's response. */
struct read_kind {
    /* From the key view; NULL for queries that only the row view can answer. */
    void (*answer_key)(struct read *read, const struct account_view *account);
    /* From the row view; code is ERR_OK or ERR_NOT_FOUND. */
    void (*answer_rows)(struct read *read, const struct row_result *result);
};

struct read {
    struct reader *reader;
    const struct read_kind *kind;
    struct http_request *request; /* NULL once answered */
    char id[STREAM_ID_BYTES_MAX + 1];
    struct params params;
    struct row_query query; /* what the row view is asked; query.id points to `id` */

    /* The reader's own. */
    struct waiter waiter;
    struct watched watched;
    int64_t started_us;
    int64_t deadline_us;      /* of one with min_version */
    int64_t rows_due_us;      /* when a waiting one may look at the row view again */
    int64_t rows_interval_us; /* the last wait for that; doubled each time */
    int64_t visible_version;  /* the latest seen so far */
    enum err_code keys_code;  /* the last outcome */
    enum err_code rows_code;
    bool seen; /* a view has said which version is visible, if any */
    bool keys_in_flight;
    bool rows_in_flight;
    bool look_again;              /* something has changed since the key view was asked */
    struct read *next, *previous; /* among the reader's live reads */
};

struct reader_options {
    struct loop *loop;
    struct key_view keys;
    struct row_view rows;
    size_t waiters_max;
    struct log *log;
    struct metrics *metrics;
};

struct reader *reader_new(const struct reader_options *options);
/* After the loop has stopped. Reads that were cut off are released; their requests are not touched.
 */
void reader_free(struct reader *reader);

/*
 * Begins a read; returns HTTP_LATER always. `id` (may be empty) and `params` are copied, but for
 * the cursor, which the caller has decoded into `query`. `query->id` is replaced by the copy.
 */
enum http_result reader_start(struct reader *reader, struct http_request *request,
                              const struct read_kind *kind, struct str id,
                              const struct params *params, const struct row_query *query);

/* For answers: a buffer that may be filled and copied from, empty. */
struct buf *reader_scratch(struct reader *reader);
struct log *reader_log(struct reader *reader);

/* On the loop's thread: from now on nobody waits longer than a second; who still waits then gets
 * 503 "draining". */
void reader_drain(void *reader);

#endif
