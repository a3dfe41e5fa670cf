/* The statements of the row view and how their results are read: view_pg.c without its threads. */
#ifndef DAYBOOK_ADAPTERS_VIEW_PG_SQL_H
#define DAYBOOK_ADAPTERS_VIEW_PG_SQL_H

#include "common/adapters/pg_conn.h"
#include "common/ports/row_view.h"

extern const char view_pg_sql_setup[];
extern const struct pg_statement view_pg_sql_statements[];
extern const size_t view_pg_sql_statement_count;

/*
 * Runs one read. ERR_OK and ERR_NOT_FOUND fill `out` (its code excepted); other codes as
 * pg_conn_run's, and ERR_CORRUPT for rows that make no sense. Release with row_result_release in
 * any case.
 */
MUST_CHECK enum err_code view_pg_sql_run(struct pg_conn *connection, const struct row_query *query,
                                         struct row_result *out, struct err *err);

#endif
