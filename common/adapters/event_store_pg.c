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
    {"load", "SELECT s.i, e.event_id, e.version, e.position, e.event_type, e.schema_version,"
             "  e.payload, e.recorded_at, e.correlation_id, e.causation_id, e.actor, e.traceparent,"
             "  e.command"
             " FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY"
             "  AS s(stream_id, aggregate_type, after_version, i)"
             " JOIN LATERAL (SELECT * FROM daybook.events e WHERE e.stream_id = s.stream_id"
             "  AND e.aggregate_type = s.aggregate_type AND e.version > s.after_version"
             "  ORDER BY e.version) e ON true"
             " ORDER BY s.i, e.version"},
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

static enum err_code store_append(struct event_store *store, const struct append_batch *batch,
                                  struct err *err) {
    static const enum pg_type types[APPEND_PARAMS] = {
        PG_UUID, PG_TEXT, PG_TEXT, PG_INT8, PG_TEXT,        PG_INT4, PG_JSON, PG_TEXT,
        PG_TEXT, PG_TEXT, PG_TEXT, PG_TEXT, PG_TIMESTAMPTZ, /* the event */
        PG_TEXT, PG_TEXT, PG_TEXT, PG_INT8, PG_INT2,        PG_INT8, PG_TEXT, PG_TIMESTAMPTZ};
    struct store_pg *self = self_of(store);
    struct pg_param params[APPEND_PARAMS];
    PGresult *result = NULL;

    begin_arrays(self, types, APPEND_PARAMS);
    for (size_t i = 0; i < batch->event_count; i++) {
        put_event(self->arrays, &batch->events[i]);
    }
    for (size_t i = 0; i < batch->outcome_count; i++) {
        put_outcome(self->arrays + EVENT_COLUMNS, &batch->outcomes[i]);
    }
    enum err_code code = finish_params(self, APPEND_PARAMS, params, err);
    if (code == ERR_OK) {
        code = pg_conn_run(&self->conn, "append", params, APPEND_PARAMS, true, &result, err);
    }
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

struct load_rows {
    const struct stream_from *streams;
    event_store_event_fn *fn;
    void *arg;
};

static enum err_code load_row(void *arg, const PGresult *row, struct err *err) {
    const struct load_rows *rows = arg;
    const size_t index = (size_t)pg_get_i64(row, 0, 0) - 1;
    struct recorded_event event = {
        .aggregate_type = rows->streams[index].stream.aggregate_type,
        .stream_id = rows->streams[index].stream.stream_id,
        .version = pg_get_i64(row, 0, 2),
        .position = pg_get_i64(row, 0, 3),
        .event_type = pg_get_str(row, 0, 4),
        .schema_version = pg_get_i32(row, 0, 5),
        .payload = pg_get_str(row, 0, 6),
        .recorded_at_us = pg_get_time_us(row, 0, 7),
        .correlation_id = pg_get_str(row, 0, 8),
        .causation_id = pg_get_str(row, 0, 9),
        .actor = pg_get_str(row, 0, 10),
        .traceparent = pg_get_str(row, 0, 11),
        .command = pg_get_str(row, 0, 12),
    };

    memcpy(event.event_id.bytes, PQgetvalue(row, 0, 1), sizeof(event.event_id.bytes));
    return rows->fn(rows->arg, index, &event, err);
}

static enum err_code store_load(struct event_store *store, const struct stream_from *streams,
                                size_t count, event_store_event_fn *fn, void *arg,
                                struct err *err) {
    static const enum pg_type types[] = {PG_TEXT, PG_TEXT, PG_INT8};
    struct store_pg *self = self_of(store);
    struct load_rows rows = {streams, fn, arg};
    struct pg_param params[ARRAY_LEN(types)];

    begin_arrays(self, types, ARRAY_LEN(types));
    for (size_t i = 0; i < count; i++) {
        pg_array_text(&self->arrays[0], streams[i].stream.stream_id);
        pg_array_text(&self->arrays[1], streams[i].stream.aggregate_type);
        pg_array_i64(&self->arrays[2], streams[i].after_version);
    }
    const enum err_code code = finish_params(self, ARRAY_LEN(types), params, err);
    if (code != ERR_OK) {
        return code;
    }
    return read_code(
        pg_conn_stream(&self->conn, "load", params, ARRAY_LEN(types), true, load_row, &rows, err));
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
        .append = store_append,
        .was_appended = store_was_appended,
        .find_outcomes = store_find_outcomes,
        .check = store_check,
        .free = store_free,
    };
    const struct pg_conn_options conn_options = {
        .url = options->url,
        .application_name = "daybook-command-api",
        .setup_sql = "SET synchronous_commit = on; SET plan_cache_mode = force_generic_plan",
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
