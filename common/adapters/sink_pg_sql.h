/* Statements and parameters made from a projection's table descriptors. */
#ifndef DAYBOOK_ADAPTERS_SINK_PG_SQL_H
#define DAYBOOK_ADAPTERS_SINK_PG_SQL_H

#include "common/adapters/pg_array.h"
#include "common/adapters/pg_conn.h"
#include "common/ports/projection.h"

enum { SINK_PG_SQL_BYTES_MAX = 4096, SINK_PG_NUMBER_BYTES = 24 };

/* Rows as arrays, one per column: added where they are new, merged where they are not. A column
 * that a row leaves unset is NULL in its array and keeps the stored value, which the join provides;
 * tables whose rows never change need none of that. */
void sink_pg_upsert_sql(struct buf *sql, const char *schema, const struct model_table *table);
/* $1 text[]: index (from 1) and version of those streams that have a head. */
void sink_pg_heads_sql(struct buf *sql, const char *schema, const struct model_table *heads);
/* COPY … FROM STDIN in binary. */
void sink_pg_copy_sql(struct buf *sql, const char *schema, const struct model_table *table);
/* All rows, as sink_pg_read_row reads them. newest > 0: only so many of each stream, oldest first.
 */
void sink_pg_scan_sql(struct buf *sql, const struct model_table *table, int newest);

enum pg_type sink_pg_type(enum column_kind kind);
void sink_pg_put_cell(struct pg_array *array, enum column_kind kind, const struct cell *cell);
/* A row of a COPY in binary: field count and fields. */
void sink_pg_put_copy_row(struct buf *out, const struct row *row);
/* Texts live as long as `result`. */
void sink_pg_read_row(const PGresult *result, int index, const struct model_table *table,
                      struct row *out);

/* A number as a text parameter; `text` must live as long as the parameter. */
struct pg_param sink_pg_number(char text[SINK_PG_NUMBER_BYTES], int64_t value);
struct pg_param sink_pg_text(const char *text);
struct pg_param sink_pg_array(struct pg_array *array);

#endif
