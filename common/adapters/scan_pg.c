#include "common/adapters/scan_pg.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "common/adapters/sink_pg_sql.h"
#include "common/base/hash.h"
#include "common/base/mem.h"

enum {
    FIXED = 8,
    PLAIN_AND_NEWEST = 2,
    STATEMENTS_MAX = FIXED + MODEL_TABLES_MAX * PLAIN_AND_NEWEST
};

struct scan_pg {
    struct model_scan base;
    struct scan_pg_options options;
    struct pg_conn conn;
    struct pg_statement statements[STATEMENTS_MAX];
    size_t statement_count;
    char names[MODEL_TABLES_MAX * PLAIN_AND_NEWEST][80];
    struct buf sql[MODEL_TABLES_MAX * PLAIN_AND_NEWEST];
    struct sink_checkpoint at[TOPIC_PARTITIONS_MAX];
    bool open;
};

static const struct pg_statement fixed[FIXED] = {
    {"begin", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"},
    {"rollback", "ROLLBACK"},
    {"fetch", "FETCH FORWARD 5000 FROM scan"},
    {"close", "CLOSE scan"},
    {"checkpoints", "SELECT topic_partition, next_offset, version, epoch FROM daybook.checkpoints"
                    " WHERE projection = $1 AND stage = 'live'"},
    {"parked",
     "SELECT stream_id, topic_offset, version, event_type, event_id, payload, recorded_at,"
     " coalesce(reason, '') FROM daybook.parked_events WHERE projection = $1"
     " AND stage = 'live' AND topic_partition = $2::integer"
     " ORDER BY stream_id, topic_offset"},
    {"voids", "SELECT stream_id, first_version, last_version FROM daybook.void_versions"
              " WHERE projection = $1 AND topic_partition = $2::integer"},
    {"probe", "SELECT 1"},
};

static struct scan_pg *self_of(struct model_scan *scan) {
    return (struct scan_pg *)(void *)scan;
}

static void add_cursor(struct scan_pg *self, const struct model_table *table, int newest) {
    const size_t i = self->statement_count - FIXED;

    buf_init(&self->sql[i], SINK_PG_SQL_BYTES_MAX);
    buf_put_text(&self->sql[i], "DECLARE scan NO SCROLL CURSOR FOR ");
    sink_pg_scan_sql(&self->sql[i], table, newest);
    assert(!buf_failed(&self->sql[i]));
    (void)snprintf(self->names[i], sizeof(self->names[i]), "scan_%s_%d", table->name, newest);
    self->statements[self->statement_count++] =
        (struct pg_statement){self->names[i], self->sql[i].ptr};
}

static enum err_code run(struct scan_pg *self, const char *name, const struct pg_param *params,
                         size_t count, PGresult **result, struct err *err) {
    return pg_conn_run(&self->conn, name, params, count, true, result, err);
}

static enum err_code run_simply(struct scan_pg *self, const char *name, struct err *err) {
    PGresult *result = NULL;
    const enum err_code code = run(self, name, NULL, 0, &result, err);

    PQclear(result);
    return code;
}

static void scan_close(struct model_scan *scan) {
    struct scan_pg *self = self_of(scan);

    if (self->open && self->conn.pg != NULL && run_simply(self, "rollback", NULL) != ERR_OK) {
        pg_conn_close(&self->conn);
    }
    self->open = false;
}

static enum err_code scan_open(struct model_scan *scan, struct sink_checkpoint *at, size_t count,
                               struct err *err) {
    struct scan_pg *self = self_of(scan);
    const struct pg_param name = sink_pg_text(self->options.projection->name);
    PGresult *result = NULL;

    scan_close(scan);
    enum err_code code = run_simply(self, "begin", err);
    if (code != ERR_OK) {
        return code;
    }
    self->open = true;
    code = run(self, "checkpoints", &name, 1, &result, err);
    for (size_t i = 0; i < TOPIC_PARTITIONS_MAX; i++) {
        self->at[i] = (struct sink_checkpoint){.next = SINK_NO_CHECKPOINT};
    }
    for (int row = 0; code == ERR_OK && row < PQntuples(result); row++) {
        const int32_t p = pg_get_i32(result, row, 0);
        if (p >= 0 && p < TOPIC_PARTITIONS_MAX) {
            self->at[p] = (struct sink_checkpoint){.next = pg_get_i64(result, row, 1),
                                                   .version = pg_get_i64(result, row, 2),
                                                   .epoch = pg_get_i64(result, row, 3)};
        }
    }
    PQclear(result);
    memcpy(at, self->at, count * sizeof(at[0]));
    return code;
}

static int32_t partition_of(const struct scan_pg *self, const struct row *row) {
    const int column = row->table->partition_column;

    if (column == 0) {
        return hash_kafka_partition(row->cells[0].text, self->options.partitions);
    }
    const int64_t number = row->cells[column].number;
    return number >= 0 && number < self->options.partitions ? (int32_t)number : -1;
}

static enum err_code deliver(struct scan_pg *self, const PGresult *result,
                             const struct model_table *table, scan_row_fn *fn, void *arg,
                             struct err *err) {
    enum err_code code = ERR_OK;
    struct row row;

    for (int i = 0; code == ERR_OK && i < PQntuples(result); i++) {
        sink_pg_read_row(result, i, table, &row);
        const int32_t p = partition_of(self, &row);
        code = p >= 0 ? fn(arg, p, &self->at[p], &row, err)
                      : err_set(err, ERR_CORRUPT, "postgresql: %s: a row of no partition",
                                table->name);
    }
    return code;
}

static enum err_code scan_rows(struct model_scan *scan, const struct model_table *table, int newest,
                               scan_row_fn *fn, void *arg, struct err *err) {
    struct scan_pg *self = self_of(scan);
    char name[80];
    int fetched = 0;

    (void)snprintf(name, sizeof(name), "scan_%s_%d", table->name, newest);
    enum err_code code = run_simply(self, name, err);
    do {
        PGresult *result = NULL;
        if (code == ERR_OK) {
            code = run(self, "fetch", NULL, 0, &result, err);
        }
        fetched = code == ERR_OK ? PQntuples(result) : 0;
        if (code == ERR_OK) {
            code = deliver(self, result, table, fn, arg, err);
        }
        PQclear(result);
    } while (fetched > 0 && code == ERR_OK);
    return code == ERR_OK ? run_simply(self, "close", err) : code;
}

/* A snapshot holds all that there is: what the scan didn't show isn't there. */
static enum err_code scan_find(struct model_scan *scan, int32_t partition, const struct row *key,
                               scan_row_fn *fn, void *arg, struct err *err) {
    (void)key;
    return fn(arg, partition, &self_of(scan)->at[partition], NULL, err);
}

static enum err_code scan_parked(struct model_scan *scan, int32_t partition, sink_parked_fn *fn,
                                 void *arg, struct err *err) {
    struct scan_pg *self = self_of(scan);
    char number[SINK_PG_NUMBER_BYTES];
    const struct pg_param params[] = {sink_pg_text(self->options.projection->name),
                                      sink_pg_number(number, partition)};
    PGresult *result = NULL;
    const enum err_code code = run(self, "parked", params, ARRAY_LEN(params), &result, err);

    for (int row = 0; code == ERR_OK && row < PQntuples(result); row++) {
        struct parked_event event = {.stream_id = pg_get_str(result, row, 0),
                                     .offset = pg_get_i64(result, row, 1),
                                     .version = pg_get_i64(result, row, 2),
                                     .event_type = pg_get_str(result, row, 3),
                                     .payload = pg_get_str(result, row, 5),
                                     .recorded_at_us = pg_get_time_us(result, row, 6),
                                     .reason = pg_get_str(result, row, 7)};
        memcpy(event.event_id.bytes, PQgetvalue(result, row, 4), sizeof(event.event_id.bytes));
        fn(arg, &event);
    }
    PQclear(result);
    return code;
}

static enum err_code scan_voids(struct model_scan *scan, int32_t partition,
                                void (*fn)(void *arg, const struct void_range *range), void *arg,
                                struct err *err) {
    struct scan_pg *self = self_of(scan);
    char number[SINK_PG_NUMBER_BYTES];
    const struct pg_param params[] = {sink_pg_text(self->options.projection->name),
                                      sink_pg_number(number, partition)};
    PGresult *result = NULL;
    const enum err_code code = run(self, "voids", params, ARRAY_LEN(params), &result, err);

    for (int row = 0; code == ERR_OK && row < PQntuples(result); row++) {
        const struct void_range range = {pg_get_str(result, row, 0), pg_get_i64(result, row, 1),
                                         pg_get_i64(result, row, 2)};
        fn(arg, &range);
    }
    PQclear(result);
    return code;
}

static void scan_free(struct model_scan *scan) {
    struct scan_pg *self = self_of(scan);

    scan_close(scan);
    pg_conn_release(&self->conn);
    for (size_t i = 0; i + FIXED < self->statement_count; i++) {
        buf_release(&self->sql[i]);
    }
    mem_free(self);
}

struct model_scan *scan_pg_new(const struct scan_pg_options *options) {
    static const struct model_scan_ops ops = {
        .name = "postgresql",
        .open = scan_open,
        .rows = scan_rows,
        .find = scan_find,
        .parked = scan_parked,
        .voids = scan_voids,
        .close = scan_close,
        .free = scan_free,
    };
    struct scan_pg *self = mem_zalloc(sizeof(*self));

    self->base.ops = &ops;
    self->base.store = STORE_PG;
    self->options = *options;
    memcpy(self->statements, fixed, sizeof(fixed));
    self->statement_count = FIXED;
    for (size_t i = 0; i < options->projection->table_count; i++) {
        const struct model_table *table = options->projection->tables[i];
        if (table->stores & STORE_PG) {
            add_cursor(self, table, 0);
        }
        if ((table->stores & STORE_PG) && table->redis_list_max > 0) {
            add_cursor(self, table, table->redis_list_max);
        }
    }
    pg_conn_init(&self->conn, &(struct pg_conn_options){
                                  .url = options->url,
                                  .application_name = "daybook-projector scan",
                                  /* Between two rows the log may be read for a long time. */
                                  .setup_sql = "SET idle_in_transaction_session_timeout = 0",
                                  .statements = self->statements,
                                  .statement_count = self->statement_count,
                                  .connect_timeout_ms = options->connect_timeout_ms,
                                  .statement_timeout_ms = options->statement_timeout_ms,
                                  .log = options->log,
                              });
    return &self->base;
}
