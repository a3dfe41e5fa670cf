/*
 * Whose the fresh tables are stands in the checkpoints of stage 'build': `begin` writes them with
 * an epoch that no build had before. The advisory lock only keeps two rebuilds from starting; it
 * goes with its connection. So everything that touches the fresh tables looks at that epoch first,
 * in its own transaction: build sinks compare their checkpoint, loads and the steps below hold it.
 */
#include "common/adapters/builder_pg.h"

#include <assert.h>
#include <poll.h>
#include <string.h>

#include "common/adapters/sink_pg_sql.h"
#include "common/base/mem.h"

enum {
    COPY_BYTES = 256 * 1024,
    COPY_BYTES_MAX = 64 * 1024 * 1024,
    SEAL_TIMEOUT_MS = 3600000, /* an index over all rows */
};

struct builder_pg {
    struct model_builder base;
    struct builder_pg_options options;
    struct pg_conn conn; /* holds the lock that makes us the only one */
    struct pg_array tables, bulk;
    int32_t partitions;
    int64_t epoch; /* of our build */
};

/* Locked against those who would begin another build, but not against our own sinks. */
#define HOLD_SQL                                                                  \
    "SELECT 1 FROM daybook.checkpoints WHERE projection = $1 AND stage = 'build'" \
    " AND epoch = $2::bigint FOR KEY SHARE"

static const struct pg_statement statements[] = {
    {"lock", "SELECT pg_try_advisory_lock(hashtext('daybook rebuild'), hashtext($1))"},
    {"begin", "BEGIN"},
    {"commit", "COMMIT"},
    {"rollback", "ROLLBACK"},
    {"unhurried", "SET LOCAL synchronous_commit = off"},
    {"impatient", "SET LOCAL lock_timeout = '500ms'"},
    {"patient", "SET LOCAL lock_timeout = '10s'"},
    {"number", "SELECT nextval('daybook.builds')"},
    {"claim", "INSERT INTO daybook.checkpoints (projection, stage, topic_partition, next_offset,"
              " version, epoch) SELECT $1, 'build', p, 0, $2::bigint, $3::bigint"
              " FROM generate_series(0, $4::integer - 1) p"},
    {"hold", HOLD_SQL},
    {"build_begin", "SELECT daybook.build_begin($1, $2::text[], $3::text[])"},
    {"build_seal", "SELECT daybook.build_seal($1::text[])"},
    {"build_switch", "SELECT daybook.build_switch($1, $2::text[])"},
    {"build_drop", "SELECT daybook.build_drop($1, $2::text[])"},
    {"live", "SELECT topic_partition, next_offset FROM daybook.checkpoints WHERE projection = $1"
             " AND stage = 'live' ORDER BY topic_partition FOR UPDATE"},
};

static struct builder_pg *self_of(struct model_builder *builder) {
    return (struct builder_pg *)(void *)builder;
}

static enum err_code run(struct builder_pg *self, const char *name, const struct pg_param *params,
                         size_t count, PGresult **result, struct err *err) {
    return pg_conn_run(&self->conn, name, params, count, true, result, err);
}

static enum err_code run_simply(struct builder_pg *self, const char *name,
                                const struct pg_param *params, size_t count, struct err *err) {
    PGresult *result = NULL;
    const enum err_code code = run(self, name, params, count, &result, err);

    PQclear(result);
    return code;
}

static struct pg_param name_of(const struct builder_pg *self) {
    return sink_pg_text(self->options.projection->name);
}

static struct pg_param tables_of(const struct builder_pg *self) {
    return (struct pg_param){self->tables.buf.ptr, self->tables.buf.len, true};
}

/* ERR_FENCED: another rebuild has begun meanwhile, or there is nothing of ours any more. */
static enum err_code hold(struct builder_pg *self, struct err *err) {
    char number[SINK_PG_NUMBER_BYTES];
    const struct pg_param params[] = {name_of(self), sink_pg_number(number, self->epoch)};
    PGresult *result = NULL;
    enum err_code code = run(self, "hold", params, ARRAY_LEN(params), &result, err);

    if (code == ERR_OK && PQntuples(result) != self->partitions) {
        code = err_set(err, ERR_FENCED, "postgresql: the build of %s is no longer this process's",
                       self->options.projection->name);
    }
    PQclear(result);
    return code;
}

static enum err_code end_transaction(struct builder_pg *self, enum err_code code, struct err *err) {
    if (code == ERR_OK) {
        return run_simply(self, "commit", NULL, 0, err);
    }
    if (self->conn.pg != NULL && run_simply(self, "rollback", NULL, 0, NULL) != ERR_OK) {
        pg_conn_close(&self->conn);
    }
    return code;
}

/* One of the database's functions, if the build is ours. The switch waits for the disk, and what
 * came before it is there with it; what comes after only clears up. */
static enum err_code run_held(struct builder_pg *self, const char *name,
                              const struct pg_param *params, size_t count, struct err *err) {
    enum err_code code = run_simply(self, "begin", NULL, 0, err);

    if (code != ERR_OK) {
        return code;
    }
    code = run_simply(self, "unhurried", NULL, 0, err);
    if (code == ERR_OK) {
        code = hold(self, err);
    }
    if (code == ERR_OK) {
        code = run_simply(self, name, params, count, err);
    }
    return end_transaction(self, code, err);
}

/* --- begin and seal --- */

static enum err_code builder_sole(struct model_builder *builder, struct err *err) {
    struct builder_pg *self = self_of(builder);
    const struct pg_param name = name_of(self);
    PGresult *result = NULL;
    enum err_code code = run(self, "lock", &name, 1, &result, err);

    if (code == ERR_OK && PQgetvalue(result, 0, 0)[0] == 0) {
        code = err_set(err, ERR_CONFLICT,
                       "%s is being rebuilt, or its parked events are changed, by another process",
                       self->options.projection->name);
    }
    PQclear(result);
    return code;
}

static enum err_code take_number(struct builder_pg *self, struct err *err) {
    PGresult *result = NULL;
    const enum err_code code = run(self, "number", NULL, 0, &result, err);

    self->epoch = code == ERR_OK ? pg_get_i64(result, 0, 0) : 0;
    PQclear(result);
    return code;
}

static enum err_code claim(struct builder_pg *self, struct err *err) {
    char numbers[3][SINK_PG_NUMBER_BYTES];
    const struct pg_param params[] = {
        name_of(self), sink_pg_number(numbers[0], self->options.projection->version),
        sink_pg_number(numbers[1], self->epoch), sink_pg_number(numbers[2], self->partitions)};

    return run_simply(self, "claim", params, ARRAY_LEN(params), err);
}

static enum err_code builder_begin(struct model_builder *builder, int32_t partitions,
                                   struct sink_checkpoint *at, struct err *err) {
    struct builder_pg *self = self_of(builder);
    const struct pg_param params[] = {
        name_of(self), tables_of(self), {self->bulk.buf.ptr, self->bulk.buf.len, true}};

    self->partitions = partitions;
    enum err_code code = take_number(self, err);
    if (code == ERR_OK) {
        code = run_simply(self, "begin", NULL, 0, err);
    }
    *at = (struct sink_checkpoint){.version = self->options.projection->version,
                                   .epoch = self->epoch};
    if (code != ERR_OK) {
        return code;
    }
    /* Who lost the lock may still be copying. */
    code = run_simply(self, "patient", NULL, 0, err);
    if (code == ERR_OK) {
        code = run_simply(self, "build_begin", params, ARRAY_LEN(params), err);
    }
    if (code == ERR_OK) {
        code = claim(self, err);
    }
    return end_transaction(self, code, err);
}

static enum err_code builder_seal(struct model_builder *builder, struct err *err) {
    struct builder_pg *self = self_of(builder);
    const struct pg_param tables = tables_of(self);

    return run_held(self, "build_seal", &tables, 1, err);
}

/* --- the switch --- */

/* The live writers wait at their checkpoints, so the built model can reach them and stay there. */
static enum err_code hold_live(struct builder_pg *self, struct sink_checkpoint *live,
                               struct err *err) {
    const struct pg_param name = name_of(self);
    PGresult *result = NULL;
    const enum err_code code = run(self, "live", &name, 1, &result, err);

    for (int32_t p = 0; p < TOPIC_PARTITIONS_MAX; p++) {
        live[p] = (struct sink_checkpoint){.next = SINK_NO_CHECKPOINT};
    }
    for (int row = 0; code == ERR_OK && row < PQntuples(result); row++) {
        const int32_t p = pg_get_i32(result, row, 0);
        if (p >= 0 && p < TOPIC_PARTITIONS_MAX) {
            live[p].next = pg_get_i64(result, row, 1);
        }
    }
    PQclear(result);
    return code;
}

static enum err_code builder_swap(struct model_builder *builder, builder_reach_fn *reach, void *arg,
                                  struct err *err) {
    struct builder_pg *self = self_of(builder);
    const struct pg_param params[] = {name_of(self), tables_of(self)};
    struct sink_checkpoint live[TOPIC_PARTITIONS_MAX];
    enum err_code code = run_simply(self, "begin", NULL, 0, err);

    if (code != ERR_OK) {
        return code;
    }
    code = run_simply(self, "impatient", NULL, 0, err);
    if (code == ERR_OK) {
        code = hold_live(self, live, err);
    }
    if (code == ERR_OK) {
        code = reach(arg, live, err);
    }
    if (code == ERR_OK) {
        code = hold(self, err);
    }
    if (code == ERR_OK) {
        code = run_simply(self, "build_switch", params, ARRAY_LEN(params), err);
    }
    code = end_transaction(self, code, err);
    /* A long reader is in the way: not ours to wait for with others queueing behind us. */
    return code == ERR_UNAVAILABLE && self->conn.pg != NULL ? ERR_CONFLICT : code;
}

static enum err_code builder_clean(struct model_builder *builder, struct err *err) {
    struct builder_pg *self = self_of(builder);
    const struct pg_param params[] = {name_of(self), tables_of(self)};

    const enum err_code code = run_held(self, "build_drop", params, ARRAY_LEN(params), err);
    return code == ERR_FENCED ? ERR_OK : code; /* nothing of ours is left */
}

/* --- COPY --- */

static const struct pg_statement load_statements[] = {
    {"begin", "BEGIN"},
    {"hold", HOLD_SQL},
    {"commit", "COMMIT"},
};

struct load_pg {
    struct model_load base;
    struct pg_conn conn;
    const char *projection;
    int64_t epoch;
    struct buf out;
    const struct model_table *table;
    bool open;
};

static struct load_pg *load_of(struct model_load *load) {
    return (struct load_pg *)(void *)load;
}

static enum err_code copy_failed(struct load_pg *load, const char *what, struct err *err) {
    const char *why = PQerrorMessage(load->conn.pg);
    const enum err_code code = err_set(err, ERR_UNAVAILABLE, "postgresql: copy: %s: %.*s", what,
                                       (int)strcspn(why, "\n"), why);

    pg_conn_close(&load->conn);
    return code;
}

/* Begins the copy's transaction and holds the build for its length. */
static enum err_code hold_for_load(struct load_pg *load, struct err *err) {
    char number[SINK_PG_NUMBER_BYTES];
    const struct pg_param params[] = {sink_pg_text(load->projection),
                                      sink_pg_number(number, load->epoch)};
    PGresult *result = NULL;
    enum err_code code = pg_conn_run(&load->conn, "begin", NULL, 0, true, &result, err);

    PQclear(result);
    result = NULL;
    if (code == ERR_OK) {
        code = pg_conn_run(&load->conn, "hold", params, ARRAY_LEN(params), true, &result, err);
    }
    if (code == ERR_OK && PQntuples(result) == 0) {
        code = err_set(err, ERR_FENCED, "postgresql: the build of %s is no longer this process's",
                       load->projection);
    }
    PQclear(result);
    if (code != ERR_OK) {
        pg_conn_close(&load->conn);
    }
    return code;
}

static enum err_code open_copy(struct load_pg *load, struct err *err) {
    static const char signature[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0";
    struct buf sql;
    enum err_code code = hold_for_load(load, err);

    if (code != ERR_OK) {
        return code;
    }
    buf_init(&sql, SINK_PG_SQL_BYTES_MAX);
    sink_pg_copy_sql(&sql, "daybook_build", load->table);
    (void)PQsetnonblocking(load->conn.pg, 0);
    PGresult *result = PQexec(load->conn.pg, sql.ptr);
    code = PQresultStatus(result) == PGRES_COPY_IN ? ERR_OK : copy_failed(load, "begin", err);
    PQclear(result);
    buf_release(&sql);
    buf_put(&load->out, signature, sizeof(signature)); /* its last NUL is the length's last byte */
    load->open = code == ERR_OK;
    return code;
}

static enum err_code flush_copy(struct load_pg *load, struct err *err) {
    if (buf_failed(&load->out)) {
        return err_set(err, ERR_LIMIT, "postgresql: copy: a row over %d bytes", COPY_BYTES_MAX);
    }
    if (load->out.len > 0 && PQputCopyData(load->conn.pg, load->out.ptr, (int)load->out.len) != 1) {
        return copy_failed(load, "send", err);
    }
    buf_clear(&load->out);
    return ERR_OK;
}

static enum err_code load_rows(struct model_load *base, int32_t partition, const struct row *rows,
                               size_t count, struct err *err) {
    struct load_pg *load = load_of(base);
    (void)partition;
    enum err_code code = load->open ? ERR_OK : open_copy(load, err);

    for (size_t i = 0; code == ERR_OK && i < count; i++) {
        if (rows[i].table == load->table) {
            sink_pg_put_copy_row(&load->out, &rows[i]);
            if (load->out.len > COPY_BYTES) {
                code = flush_copy(load, err);
            }
        }
    }
    return code;
}

static enum err_code load_end(struct model_load *base, struct err *err) {
    struct load_pg *load = load_of(base);
    enum err_code code = ERR_OK;

    if (!load->open) {
        return ERR_OK;
    }
    load->open = false;
    buf_put_be16(&load->out, UINT16_MAX);
    code = flush_copy(load, err);
    if (code != ERR_OK) {
        return code;
    }
    if (PQputCopyEnd(load->conn.pg, NULL) != 1) {
        return copy_failed(load, "end", err);
    }
    for (PGresult *result = PQgetResult(load->conn.pg); result != NULL;
         result = PQgetResult(load->conn.pg)) {
        if (code == ERR_OK && PQresultStatus(result) != PGRES_COMMAND_OK) {
            code = err_set(err, ERR_UNAVAILABLE, "postgresql: copy: %.300s",
                           PQresultErrorMessage(result));
        }
        PQclear(result);
    }
    if (code == ERR_OK) {
        PGresult *result = NULL;
        (void)PQsetnonblocking(load->conn.pg, 1);
        code = pg_conn_run(&load->conn, "commit", NULL, 0, true, &result, err);
        PQclear(result);
    }
    return code;
}

static void load_free(struct model_load *base) {
    struct load_pg *load = load_of(base);

    pg_conn_release(&load->conn);
    buf_release(&load->out);
    mem_free(load);
}

static enum err_code builder_load(struct model_builder *builder, const struct model_table *table,
                                  struct model_load **out, struct err *err) {
    static const struct model_load_ops ops = {load_rows, load_end, load_free};
    const struct builder_pg_options *options = &self_of(builder)->options;

    (void)err;
    *out = NULL;
    if (!table->append_only) {
        return ERR_OK;
    }
    struct load_pg *load = mem_zalloc(sizeof(*load));
    load->base.ops = &ops;
    load->table = table;
    load->projection = options->projection->name;
    load->epoch = self_of(builder)->epoch;
    buf_init(&load->out, COPY_BYTES_MAX);
    pg_conn_init(&load->conn, &(struct pg_conn_options){
                                  .url = options->url,
                                  .application_name = "daybook-projector rebuild",
                                  .setup_sql = "SET synchronous_commit = off",
                                  .statements = load_statements,
                                  .statement_count = ARRAY_LEN(load_statements),
                                  .connect_timeout_ms = options->connect_timeout_ms,
                                  .statement_timeout_ms = SEAL_TIMEOUT_MS,
                                  .log = options->log,
                              });
    *out = &load->base;
    return ERR_OK;
}

/* --- life --- */

static void builder_free(struct model_builder *builder) {
    struct builder_pg *self = self_of(builder);

    pg_conn_release(&self->conn);
    pg_array_release(&self->tables);
    pg_array_release(&self->bulk);
    mem_free(self);
}

struct model_builder *builder_pg_new(const struct builder_pg_options *options) {
    static const struct model_builder_ops ops = {
        .name = "postgresql",
        .sole = builder_sole,
        .begin = builder_begin,
        .load = builder_load,
        .seal = builder_seal,
        .swap = builder_swap,
        .clean = builder_clean,
        .free = builder_free,
    };
    struct builder_pg *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    self->base.store = STORE_PG;
    self->options = *options;
    pg_array_init(&self->tables);
    pg_array_init(&self->bulk);
    pg_array_begin(&self->tables, PG_TEXT);
    pg_array_begin(&self->bulk, PG_TEXT);
    for (size_t i = 0; i < options->projection->table_count; i++) {
        const struct model_table *table = options->projection->tables[i];
        if (table->stores & STORE_PG) {
            pg_array_text(&self->tables, str_from(table->name));
        }
        if ((table->stores & STORE_PG) && table->append_only) {
            pg_array_text(&self->bulk, str_from(table->name));
        }
    }
    pg_array_end(&self->tables);
    pg_array_end(&self->bulk);
    pg_conn_init(&self->conn, &(struct pg_conn_options){
                                  .url = options->url,
                                  .application_name = "daybook-projector rebuild",
                                  .setup_sql = "SET client_min_messages = warning",
                                  .statements = statements,
                                  .statement_count = ARRAY_LEN(statements),
                                  .connect_timeout_ms = options->connect_timeout_ms,
                                  .statement_timeout_ms = SEAL_TIMEOUT_MS,
                                  .log = options->log,
                              });
    return &self->base;
}
