#include "common/adapters/sink_pg_sql.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* PostgreSQL counts days from 2000-01-01. */
enum { EPOCH_DAYS = 10957 };

static const char *type_name(enum column_kind kind) {
    switch (kind) {
    case COLUMN_TEXT:
        return "text";
    case COLUMN_I64:
        return "bigint";
    case COLUMN_TIME:
        return "timestamptz";
    case COLUMN_DATE:
        return "date";
    case COLUMN_UUID:
        return "uuid";
    }
    return "text";
}

enum pg_type sink_pg_type(enum column_kind kind) {
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

static void put_list(struct buf *sql, const struct model_table *table, size_t count) {
    for (size_t i = 0; i < count; i++) {
        buf_printf(sql, "%s%s", i > 0 ? ", " : "", table->columns[i].name);
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

static void put_source(struct buf *sql, const struct model_table *table) {
    buf_put_text(sql, " FROM unnest(");
    for (size_t i = 0; i < table->column_count; i++) {
        buf_printf(sql, "%s$%zu::%s[]", i > 0 ? ", " : "", i + 1,
                   type_name(table->columns[i].kind));
    }
    buf_put_text(sql, ") AS u(");
    put_list(sql, table, table->column_count);
    buf_put_text(sql, ")");
}

static void put_merge(struct buf *sql, const char *schema, const struct model_table *table) {
    for (size_t i = 0; i < table->column_count; i++) {
        const char *name = table->columns[i].name;
        const bool kept = i >= table->key_count && table->columns[i].merge == MERGE_SET;
        buf_printf(sql, kept ? "%scoalesce(u.%s, s.%s)" : "%su.%s", i > 0 ? ", " : "", name, name);
    }
    put_source(sql, table);
    buf_printf(sql, " LEFT JOIN %s.%s s ON ", schema, table->name);
    for (size_t i = 0; i < table->key_count; i++) {
        const char *name = table->columns[i].name;
        buf_printf(sql, "%ss.%s = u.%s", i > 0 ? " AND " : "", name, name);
    }
    buf_put_text(sql, " ON CONFLICT (");
    put_list(sql, table, table->key_count);
    buf_put_text(sql, ") DO UPDATE SET ");
    put_assignments(sql, table);
    if (table->version_column >= 0) {
        const char *name = table->columns[table->version_column].name;
        buf_printf(sql, " WHERE excluded.%s > t.%s", name, name);
    }
}

void sink_pg_upsert_sql(struct buf *sql, const char *schema, const struct model_table *table) {
    buf_printf(sql, "INSERT INTO %s.%s AS t (", schema, table->name);
    put_list(sql, table, table->column_count);
    buf_put_text(sql, ") SELECT ");
    if (table->append_only) {
        put_list(sql, table, table->column_count);
        put_source(sql, table);
        buf_put_text(sql, " ON CONFLICT DO NOTHING");
    } else {
        put_merge(sql, schema, table);
    }
}

void sink_pg_heads_sql(struct buf *sql, const char *schema, const struct model_table *heads) {
    const char *version = heads->columns[heads->version_column].name;

    buf_printf(sql,
               "SELECT k.i, h.version FROM unnest($1::text[]) WITH ORDINALITY AS k(id, i)"
               " CROSS JOIN LATERAL (SELECT t.%s AS version FROM %s.%s t WHERE t.%s = k.id"
               " ORDER BY t.%s DESC LIMIT 1) h",
               version, schema, heads->name, heads->columns[0].name, version);
}

void sink_pg_copy_sql(struct buf *sql, const char *schema, const struct model_table *table) {
    buf_printf(sql, "COPY %s.%s (", schema, table->name);
    put_list(sql, table, table->column_count);
    buf_put_text(sql, ") FROM STDIN (FORMAT binary)");
}

void sink_pg_scan_sql(struct buf *sql, const struct model_table *table, int newest) {
    buf_put_text(sql, "SELECT ");
    for (size_t i = 0; i < table->column_count; i++) {
        buf_printf(sql, "%s%s::%s", i > 0 ? ", " : "", table->columns[i].name,
                   type_name(table->columns[i].kind));
    }
    if (newest > 0) {
        const char *id = table->columns[0].name;
        const char *version = table->columns[table->version_column].name;
        buf_printf(sql,
                   " FROM (SELECT *, row_number() OVER (PARTITION BY %s ORDER BY %s DESC) AS nth"
                   " FROM daybook.%s) t WHERE nth <= %d ORDER BY %s, %s",
                   id, version, table->name, newest, id, version);
    } else {
        buf_printf(sql, " FROM daybook.%s", table->name);
    }
}

void sink_pg_put_cell(struct pg_array *array, enum column_kind kind, const struct cell *cell) {
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

/* Big-endian, in so many bytes; returns what is behind it. */
static char *put_number(char *at, uint64_t value, size_t bytes) {
    const uint64_t swapped = __builtin_bswap64(value << (64 - 8 * bytes));

    memcpy(at, &swapped, sizeof(swapped));
    return at + bytes;
}

static char *put_field(char *at, const void *bytes, size_t len) {
    at = put_number(at, len, 4);
    memcpy(at, bytes, len);
    return at + len;
}

static char *put_copy_cell(char *at, enum column_kind kind, const struct cell *cell) {
    switch (kind) {
    case COLUMN_TEXT:
        return put_field(at, cell->text.ptr, cell->text.len);
    case COLUMN_I64:
        return put_number(put_number(at, 8, 4), (uint64_t)cell->number, 8);
    case COLUMN_TIME:
        return put_number(put_number(at, 8, 4), (uint64_t)(cell->number - PG_EPOCH_US), 8);
    case COLUMN_DATE:
        return put_number(put_number(at, 4, 4), (uint64_t)(cell->number - EPOCH_DAYS), 4);
    case COLUMN_UUID:
        return put_field(at, cell->uuid.bytes, sizeof(cell->uuid.bytes));
    }
    return at;
}

void sink_pg_put_copy_row(struct buf *out, const struct row *row) {
    enum { CELL_BYTES = 4 + 16, BESIDE_CELLS = 2 + 8 /* numbers are written eight bytes wide */ };
    const struct model_table *table = row->table;
    size_t most = BESIDE_CELLS + table->column_count * CELL_BYTES;

    for (size_t i = 0; i < table->column_count; i++) {
        most +=
            table->columns[i].kind == COLUMN_TEXT && row->cells[i].set ? row->cells[i].text.len : 0;
    }
    char *const begin = buf_room(out, most);
    if (begin == NULL) {
        return;
    }
    char *at = put_number(begin, table->column_count, 2);
    for (size_t i = 0; i < table->column_count; i++) {
        const struct cell *cell = &row->cells[i];
        at = cell->set ? put_copy_cell(at, table->columns[i].kind, cell)
                       : put_number(at, UINT32_MAX, 4);
    }
    buf_wrote(out, (size_t)(at - begin));
}

void sink_pg_read_row(const PGresult *result, int index, const struct model_table *table,
                      struct row *out) {
    out->table = table;
    for (size_t i = 0; i < table->column_count; i++) {
        struct cell *cell = &out->cells[i];
        const int column = (int)i;
        *cell = (struct cell){.set = !PQgetisnull(result, index, column)};
        if (!cell->set) {
            continue;
        }
        switch (table->columns[i].kind) {
        case COLUMN_TEXT:
            cell->text = pg_get_str(result, index, column);
            break;
        case COLUMN_I64:
            cell->number = pg_get_i64(result, index, column);
            break;
        case COLUMN_TIME:
            cell->number = pg_get_time_us(result, index, column);
            break;
        case COLUMN_DATE:
            cell->number = (int64_t)pg_get_i32(result, index, column) + EPOCH_DAYS;
            break;
        case COLUMN_UUID:
            memcpy(cell->uuid.bytes, PQgetvalue(result, index, column), sizeof(cell->uuid.bytes));
            break;
        }
    }
}

struct pg_param sink_pg_number(char text[SINK_PG_NUMBER_BYTES], int64_t value) {
    (void)snprintf(text, SINK_PG_NUMBER_BYTES, "%" PRId64, value);
    return (struct pg_param){text, strlen(text), false};
}

struct pg_param sink_pg_text(const char *text) {
    return (struct pg_param){text, strlen(text), false};
}

struct pg_param sink_pg_array(struct pg_array *array) {
    pg_array_end(array);
    return (struct pg_param){array->buf.ptr, array->buf.len, true};
}
