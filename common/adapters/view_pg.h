/* The row view on PostgreSQL: reads as jobs of a pool (pg_pool.h) of its own. */
#ifndef DAYBOOK_ADAPTERS_VIEW_PG_H
#define DAYBOOK_ADAPTERS_VIEW_PG_H

#include "common/adapters/pg_pool.h"
#include "common/ports/row_view.h"

/* What the options say of statements and metrics is filled in here. Stop and free as any pool. */
MUST_CHECK enum err_code view_pg_start(struct pg_pool_options options, struct pg_pool **out,
                                       struct err *err);

/* Of a client of that pool. */
struct row_view view_pg_rows(struct pg_pool_client *client);

#endif
