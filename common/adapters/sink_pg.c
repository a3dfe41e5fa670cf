/*
 * One batch, or those of several partitions, is one transaction in one round trip: its statements
 * are sent without waiting for their answers. The checkpoints' compare-and-set comes first (it
 * locks them, as a rule in the order of the partitions, so that a second writer waits and is then
 * refused), then one upsert per table, what is parked, commit. A checkpoint that isn't the expected
 * one is an error of its statement, which takes the rest back.
 *
 * Each statement has a sync of its own, and the transaction is an explicit one: between two of them
 * PostgreSQL counts the session as idle in transaction and ends it after a while
 * (idle_in_transaction_session_timeout). Without a sync it would wait for ever for the rest of what
 * a replica that was stopped in the middle has sent in part, and keep the checkpoints locked. (It
 * does when nothing but the sync behind a whole statement is missing, a few bytes of the 8 KiB that
 * go at a time: the session counts as active then, until the replica goes on or ends.)
 */
#include "common/adapters/sink_pg.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/sink_pg_sql.h"
#include "common/base/mem.h"

enum {
    FIXED_STATEMENTS = 13,
    STATEMENTS_MAX = FIXED_STATEMENTS + 1 + MODEL_TABLES_MAX,
    ARRAYS = MODEL_COLUMNS_MAX,
};

struct sink_pg {
    struct projection_sink base;
    struct sink_pg_options options;
    const char *stage;
    struct pg_conn conn;
    struct pg_statement statements[STATEMENTS_MAX];
    size_t statement_count;
    char names[MODEL_TABLES_MAX][64];
    struct buf sql[MODEL_TABLES_MAX];
    struct buf heads_sql;
    struct pg_array arrays[ARRAYS];
};

/* So many rows, or an error whose text stands in the server's log: an integer it isn't. */
#define ALL_OF(rows, wanted)                                     \
    "SELECT CASE count(*) WHEN " wanted                          \
    " THEN 1 ELSE ('a checkpoint was moved by another writer: '" \
    " || count(*) || ' of ' || " wanted ")::integer END FROM " rows
#define ONE_OF(rows) ALL_OF(rows, "1")

static const struct pg_statement fixed[FIXED_STATEMENTS] = {
    {"begin", "BEGIN"},
    {"commit", "COMMIT"},
    {"checkpoints", "SELECT topic_partition, next_offset, version, epoch FROM daybook.checkpoints"
                    " WHERE projection = $1 AND stage = $2"},
    {"none", ONE_OF("(SELECT) AS one WHERE NOT EXISTS (SELECT FROM daybook.checkpoints"
                    " WHERE projection = $1 AND stage = $2 AND topic_partition = $3::integer)")},
    {"same", ONE_OF("(SELECT FROM daybook.checkpoints WHERE projection = $1 AND stage = $2"
                    " AND topic_partition = $3::integer AND next_offset = $4::bigint"
                    " AND version = $5::bigint AND epoch = $6::bigint FOR NO KEY UPDATE) AS same")},
    {"advance",
     "WITH moved AS (UPDATE daybook.checkpoints AS c SET next_offset = m.next_offset,"
     " version = m.version, epoch = m.epoch, updated_at = now()"
     " FROM unnest($3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],"
     " $8::bigint[], $9::bigint[]) AS m(topic_partition, next_offset, version, epoch, next_was,"
     " version_was, epoch_was) WHERE c.projection = $1 AND c.stage = $2"
     " AND c.topic_partition = m.topic_partition AND c.next_offset = m.next_was"
     " AND c.version = m.version_was AND c.epoch = m.epoch_was RETURNING 1) " ALL_OF(
         "moved", "cardinality($3)")},
    {"first_advance",
     "WITH made AS (INSERT INTO daybook.checkpoints (projection, stage, topic_partition,"
     " next_offset, version, epoch) VALUES ($1, $2, $3::integer, $4::bigint, $5::bigint,"
     " $6::bigint) ON CONFLICT DO NOTHING RETURNING 1) " ONE_OF("made")},
    {"exceptions",
     "SELECT DISTINCT ON (stream_id) stream_id, topic_offset, version, coalesce(reason, ''),"
     " count(*) OVER (PARTITION BY stream_id) FROM daybook.parked_events WHERE projection = $1"
     " AND stage = $2 AND topic_partition = $3::integer ORDER BY stream_id, topic_offset"},
    {"voids", "SELECT stream_id, first_version, last_version FROM daybook.void_versions"
              " WHERE projection = $1 AND topic_partition = $2::integer"},
    {"parked", "SELECT topic_offset, version, event_type, event_id, payload, recorded_at,"
               " coalesce(reason, '') FROM daybook.parked_events WHERE projection = $1"
               " AND stage = $2 AND topic_partition = $3::integer AND stream_id = $4"
               " ORDER BY topic_offset"},
    {"release", "DELETE FROM daybook.parked_events WHERE projection = $1 AND stage = $2"
                " AND topic_partition = $3::integer AND stream_id = ANY ($4::text[])"},
    {"park", "INSERT INTO daybook.parked_events (projection, stage, topic_partition, stream_id,"
             " topic_offset, version, event_type, event_id, payload, recorded_at, reason)"
             " SELECT $1, $2, $3::integer, * FROM unnest($4::text[], $5::bigint[], $6::bigint[],"
             " $7::text[], $8::uuid[], $9::bytea[], $10::timestamptz[], $11::text[])"
             " ON CONFLICT DO NOTHING"},
    {"void", "INSERT INTO daybook.void_versions (projection, topic_partition, stream_id,"
             " first_version, last_version) SELECT $1, $2::integer, * FROM unnest($3::text[],"
             " $4::bigint[], $5::bigint[]) ON CONFLICT (projection, stream_id, first_version)"
             " DO UPDATE SET last_version = greatest(excluded.last_version,"
             " void_versions.last_version)"},
};

/*
 * A commit that a crash of the server takes back takes its checkpoint with it, so nobody has to
 * wait for the disk. Rows are found by their keys, whatever the statistics say of a young table: a
 * plan made anew for each batch, or one that reads the whole table, costs more than a small batch.
 */
static const char setup_sql[] =
    "SET synchronous_commit = off; SET plan_cache_mode = force_generic_plan;"
    " SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;"
    " SET jit = off";

static struct sink_pg *self_of(struct projection_sink *sink) {
    return (struct sink_pg *)(void *)sink;
}

static void make_statements(struct sink_pg *self) {
    const struct projection *projection = self->options.projection;
    const char *schema = self->options.stage == SINK_LIVE ? "daybook" : "daybook_build";

    memcpy(self->statements, fixed, sizeof(fixed));
    self->statement_count = FIXED_STATEMENTS;
    buf_init(&self->heads_sql, SINK_PG_SQL_BYTES_MAX);
    if (projection->heads->stores & STORE_PG) {
        sink_pg_heads_sql(&self->heads_sql, schema, projection->heads);
        self->statements[self->statement_count++] =
            (struct pg_statement){"heads", self->heads_sql.ptr};
    }
    for (size_t i = 0; i < projection->table_count; i++) {
        const struct model_table *table = projection->tables[i];
        buf_init(&self->sql[i], SINK_PG_SQL_BYTES_MAX);
        if (!(table->stores & STORE_PG)) {
            continue;
        }
        sink_pg_upsert_sql(&self->sql[i], schema, table);
        assert(!buf_failed(&self->sql[i]));
        (void)snprintf(self->names[i], sizeof(self->names[i]), "upsert_%s", table->name);
        self->statements[self->statement_count++] =
            (struct pg_statement){self->names[i], self->sql[i].ptr};
    }
}

/* --- running them --- */

/* Everything a sink does can be asked again: a lost answer is an outage. */
static enum err_code retriable(enum err_code code, struct err *err) {
    if (code == ERR_OUTCOME_UNKNOWN || code == ERR_CONFLICT) {
        if (err != NULL) {
            err->code = ERR_UNAVAILABLE;
        }
        return ERR_UNAVAILABLE;
    }
    return code;
}

static enum err_code query(struct sink_pg *self, const char *name, const struct pg_param *params,
                           size_t count, PGresult **result, struct err *err) {
    return retriable(pg_conn_run(&self->conn, name, params, count, true, result, err), err);
}

/* One more statement of the batch's transaction. */
static enum err_code add(struct sink_pg *self, const char *name, const struct pg_param *params,
                         size_t count, struct err *err) {
    return pg_conn_send(&self->conn, name, params, count, true, err);
}

/* --- reading --- */

static enum err_code sink_read_checkpoints(struct projection_sink *sink, const int32_t *partitions,
                                           size_t count, struct sink_checkpoint *out,
                                           struct err *err) {
    struct sink_pg *self = self_of(sink);
    const struct pg_param params[] = {sink_pg_text(self->options.projection->name),
                                      sink_pg_text(self->stage)};
    PGresult *result = NULL;
    const enum err_code code = query(self, "checkpoints", params, ARRAY_LEN(params), &result, err);

    for (size_t i = 0; i < count && code == ERR_OK; i++) {
        out[i] = (struct sink_checkpoint){.next = SINK_NO_CHECKPOINT};
        for (int row = 0; row < PQntuples(result); row++) {
            if (pg_get_i32(result, row, 0) == partitions[i]) {
                out[i].next = pg_get_i64(result, row, 1);
                out[i].version = pg_get_i64(result, row, 2);
                out[i].epoch = pg_get_i64(result, row, 3);
            }
        }
    }
    PQclear(result);
    return code;
}

static enum err_code sink_read_exceptions(struct projection_sink *sink, int32_t partition,
                                          const struct sink_checkpoint *at,
                                          const struct sink_exceptions *into, struct err *err) {
    struct sink_pg *self = self_of(sink);
    char number[SINK_PG_NUMBER_BYTES];
    const struct pg_param name = sink_pg_text(self->options.projection->name);
    const struct pg_param where = sink_pg_number(number, partition);
    const struct pg_param parked[] = {name, sink_pg_text(self->stage), where};
    const struct pg_param voids[] = {name, where};
    PGresult *result = NULL;

    (void)at;
    enum err_code code = query(self, "exceptions", parked, ARRAY_LEN(parked), &result, err);
    for (int row = 0; code == ERR_OK && row < PQntuples(result); row++) {
        const struct parked_event first = {.stream_id = pg_get_str(result, row, 0),
                                           .offset = pg_get_i64(result, row, 1),
                                           .version = pg_get_i64(result, row, 2),
                                           .reason = pg_get_str(result, row, 3)};
        into->parked(into->arg, &first, pg_get_i64(result, row, 4));
    }
    PQclear(result);
    result = NULL;
    if (code == ERR_OK) {
        code = query(self, "voids", voids, ARRAY_LEN(voids), &result, err);
    }
    for (int row = 0; code == ERR_OK && row < PQntuples(result); row++) {
        const struct void_range range = {pg_get_str(result, row, 0), pg_get_i64(result, row, 1),
                                         pg_get_i64(result, row, 2)};
        into->voided(into->arg, &range);
    }
    PQclear(result);
    return code;
}

static enum err_code sink_read_parked(struct projection_sink *sink, int32_t partition,
                                      const struct sink_checkpoint *at, struct str stream_id,
                                      sink_parked_fn *fn, void *arg, struct err *err) {
    struct sink_pg *self = self_of(sink);
    char number[SINK_PG_NUMBER_BYTES];
    const struct pg_param params[] = {sink_pg_text(self->options.projection->name),
                                      sink_pg_text(self->stage),
                                      sink_pg_number(number, partition),
                                      {stream_id.ptr, stream_id.len, true}};
    PGresult *result = NULL;
    const enum err_code code = query(self, "parked", params, ARRAY_LEN(params), &result, err);

    (void)at;
    for (int row = 0; code == ERR_OK && row < PQntuples(result); row++) {
        struct parked_event event = {.stream_id = stream_id,
                                     .offset = pg_get_i64(result, row, 0),
                                     .version = pg_get_i64(result, row, 1),
                                     .event_type = pg_get_str(result, row, 2),
                                     .payload = pg_get_str(result, row, 4),
                                     .recorded_at_us = pg_get_time_us(result, row, 5),
                                     .reason = pg_get_str(result, row, 6)};
        memcpy(event.event_id.bytes, PQgetvalue(result, row, 3), sizeof(event.event_id.bytes));
        fn(arg, &event);
    }
    PQclear(result);
    return code;
}

static enum err_code sink_read_heads(struct projection_sink *sink, int32_t partition,
                                     const struct sink_checkpoint *at, struct stream_head *heads,
                                     size_t count, struct err *err) {
    struct sink_pg *self = self_of(sink);
    PGresult *result = NULL;

    (void)partition;
    (void)at;
    pg_array_begin(&self->arrays[0], PG_TEXT);
    for (size_t i = 0; i < count; i++) {
        pg_array_text(&self->arrays[0], heads[i].stream_id);
        heads[i].version = 0;
    }
    const struct pg_param params[] = {sink_pg_array(&self->arrays[0])};
    const enum err_code code = query(self, "heads", params, ARRAY_LEN(params), &result, err);
    for (int row = 0; code == ERR_OK && row < PQntuples(result); row++) {
        heads[pg_get_i64(result, row, 0) - 1].version = pg_get_i64(result, row, 1);
    }
    PQclear(result);
    return code;
}

/* --- writing --- */

static enum err_code refuse(const struct sink_batch *batches, size_t count, struct err *err) {
    return count == 1
               ? err_set(err, ERR_FENCED,
                         "postgresql: the checkpoint of partition %" PRId32 " is not %" PRId64,
                         batches->partition, batches->expected.next)
               : err_set(err, ERR_FENCED,
                         "postgresql: a checkpoint of %zu partitions is not the expected one",
                         count);
}

/* For a batch that is to leave the checkpoint: the comparison alone. */
static enum err_code compare(struct sink_pg *self, const struct sink_batch *batch,
                             struct err *err) {
    char text[4][SINK_PG_NUMBER_BYTES];
    const struct pg_param params[] = {
        sink_pg_text(self->options.projection->name),
        sink_pg_text(self->stage),
        sink_pg_number(text[0], batch->partition),
        sink_pg_number(text[1], batch->expected.next),
        sink_pg_number(text[2], batch->expected.version),
        sink_pg_number(text[3], batch->expected.epoch),
    };
    const bool exists = checkpoint_exists(&batch->expected);

    return add(self, exists ? "same" : "none", params, exists ? 6 : 3, err);
}

/* Compares the checkpoints and moves them. */
static enum err_code advance(struct sink_pg *self, const struct sink_batch *batches, size_t count,
                             struct err *err) {
    enum { VALUES = 7 };
    struct pg_param params[2 + VALUES] = {sink_pg_text(self->options.projection->name),
                                          sink_pg_text(self->stage)};

    for (size_t v = 0; v < VALUES; v++) {
        pg_array_begin(&self->arrays[v], v == 0 ? PG_INT4 : PG_INT8);
    }
    for (size_t i = 0; i < count; i++) {
        const struct sink_checkpoint *next = &batches[i].next;
        const struct sink_checkpoint *expected = &batches[i].expected;
        pg_array_i32(&self->arrays[0], batches[i].partition);
        pg_array_i64(&self->arrays[1], next->next);
        pg_array_i64(&self->arrays[2], next->version);
        pg_array_i64(&self->arrays[3], next->epoch);
        pg_array_i64(&self->arrays[4], expected->next);
        pg_array_i64(&self->arrays[5], expected->version);
        pg_array_i64(&self->arrays[6], expected->epoch);
    }
    for (size_t v = 0; v < VALUES; v++) {
        params[2 + v] = sink_pg_array(&self->arrays[v]);
    }
    return add(self, "advance", params, ARRAY_LEN(params), err);
}

static enum err_code first_advance(struct sink_pg *self, const struct sink_batch *batch,
                                   struct err *err) {
    char text[4][SINK_PG_NUMBER_BYTES];
    const struct pg_param params[] = {
        sink_pg_text(self->options.projection->name), sink_pg_text(self->stage),
        sink_pg_number(text[0], batch->partition),    sink_pg_number(text[1], batch->next.next),
        sink_pg_number(text[2], batch->next.version), sink_pg_number(text[3], batch->next.epoch),
    };

    return add(self, "first_advance", params, ARRAY_LEN(params), err);
}

/* The first statement of the transaction: what the batches expect. */
static enum err_code compare_and_set(struct sink_pg *self, const struct sink_batch *batches,
                                     size_t count, struct err *err) {
    if (checkpoint_exists(&batches->expected) && checkpoint_exists(&batches->next)) {
        return advance(self, batches, count, err);
    }
    assert(count == 1);
    return checkpoint_exists(&batches->next) ? first_advance(self, batches, err)
                                             : compare(self, batches, err);
}

static size_t put_rows(struct sink_pg *self, const struct model_table *table,
                       const struct sink_batch *batch) {
    size_t rows = 0;

    for (size_t r = 0; r < batch->row_count; r++) {
        if (batch->rows[r].table != table) {
            continue;
        }
        rows++;
        for (size_t i = 0; i < table->column_count; i++) {
            sink_pg_put_cell(&self->arrays[i], table->columns[i].kind, &batch->rows[r].cells[i]);
        }
    }
    return rows;
}

static enum err_code write_table(struct sink_pg *self, size_t index,
                                 const struct sink_batch *batches, size_t count, struct err *err) {
    const struct model_table *table = self->options.projection->tables[index];
    struct pg_param params[MODEL_COLUMNS_MAX];
    size_t rows = 0;

    for (size_t i = 0; i < table->column_count; i++) {
        pg_array_begin(&self->arrays[i], sink_pg_type(table->columns[i].kind));
    }
    for (size_t i = 0; i < count; i++) {
        rows += put_rows(self, table, &batches[i]);
    }
    if (rows == 0) {
        return ERR_OK;
    }
    for (size_t i = 0; i < table->column_count; i++) {
        params[i] = sink_pg_array(&self->arrays[i]);
    }
    return add(self, self->names[index], params, table->column_count, err);
}

static enum err_code release(struct sink_pg *self, const struct sink_batch *batch,
                             struct err *err) {
    char number[SINK_PG_NUMBER_BYTES];

    pg_array_begin(&self->arrays[0], PG_TEXT);
    for (size_t i = 0; i < batch->released_count; i++) {
        pg_array_text(&self->arrays[0], batch->released[i]);
    }
    const struct pg_param params[] = {
        sink_pg_text(self->options.projection->name), sink_pg_text(self->stage),
        sink_pg_number(number, batch->partition), sink_pg_array(&self->arrays[0])};
    return add(self, "release", params, ARRAY_LEN(params), err);
}

static enum err_code park(struct sink_pg *self, const struct sink_batch *batch, struct err *err) {
    static const enum pg_type types[] = {PG_TEXT, PG_INT8,  PG_INT8,        PG_TEXT,
                                         PG_UUID, PG_BYTEA, PG_TIMESTAMPTZ, PG_TEXT};
    char number[SINK_PG_NUMBER_BYTES];
    struct pg_param params[3 + ARRAY_LEN(types)] = {sink_pg_text(self->options.projection->name),
                                                    sink_pg_text(self->stage),
                                                    sink_pg_number(number, batch->partition)};

    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        pg_array_begin(&self->arrays[i], types[i]);
    }
    for (size_t i = 0; i < batch->parked_count; i++) {
        const struct parked_event *event = &batch->parked[i];
        pg_array_text(&self->arrays[0], event->stream_id);
        pg_array_i64(&self->arrays[1], event->offset);
        pg_array_i64(&self->arrays[2], event->version);
        pg_array_text(&self->arrays[3], event->event_type);
        pg_array_uuid(&self->arrays[4], &event->event_id);
        pg_array_text(&self->arrays[5], event->payload);
        pg_array_time(&self->arrays[6], event->recorded_at_us);
        pg_array_text_or_null(&self->arrays[7], event->reason);
    }
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        params[3 + i] = sink_pg_array(&self->arrays[i]);
    }
    return add(self, "park", params, ARRAY_LEN(params), err);
}

static enum err_code declare_void(struct sink_pg *self, const struct sink_batch *batch,
                                  struct err *err) {
    char number[SINK_PG_NUMBER_BYTES];

    pg_array_begin(&self->arrays[0], PG_TEXT);
    pg_array_begin(&self->arrays[1], PG_INT8);
    pg_array_begin(&self->arrays[2], PG_INT8);
    for (size_t i = 0; i < batch->void_count; i++) {
        pg_array_text(&self->arrays[0], batch->voids[i].stream_id);
        pg_array_i64(&self->arrays[1], batch->voids[i].first);
        pg_array_i64(&self->arrays[2], batch->voids[i].last);
    }
    const struct pg_param params[] = {
        sink_pg_text(self->options.projection->name), sink_pg_number(number, batch->partition),
        sink_pg_array(&self->arrays[0]), sink_pg_array(&self->arrays[1]),
        sink_pg_array(&self->arrays[2])};
    return add(self, "void", params, ARRAY_LEN(params), err);
}

static enum err_code write_exceptions(struct sink_pg *self, const struct sink_batch *batch,
                                      struct err *err) {
    enum err_code code = batch->released_count > 0 ? release(self, batch, err) : ERR_OK;

    if (code == ERR_OK && batch->parked_count > 0) {
        code = park(self, batch, err);
    }
    if (code == ERR_OK && batch->void_count > 0) {
        code = declare_void(self, batch, err);
    }
    return code;
}

static enum err_code send_all(struct sink_pg *self, const struct sink_batch *batches, size_t count,
                              struct err *err) {
    enum err_code code = add(self, "begin", NULL, 0, err);

    if (code == ERR_OK) {
        code = compare_and_set(self, batches, count, err);
    }
    for (size_t i = 0; code == ERR_OK && i < self->options.projection->table_count; i++) {
        if (self->options.projection->tables[i]->stores & STORE_PG) {
            code = write_table(self, i, batches, count, err);
        }
    }
    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        code = write_exceptions(self, &batches[i], err);
    }
    return code == ERR_OK ? add(self, "commit", NULL, 0, err) : code;
}

/* Takes the answers. The first failure counts: those behind it are refused for its sake alone, and
 * the commit is a rollback. *failed: which statement it was, from 0. */
static enum err_code receive_all(struct sink_pg *self, size_t *failed, struct err *err) {
    enum err_code code = ERR_OK;

    for (size_t i = 0; self->conn.in_flight > 0; i++) {
        PGresult *result = NULL;
        bool done = false;
        const enum err_code answer =
            pg_conn_receive(&self->conn, "a statement of a batch", INT64_MAX, &done, &result,
                            code == ERR_OK ? err : NULL);
        PQclear(result);
        if (code == ERR_OK && answer != ERR_OK) {
            code = answer;
            *failed = i;
        }
    }
    return code;
}

static enum err_code apply_batches(struct sink_pg *self, const struct sink_batch *batches,
                                   size_t count, struct err *err) {
    enum { COMPARISON = 1 }; /* behind "begin" */
    size_t failed = 0;
    const enum err_code sent = send_all(self, batches, count, err);
    const enum err_code code = receive_all(self, &failed, sent == ERR_OK ? err : NULL);

    if (sent != ERR_OK) {
        return sent;
    }
    if (code == ERR_INVALID && failed == COMPARISON) {
        return refuse(batches, count, err);
    }
    /* Whether it took effect when no answer came the checkpoints tell, at the next try. */
    return retriable(code, err);
}

static enum err_code sink_apply(struct projection_sink *sink, const struct sink_batch *batch,
                                struct err *err) {
    return apply_batches(self_of(sink), batch, 1, err);
}

static enum err_code sink_apply_all(struct projection_sink *sink, const struct sink_batch *batches,
                                    size_t count, enum err_code *codes, struct err *err) {
    const enum err_code code = apply_batches(self_of(sink), batches, count, err);

    for (size_t i = 0; i < count; i++) {
        codes[i] = code;
    }
    return code;
}

/* --- life --- */

static void sink_free(struct projection_sink *sink) {
    struct sink_pg *self = self_of(sink);

    pg_conn_release(&self->conn);
    for (size_t i = 0; i < ARRAYS; i++) {
        pg_array_release(&self->arrays[i]);
    }
    for (size_t i = 0; i < self->options.projection->table_count; i++) {
        buf_release(&self->sql[i]);
    }
    buf_release(&self->heads_sql);
    mem_free(self);
}

struct projection_sink *sink_pg_new(const struct sink_pg_options *options) {
    static const struct projection_sink_ops ops = {
        .name = "postgresql",
        .read_checkpoints = sink_read_checkpoints,
        .read_exceptions = sink_read_exceptions,
        .read_parked = sink_read_parked,
        .read_heads = sink_read_heads,
        .apply = sink_apply,
        .apply_all = sink_apply_all,
        .free = sink_free,
    };
    struct sink_pg *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    self->base.store = STORE_PG;
    self->options = *options;
    self->stage = options->stage == SINK_LIVE ? "live" : "build";
    for (size_t i = 0; i < ARRAYS; i++) {
        pg_array_init(&self->arrays[i]);
    }
    make_statements(self);
    assert(self->statement_count <= STATEMENTS_MAX);
    pg_conn_init(&self->conn, &(struct pg_conn_options){
                                  .url = options->url,
                                  .application_name = "daybook-projector",
                                  .setup_sql = setup_sql,
                                  .statements = self->statements,
                                  .statement_count = self->statement_count,
                                  .connect_timeout_ms = options->connect_timeout_ms,
                                  .statement_timeout_ms = options->statement_timeout_ms,
                                  .log = options->log,
                                  .health = options->health,
                              });
    return &self->base;
}
