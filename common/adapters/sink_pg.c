/*
 * One batch is one transaction in four kinds of statement: begin with the checkpoint's
 * compare-and-set (which locks it), the heads, one upsert per table, commit.
 *
 * Upserts are made once from the projection's table descriptors: rows come as arrays, one per
 * column. A column that a row leaves unset is NULL in its array and keeps the stored value, which
 * the join provides.
 */
#include "common/adapters/sink_pg.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/pg_array.h"
#include "common/adapters/pg_conn.h"
#include "common/base/mem.h"

enum {
    SQL_BYTES_MAX = 4096,
    FIXED_STATEMENTS = 6,
    STATEMENTS_MAX = FIXED_STATEMENTS + 2 + MODEL_TABLES_MAX,
    /* PostgreSQL counts days from 2000-01-01. */
    EPOCH_DAYS = 10957,
};

struct sink_pg {
    struct projection_sink base;
    const struct projection *projection;
    struct pg_conn conn;
    struct pg_statement statements[STATEMENTS_MAX];
    size_t statement_count;
    char names[MODEL_TABLES_MAX][64];
    struct buf sql[MODEL_TABLES_MAX];
    struct pg_array arrays[MODEL_COLUMNS_MAX];
};

static const struct pg_statement fixed[FIXED_STATEMENTS] = {
    {"checkpoint", "SELECT next_offset FROM daybook.checkpoints WHERE projection = $1"
                   " AND topic_partition = $2::integer"},
    {"heads", "SELECT k.i, h.version FROM unnest($2::text[], $3::text[]) WITH ORDINALITY"
              " AS k(stream_id, aggregate_type, i) JOIN daybook.stream_heads h"
              " ON h.projection = $1 AND h.stream_id = k.stream_id"
              " AND h.aggregate_type = k.aggregate_type"},
    {"advance", "UPDATE daybook.checkpoints SET next_offset = $3::bigint, updated_at = now()"
                " WHERE projection = $1 AND topic_partition = $2::integer"
                " AND next_offset = $4::bigint"},
    {"first_advance", "INSERT INTO daybook.checkpoints (projection, topic_partition, next_offset)"
                      " VALUES ($1, $2::integer, $3::bigint) ON CONFLICT DO NOTHING"},
    {"write_heads", "INSERT INTO daybook.stream_heads AS t (projection, stream_id, aggregate_type,"
                    " version) SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[])"
                    " ON CONFLICT (projection, stream_id, aggregate_type)"
                    " DO UPDATE SET version = excluded.version WHERE excluded.version > t.version"},
    {"begin", "BEGIN"},
};

/* A commit that a crash of the server takes back takes its checkpoint with it, so nobody has to
 * wait for the disk. */
static const char setup_sql[] = "SET synchronous_commit = off";

static struct sink_pg *self_of(struct projection_sink *sink) {
    return (struct sink_pg *)(void *)sink;
}

/* --- statements from descriptors --- */

static const char *array_type(enum column_kind kind) {
    switch (kind) {
    case COLUMN_TEXT:
        return "text[]";
    case COLUMN_I64:
        return "bigint[]";
    case COLUMN_TIME:
        return "timestamptz[]";
    case COLUMN_DATE:
        return "date[]";
    case COLUMN_UUID:
        return "uuid[]";
    }
    return "text[]";
}

static enum pg_type element_type(enum column_kind kind) {
    switch (kind) {
    case COLUMN_TEXT:
        return PG_TEXT;
    case COLUMN_I64:
        return PG_INT8;
    case COLUMN_TIME:
        return PG_TIMESTAMPTZ;
    case COLUMN_DATE:
        return PG_DATE;
    case COLUMN_UUID:
        return PG_UUID;
    }
    return PG_TEXT;
}

static void put_list(struct buf *sql, const struct model_table *table, const char *prefix) {
    for (size_t i = 0; i < table->column_count; i++) {
        buf_printf(sql, "%s%s%s", i > 0 ? ", " : "", prefix, table->columns[i].name);
    }
}

static void put_assignments(struct buf *sql, const struct model_table *table) {
    for (size_t i = table->key_count; i < table->column_count; i++) {
        const char *name = table->columns[i].name;
        buf_put_text(sql, i > table->key_count ? ", " : "");
        if (table->columns[i].merge == MERGE_ADD) {
            buf_printf(sql, "%s = t.%s + excluded.%s", name, name, name);
        } else {
            buf_printf(sql, "%s = excluded.%s", name, name);
        }
    }
}

static void make_upsert(struct buf *sql, const struct model_table *table) {
    buf_printf(sql, "INSERT INTO daybook.%s AS t (", table->name);
    put_list(sql, table, "");
    buf_put_text(sql, ") SELECT ");
    for (size_t i = 0; i < table->column_count; i++) {
        const char *name = table->columns[i].name;
        const bool kept = i >= table->key_count && table->columns[i].merge == MERGE_SET;
        buf_printf(sql, kept ? "%scoalesce(u.%s, s.%s)" : "%su.%s", i > 0 ? ", " : "", name, name);
    }
    buf_put_text(sql, " FROM unnest(");
    for (size_t i = 0; i < table->column_count; i++) {
        buf_printf(sql, "%s$%zu::%s", i > 0 ? ", " : "", i + 1, array_type(table->columns[i].kind));
    }
    buf_put_text(sql, ") AS u(");
    put_list(sql, table, "");
    buf_printf(sql, ") LEFT JOIN daybook.%s s ON ", table->name);
    for (size_t i = 0; i < table->key_count; i++) {
        const char *name = table->columns[i].name;
        buf_printf(sql, "%ss.%s = u.%s", i > 0 ? " AND " : "", name, name);
    }
    buf_put_text(sql, " ON CONFLICT (");
    for (size_t i = 0; i < table->key_count; i++) {
        buf_printf(sql, "%s%s", i > 0 ? ", " : "", table->columns[i].name);
    }
    buf_put_text(sql, ") DO UPDATE SET ");
    put_assignments(sql, table);
    if (table->version_column >= 0) {
        const char *name = table->columns[table->version_column].name;
        buf_printf(sql, " WHERE excluded.%s > t.%s", name, name);
    }
}

static void make_statements(struct sink_pg *self) {
    memcpy(self->statements, fixed, sizeof(fixed));
    self->statement_count = FIXED_STATEMENTS;
    for (size_t i = 0; i < self->projection->table_count; i++) {
        const struct model_table *table = self->projection->tables[i];
        buf_init(&self->sql[i], SQL_BYTES_MAX);
        if (!(table->stores & STORE_PG)) {
            continue;
        }
        make_upsert(&self->sql[i], table);
        assert(!buf_failed(&self->sql[i]));
        (void)snprintf(self->names[i], sizeof(self->names[i]), "upsert_%s", table->name);
        self->statements[self->statement_count++] =
            (struct pg_statement){self->names[i], self->sql[i].ptr};
    }
}

/* --- running them --- */

struct integer_text {
    char text[24];
};

static struct integer_text to_text(int64_t value) {
    struct integer_text out;

    (void)snprintf(out.text, sizeof(out.text), "%" PRId64, value);
    return out;
}

static struct pg_param text_param(const char *text) {
    return (struct pg_param){text, strlen(text), false};
}

static struct pg_param array_param(struct pg_array *array) {
    pg_array_end(array);
    return (struct pg_param){array->buf.ptr, array->buf.len, true};
}

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

static enum err_code execute(struct sink_pg *self, const char *name, const struct pg_param *params,
                             size_t count, int64_t *rows, struct err *err) {
    PGresult *result = NULL;
    enum err_code code = pg_conn_run(&self->conn, name, params, count, true, &result, err);

    if (code == ERR_OK && rows != NULL && !str_to_i64(str_from(PQcmdTuples(result)), rows)) {
        *rows = 0;
    }
    PQclear(result);
    return retriable(code, err);
}

static enum err_code sink_read_checkpoint(struct projection_sink *sink, int32_t partition,
                                          int64_t *next, struct err *err) {
    struct sink_pg *self = self_of(sink);
    const struct integer_text number = to_text(partition);
    const struct pg_param params[] = {text_param(self->projection->name), text_param(number.text)};
    PGresult *result = NULL;
    const enum err_code code =
        pg_conn_run(&self->conn, "checkpoint", params, ARRAY_LEN(params), true, &result, err);

    if (code == ERR_OK) {
        *next = PQntuples(result) == 1 ? pg_get_i64(result, 0, 0) : SINK_NO_CHECKPOINT;
    }
    PQclear(result);
    return retriable(code, err);
}

static void put_streams(struct sink_pg *self, const struct stream_head *heads, size_t count) {
    pg_array_begin(&self->arrays[0], PG_TEXT);
    pg_array_begin(&self->arrays[1], PG_TEXT);
    pg_array_begin(&self->arrays[2], PG_INT8);
    for (size_t i = 0; i < count; i++) {
        pg_array_text(&self->arrays[0], heads[i].stream.stream_id);
        pg_array_text(&self->arrays[1], heads[i].stream.aggregate_type);
        pg_array_i64(&self->arrays[2], heads[i].version);
    }
}

static enum err_code sink_read_heads(struct projection_sink *sink, int32_t partition,
                                     struct stream_head *heads, size_t count, struct err *err) {
    struct sink_pg *self = self_of(sink);
    PGresult *result = NULL;

    (void)partition;
    put_streams(self, heads, count);
    const struct pg_param params[] = {text_param(self->projection->name),
                                      array_param(&self->arrays[0]), array_param(&self->arrays[1])};
    const enum err_code code =
        pg_conn_run(&self->conn, "heads", params, ARRAY_LEN(params), true, &result, err);
    for (size_t i = 0; i < count; i++) {
        heads[i].version = 0;
    }
    for (int row = 0; code == ERR_OK && row < PQntuples(result); row++) {
        heads[pg_get_i64(result, row, 0) - 1].version = pg_get_i64(result, row, 1);
    }
    PQclear(result);
    return retriable(code, err);
}

static enum err_code advance(struct sink_pg *self, const struct sink_batch *batch,
                             struct err *err) {
    const struct integer_text partition = to_text(batch->partition);
    const struct integer_text next = to_text(batch->next);
    const struct integer_text expected = to_text(batch->expected);
    const bool first = batch->expected == SINK_NO_CHECKPOINT;
    const struct pg_param params[] = {text_param(self->projection->name),
                                      text_param(partition.text), text_param(next.text),
                                      text_param(expected.text)};
    int64_t rows = 0;
    const enum err_code code =
        execute(self, first ? "first_advance" : "advance", params, first ? 3 : 4, &rows, err);

    if (code == ERR_OK && rows != 1) {
        return err_set(err, ERR_FENCED,
                       "postgresql: the checkpoint of partition %" PRId32 " is not %" PRId64,
                       batch->partition, batch->expected);
    }
    return code;
}

static enum err_code write_heads(struct sink_pg *self, const struct sink_batch *batch,
                                 struct err *err) {
    if (batch->head_count == 0) {
        return ERR_OK;
    }
    put_streams(self, batch->heads, batch->head_count);
    const struct pg_param params[] = {text_param(self->projection->name),
                                      array_param(&self->arrays[0]), array_param(&self->arrays[1]),
                                      array_param(&self->arrays[2])};
    return execute(self, "write_heads", params, ARRAY_LEN(params), NULL, err);
}

static void put_cell(struct pg_array *array, enum column_kind kind, const struct cell *cell) {
    if (!cell->set) {
        pg_array_null(array);
        return;
    }
    switch (kind) {
    case COLUMN_TEXT:
        pg_array_text(array, cell->text);
        break;
    case COLUMN_I64:
        pg_array_i64(array, cell->number);
        break;
    case COLUMN_TIME:
        pg_array_time(array, cell->number);
        break;
    case COLUMN_DATE:
        pg_array_i32(array, (int32_t)(cell->number - EPOCH_DAYS));
        break;
    case COLUMN_UUID:
        pg_array_uuid(array, &cell->uuid);
        break;
    }
}

static enum err_code write_table(struct sink_pg *self, size_t index, const struct sink_batch *batch,
                                 struct err *err) {
    const struct model_table *table = self->projection->tables[index];
    struct pg_param params[MODEL_COLUMNS_MAX];
    size_t rows = 0;

    for (size_t i = 0; i < table->column_count; i++) {
        pg_array_begin(&self->arrays[i], element_type(table->columns[i].kind));
    }
    for (size_t r = 0; r < batch->row_count; r++) {
        if (batch->rows[r].table != table) {
            continue;
        }
        rows++;
        for (size_t i = 0; i < table->column_count; i++) {
            put_cell(&self->arrays[i], table->columns[i].kind, &batch->rows[r].cells[i]);
        }
    }
    if (rows == 0) {
        return ERR_OK;
    }
    for (size_t i = 0; i < table->column_count; i++) {
        params[i] = array_param(&self->arrays[i]);
    }
    return execute(self, self->names[index], params, table->column_count, NULL, err);
}

static enum err_code end_transaction(struct sink_pg *self, enum err_code code, struct err *err) {
    const bool commit = code == ERR_OK;
    PGresult *result = NULL;

    if (self->conn.pg == NULL) {
        return code;
    }
    const enum err_code ended =
        pg_conn_run(&self->conn, commit ? "commit" : "rollback", NULL, 0, true, &result, NULL);
    PQclear(result);
    if (commit && ended != ERR_OK) {
        /* Committed or not: the checkpoint tells, at the next try. */
        pg_conn_close(&self->conn);
        return err_set(err, ERR_UNAVAILABLE, "postgresql: no answer to commit");
    }
    return code;
}

static enum err_code sink_apply(struct projection_sink *sink, const struct sink_batch *batch,
                                struct err *err) {
    struct sink_pg *self = self_of(sink);
    enum err_code code = execute(self, "begin", NULL, 0, NULL, err);

    if (code != ERR_OK) {
        return code;
    }
    code = advance(self, batch, err);
    if (code == ERR_OK) {
        code = write_heads(self, batch, err);
    }
    for (size_t i = 0; code == ERR_OK && i < self->projection->table_count; i++) {
        if (self->projection->tables[i]->stores & STORE_PG) {
            code = write_table(self, i, batch, err);
        }
    }
    return end_transaction(self, code, err);
}

static void sink_free(struct projection_sink *sink) {
    struct sink_pg *self = self_of(sink);

    pg_conn_release(&self->conn);
    for (size_t i = 0; i < MODEL_COLUMNS_MAX; i++) {
        pg_array_release(&self->arrays[i]);
    }
    for (size_t i = 0; i < self->projection->table_count; i++) {
        buf_release(&self->sql[i]);
    }
    mem_free(self);
}

struct projection_sink *sink_pg_new(const struct sink_pg_options *options) {
    static const struct projection_sink_ops ops = {
        .name = "postgresql",
        .read_checkpoint = sink_read_checkpoint,
        .read_heads = sink_read_heads,
        .apply = sink_apply,
        .free = sink_free,
    };
    struct sink_pg *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    self->base.store = STORE_PG;
    self->projection = options->projection;
    make_statements(self);
    self->statements[self->statement_count++] = (struct pg_statement){"commit", "COMMIT"};
    self->statements[self->statement_count++] = (struct pg_statement){"rollback", "ROLLBACK"};
    for (size_t i = 0; i < MODEL_COLUMNS_MAX; i++) {
        pg_array_init(&self->arrays[i]);
    }
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
