/*
 * Invariants
 *  1. append is one statement, hence one transaction and one round trip: a CTE inserts the
 * outcomes, the main statement the events, both from unnested arrays.
 *  2. unnest keeps the arrays' order, so the events enter the WAL in the order given.
 *  3. synchronous_commit is on for the session, whatever the server's default: an acknowledged
 * batch is on disk.
 */
#include "common/adapters/event_store_pg.h"

#include "common/adapters/pg_array.h"
#include "common/adapters/pg_conn.h"
#include "common/base/mem.h"

enum {
    EVENT_COLUMNS = 13,
    OUTCOME_COLUMNS = 8,
    APPEND_PARAMS = EVENT_COLUMNS + OUTCOME_COLUMNS,
};

#define LOAD_MAX_TEXT "100000"
_Static_assert((int)EVENT_STORE_LOAD_MAX == 100000, "the load statement says the same");

/* All statements find their rows by key, and are planned once for a session: a plan that was made
 * while the tables were small must not scan them when they have grown. */
#define SETUP_SQL                                                             \
    "SET synchronous_commit = on; SET plan_cache_mode = force_generic_plan; " \
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off"

static const struct pg_statement statements[] = {
    {"append", "WITH outcomes AS ("
               " INSERT INTO daybook.command_outcomes (stream_id, aggregate_type, idempotency_key,"
               "  request_hash, status, version, body, recorded_at)"
               " SELECT * FROM unnest($14::text[], $15::text[], $16::text[], $17::bigint[],"
               "  $18::smallint[], $19::bigint[], $20::text[], $21::timestamptz[])"
               ") INSERT INTO daybook.events (event_id, aggregate_type, stream_id, version,"
               "  event_type, schema_version, payload, correlation_id, causation_id, actor,"
               "  traceparent, command, recorded_at)"
               " SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[],"
               "  $6::integer[], $7::json[], $8::text[], $9::text[], $10::text[], $11::text[],"
               "  $12::text[], $13::timestamptz[])"},
    /* A row per event; beside it the snapshot that was looked at. A stream with neither has a row
       without both. */
    {"load", "SELECT s.i, e.event_id, e.version, e.position, e.event_type, e.schema_version,"
             "  e.payload, e.recorded_at, e.correlation_id, e.causation_id, e.actor, e.traceparent,"
             "  e.command, n.version, n.event_id, n.recorded_at, n.layout, n.checksum,"
             "  CASE WHEN n.fits THEN n.state END, n.in_log::int"
             " FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) WITH ORDINALITY"
             "  AS s(stream_id, aggregate_type, after_version, layout, i)"
             " LEFT JOIN LATERAL (SELECT *, h.in_log AND n.layout = s.layout AS fits"
             "  FROM daybook.snapshots n, LATERAL (SELECT EXISTS (SELECT FROM daybook.events e"
             "   WHERE e.stream_id = n.stream_id AND e.aggregate_type = n.aggregate_type"
             "   AND e.version = n.version AND e.event_id = n.event_id) AS in_log) h"
             "  WHERE n.stream_id = s.stream_id AND n.aggregate_type = s.aggregate_type"
             "   AND s.layout IS NOT NULL) n ON true"
             " LEFT JOIN LATERAL (SELECT * FROM daybook.events e WHERE e.stream_id = s.stream_id"
             "  AND e.aggregate_type = s.aggregate_type"
             "  AND e.version > CASE WHEN n.fits THEN n.version ELSE s.after_version END"
             "  ORDER BY e.version LIMIT " LOAD_MAX_TEXT ") e ON true"
             " ORDER BY s.i, e.version"},
    {"save_snapshots",
     "INSERT INTO daybook.snapshots AS n (stream_id, aggregate_type, version,"
     "  event_id, recorded_at, layout, checksum, state)"
     " SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::uuid[],"
     "  $5::timestamptz[], $6::bigint[], $7::bigint[], $8::text[]) AS s(stream_id,"
     "  aggregate_type, version, event_id, recorded_at, layout, checksum, state)"
     " ORDER BY stream_id, aggregate_type"
     " ON CONFLICT (stream_id, aggregate_type) DO UPDATE SET"
     "  version = excluded.version, event_id = excluded.event_id,"
     "  recorded_at = excluded.recorded_at, layout = excluded.layout,"
     "  checksum = excluded.checksum, state = excluded.state"},
    {"has_event", "SELECT count(*) FROM daybook.events WHERE event_id = ($1::uuid[])[1]"},
    {"find_outcomes", "SELECT k.i, o.request_hash, o.status, o.version, o.body, o.recorded_at"
                      " FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY"
                      "  AS k(stream_id, aggregate_type, idempotency_key, i)"
                      " JOIN daybook.command_outcomes o USING (stream_id, aggregate_type,"
                      "  idempotency_key)"},
    {"check", "SELECT 1"},
};

struct store_pg {
    struct event_store base;
    struct pg_conn conn;
    struct pg_array arrays[APPEND_PARAMS];
};

static struct store_pg *self_of(struct event_store *store) {
    return (struct store_pg *)(void *)store;
}

/* Ends the arrays and makes parameters of them. A column without any value is sent as NULL instead
 * of an array of NULLs: beside other columns unnest pads it, and has nothing to unpack. */
static enum err_code finish_params(struct store_pg *self, size_t count, struct pg_param *params,
                                   struct err *err) {
    for (size_t i = 0; i < count; i++) {
        pg_array_end(&self->arrays[i]);
        if (buf_failed(&self->arrays[i].buf)) {
            return err_set(err, ERR_LIMIT, "batch over %d bytes", PG_ARRAY_BYTES_MAX);
        }
        const struct pg_array *array = &self->arrays[i];
        params[i] = (struct pg_param){pg_array_has_values(array) ? array->buf.ptr : NULL,
                                      array->buf.len, true};
    }
    return ERR_OK;
}

static void begin_arrays(struct store_pg *self, const enum pg_type *types, size_t count) {
    for (size_t i = 0; i < count; i++) {
        pg_array_begin(&self->arrays[i], types[i]);
    }
}

static void put_event(struct pg_array *a, const struct recorded_event *e) {
    pg_array_uuid(&a[0], &e->event_id);
    pg_array_text(&a[1], e->aggregate_type);
    pg_array_text(&a[2], e->stream_id);
    pg_array_i64(&a[3], e->version);
    pg_array_text(&a[4], e->event_type);
    pg_array_i32(&a[5], e->schema_version);
    pg_array_text(&a[6], e->payload);
    pg_array_text_or_null(&a[7], e->correlation_id);
    pg_array_text_or_null(&a[8], e->causation_id);
    pg_array_text_or_null(&a[9], e->actor);
    pg_array_text_or_null(&a[10], e->traceparent);
    pg_array_text_or_null(&a[11], e->command);
    pg_array_time(&a[12], e->recorded_at_us);
}

static void put_outcome(struct pg_array *a, const struct command_outcome *o) {
    pg_array_text(&a[0], o->stream.stream_id);
    pg_array_text(&a[1], o->stream.aggregate_type);
    pg_array_text(&a[2], o->key);
    pg_array_i64(&a[3], o->request_hash);
    pg_array_i16(&a[4], (int16_t)o->status);
    pg_array_i64(&a[5], o->version);
    pg_array_text(&a[6], o->body);
    pg_array_time(&a[7], o->recorded_at_us);
}

static enum err_code store_append_begin(struct event_store *store, const struct append_batch *batch,
                                        struct err *err) {
    static const enum pg_type types[APPEND_PARAMS] = {
        PG_UUID, PG_TEXT, PG_TEXT, PG_INT8, PG_TEXT,        PG_INT4, PG_JSON, PG_TEXT,
        PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_TIMESTAMPTZ, /* the event */
        PG_TEXT, PG_TEXT, PG_TEXT, PG_INT8, PG_INT2,        PG_INT8, PG_TEXT, PG_TIMESTAMPTZ};
    struct store_pg *self = self_of(store);
    struct pg_param params[APPEND_PARAMS];

    begin_arrays(self, types, APPEND_PARAMS);
    for (size_t i = 0; i < batch->event_count; i++) {
        put_event(self->arrays, &batch->events[i]);
    }
    for (size_t i = 0; i < batch->outcome_count; i++) {
        put_outcome(self->arrays + EVENT_COLUMNS, &batch->outcomes[i]);
    }
    enum err_code code = finish_params(self, APPEND_PARAMS, params, err);
    if (code == ERR_OK) {
        code = pg_conn_send(&self->conn, "append", params, APPEND_PARAMS, true, err);
    }
    return code;
}

static enum err_code store_append_end(struct event_store *store, int64_t wait_until_us, bool *ended,
                                      struct err *err) {
    PGresult *result = NULL;
    const enum err_code code =
        pg_conn_receive(&self_of(store)->conn, "append", wait_until_us, ended, &result, err);

    PQclear(result);
    return code;
}

/* A question that got no answer can be asked again: for reads that is all that matters. */
static enum err_code read_code(enum err_code code) {
    return code == ERR_OUTCOME_UNKNOWN ? ERR_UNAVAILABLE : code;
}

static enum err_code has_first_event(struct store_pg *self, const struct append_batch *batch,
                                     bool *appended, struct err *err) {
    struct pg_param param;
    PGresult *result = NULL;

    pg_array_begin(&self->arrays[0], PG_UUID);
    pg_array_uuid(&self->arrays[0], &batch->events[0].event_id);
    enum err_code code = finish_params(self, 1, &param, err);
    if (code == ERR_OK) {
        code = read_code(pg_conn_run(&self->conn, "has_event", &param, 1, true, &result, err));
    }
    if (code == ERR_OK) {
        *appended = pg_get_i64(result, 0, 0) == 1;
    }
    PQclear(result);
    return code;
}

struct outcome_match {
    const struct command_outcome *wanted;
    bool found;
};

static void match_outcome(void *arg, size_t key_index, const struct command_outcome *outcome) {
    struct outcome_match *match = arg;

    (void)key_index;
    match->found = outcome->request_hash == match->wanted->request_hash &&
                   outcome->recorded_at_us == match->wanted->recorded_at_us &&
                   outcome->status == match->wanted->status;
}

static enum err_code store_was_appended(struct event_store *store, const struct append_batch *batch,
                                        bool *appended, struct err *err) {
    *appended = false;
    if (batch->event_count > 0) {
        return has_first_event(self_of(store), batch, appended, err);
    }
    if (batch->outcome_count == 0) {
        *appended = true;
        return ERR_OK;
    }
    struct outcome_match match = {.wanted = &batch->outcomes[0]};
    const struct outcome_key key = {match.wanted->stream, match.wanted->key};
    const enum err_code code =
        store->ops->find_outcomes(store, &key, 1, match_outcome, &match, err);
    *appended = match.found;
    return code;
}

enum load_column {
    LOAD_INDEX,
    LOAD_EVENT_ID,
    LOAD_VERSION,
    LOAD_POSITION,
    LOAD_EVENT_TYPE,
    LOAD_SCHEMA_VERSION,
    LOAD_PAYLOAD,
    LOAD_RECORDED_AT,
    LOAD_CORRELATION_ID,
    LOAD_CAUSATION_ID,
    LOAD_ACTOR,
    LOAD_TRACEPARENT,
    LOAD_COMMAND,
    LOAD_SNAPSHOT_VERSION,
    LOAD_SNAPSHOT_EVENT_ID,
    LOAD_SNAPSHOT_RECORDED_AT,
    LOAD_SNAPSHOT_LAYOUT,
    LOAD_SNAPSHOT_CHECKSUM,
    LOAD_SNAPSHOT_STATE,
    LOAD_SNAPSHOT_IN_LOG,
};

struct load_rows {
    const struct stream_from *streams;
    event_store_snapshot_fn *snapshot_fn;
    event_store_event_fn *fn;
    void *arg;
    size_t told; /* streams whose snapshot was handed on: all before this index */
};

static struct uuid get_uuid(const PGresult *row, int column) {
    struct uuid id;

    memcpy(id.bytes, PQgetvalue(row, 0, column), sizeof(id.bytes));
    return id;
}

static void load_snapshot(const struct load_rows *rows, size_t index, const PGresult *row) {
    const struct stream_snapshot snapshot = {
        .stream = rows->streams[index].stream,
        .version = pg_get_i64(row, 0, LOAD_SNAPSHOT_VERSION),
        .event_id = get_uuid(row, LOAD_SNAPSHOT_EVENT_ID),
        .recorded_at_us = pg_get_time_us(row, 0, LOAD_SNAPSHOT_RECORDED_AT),
        .layout = pg_get_i64(row, 0, LOAD_SNAPSHOT_LAYOUT),
        .checksum = pg_get_i64(row, 0, LOAD_SNAPSHOT_CHECKSUM),
        .state = pg_get_str(row, 0, LOAD_SNAPSHOT_STATE),
    };
    enum snapshot_fit fit = SNAPSHOT_FITS;

    if (snapshot.layout != rows->streams[index].layout) {
        fit = SNAPSHOT_OTHER_LAYOUT;
    } else if (pg_get_i32(row, 0, LOAD_SNAPSHOT_IN_LOG) == 0) {
        fit = SNAPSHOT_OTHER_LOG;
    }
    rows->snapshot_fn(rows->arg, index, &snapshot, fit);
}

static enum err_code load_row(void *arg, const PGresult *row, struct err *err) {
    struct load_rows *rows = arg;
    const size_t index = (size_t)pg_get_i64(row, 0, LOAD_INDEX) - 1;

    if (index >= rows->told) {
        rows->told = index + 1;
        if (!PQgetisnull(row, 0, LOAD_SNAPSHOT_VERSION)) {
            load_snapshot(rows, index, row);
        }
    }
    if (PQgetisnull(row, 0, LOAD_VERSION)) {
        return ERR_OK;
    }
    const struct recorded_event event = {
        .event_id = get_uuid(row, LOAD_EVENT_ID),
        .aggregate_type = rows->streams[index].stream.aggregate_type,
        .stream_id = rows->streams[index].stream.stream_id,
        .version = pg_get_i64(row, 0, LOAD_VERSION),
        .position = pg_get_i64(row, 0, LOAD_POSITION),
        .event_type = pg_get_str(row, 0, LOAD_EVENT_TYPE),
        .schema_version = pg_get_i32(row, 0, LOAD_SCHEMA_VERSION),
        .payload = pg_get_str(row, 0, LOAD_PAYLOAD),
        .recorded_at_us = pg_get_time_us(row, 0, LOAD_RECORDED_AT),
        .correlation_id = pg_get_str(row, 0, LOAD_CORRELATION_ID),
        .causation_id = pg_get_str(row, 0, LOAD_CAUSATION_ID),
        .actor = pg_get_str(row, 0, LOAD_ACTOR),
        .traceparent = pg_get_str(row, 0, LOAD_TRACEPARENT),
        .command = pg_get_str(row, 0, LOAD_COMMAND),
    };
    return rows->fn(rows->arg, index, &event, err);
}

static enum err_code store_load(struct event_store *store, const struct stream_from *streams,
                                size_t count, event_store_snapshot_fn *snapshot_fn,
                                event_store_event_fn *fn, void *arg, struct err *err) {
    static const enum pg_type types[] = {PG_TEXT, PG_TEXT, PG_INT8, PG_INT8};
    struct store_pg *self = self_of(store);
    struct load_rows rows = {streams, snapshot_fn, fn, arg, 0};
    struct pg_param params[ARRAY_LEN(types)];

    begin_arrays(self, types, ARRAY_LEN(types));
    for (size_t i = 0; i < count; i++) {
        pg_array_text(&self->arrays[0], streams[i].stream.stream_id);
        pg_array_text(&self->arrays[1], streams[i].stream.aggregate_type);
        pg_array_i64(&self->arrays[2], streams[i].after_version);
        if (streams[i].from_snapshot && snapshot_fn != NULL) {
            pg_array_i64(&self->arrays[3], streams[i].layout);
        } else {
            pg_array_null(&self->arrays[3]);
        }
    }
    const enum err_code code = finish_params(self, ARRAY_LEN(types), params, err);
    if (code != ERR_OK) {
        return code;
    }
    return read_code(
        pg_conn_stream(&self->conn, "load", params, ARRAY_LEN(types), true, load_row, &rows, err));
}

static enum err_code store_save_snapshots(struct event_store *store,
                                          const struct stream_snapshot *snapshots, size_t count,
                                          struct err *err) {
    static const enum pg_type types[] = {PG_TEXT,        PG_TEXT, PG_INT8, PG_UUID,
                                         PG_TIMESTAMPTZ, PG_INT8, PG_INT8, PG_TEXT};
    struct store_pg *self = self_of(store);
    struct pg_array *arrays = self->arrays;
    struct pg_param params[ARRAY_LEN(types)];
    PGresult *result = NULL;

    begin_arrays(self, types, ARRAY_LEN(types));
    for (size_t i = 0; i < count; i++) {
        pg_array_text(&arrays[0], snapshots[i].stream.stream_id);
        pg_array_text(&arrays[1], snapshots[i].stream.aggregate_type);
        pg_array_i64(&arrays[2], snapshots[i].version);
        pg_array_uuid(&arrays[3], &snapshots[i].event_id);
        pg_array_time(&arrays[4], snapshots[i].recorded_at_us);
        pg_array_i64(&arrays[5], snapshots[i].layout);
        pg_array_i64(&arrays[6], snapshots[i].checksum);
        pg_array_text(&arrays[7], snapshots[i].state);
    }
    enum err_code code = finish_params(self, ARRAY_LEN(types), params, err);
    if (code == ERR_OK) {
        code = read_code(pg_conn_run(&self->conn, "save_snapshots", params, ARRAY_LEN(types), true,
                                     &result, err));
    }
    PQclear(result);
    return code;
}

static enum err_code store_find_outcomes(struct event_store *store, const struct outcome_key *keys,
                                         size_t count, event_store_outcome_fn *fn, void *arg,
                                         struct err *err) {
    static const enum pg_type types[] = {PG_TEXT, PG_TEXT, PG_TEXT};
    struct store_pg *self = self_of(store);
    struct pg_param params[ARRAY_LEN(types)];
    PGresult *result = NULL;

    begin_arrays(self, types, ARRAY_LEN(types));
    for (size_t i = 0; i < count; i++) {
        pg_array_text(&self->arrays[0], keys[i].stream.stream_id);
        pg_array_text(&self->arrays[1], keys[i].stream.aggregate_type);
        pg_array_text(&self->arrays[2], keys[i].key);
    }
    enum err_code code = finish_params(self, ARRAY_LEN(types), params, err);
    if (code == ERR_OK) {
        code = read_code(pg_conn_run(&self->conn, "find_outcomes", params, ARRAY_LEN(types), true,
                                     &result, err));
    }
    for (int row = 0; code == ERR_OK && row < PQntuples(result); row++) {
        const size_t index = (size_t)pg_get_i64(result, row, 0) - 1;
        const struct command_outcome outcome = {
            .stream = keys[index].stream,
            .key = keys[index].key,
            .request_hash = pg_get_i64(result, row, 1),
            .status = pg_get_i16(result, row, 2),
            .version = pg_get_i64(result, row, 3),
            .body = pg_get_str(result, row, 4),
            .recorded_at_us = pg_get_time_us(result, row, 5),
        };
        fn(arg, index, &outcome);
    }
    PQclear(result);
    return code;
}

static enum err_code store_check(struct event_store *store, struct err *err) {
    PGresult *result = NULL;
    const enum err_code code =
        read_code(pg_conn_run(&self_of(store)->conn, "check", NULL, 0, true, &result, err));

    PQclear(result);
    return code;
}

static void store_free(struct event_store *store) {
    struct store_pg *self = self_of(store);

    pg_conn_release(&self->conn);
    for (size_t i = 0; i < APPEND_PARAMS; i++) {
        pg_array_release(&self->arrays[i]);
    }
    mem_free(self);
}

struct event_store *event_store_pg_new(const struct event_store_pg_options *options) {
    static const struct event_store_ops ops = {
        .load = store_load,
        .save_snapshots = store_save_snapshots,
        .append_begin = store_append_begin,
        .append_end = store_append_end,
        .was_appended = store_was_appended,
        .find_outcomes = store_find_outcomes,
        .check = store_check,
        .free = store_free,
    };
    const struct pg_conn_options conn_options = {
        .url = options->url,
        .application_name = "daybook-command-api",
        .setup_sql = SETUP_SQL,
        .statements = statements,
        .statement_count = ARRAY_LEN(statements),
        .connect_timeout_ms = options->connect_timeout_ms,
        .statement_timeout_ms = options->statement_timeout_ms,
        .log = options->log,
        .health = options->health,
    };
    struct store_pg *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    pg_conn_init(&self->conn, &conn_options);
    for (size_t i = 0; i < APPEND_PARAMS; i++) {
        pg_array_init(&self->arrays[i]);
    }
    return &self->base;
}
