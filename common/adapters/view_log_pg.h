/* The log view on PostgreSQL: reads as jobs of a pool (pg_pool.h) of its own, on the write
 * database, as a role that can only read. Which positions are settled: log_horizon.h. */
#ifndef DAYBOOK_ADAPTERS_VIEW_LOG_PG_H
#define DAYBOOK_ADAPTERS_VIEW_LOG_PG_H

#include "common/adapters/pg_pool.h"
#include "common/ports/log_view.h"

struct view_log_pg;

/* What the options say of statements and metrics is filled in here. */
MUST_CHECK enum err_code view_log_pg_start(struct pg_pool_options options, struct view_log_pg **out,
                                           struct err *err);
/* As pg_pool_stop and pg_pool_free: in between, free the clients. */
void view_log_pg_stop(struct view_log_pg *log);
void view_log_pg_free(struct view_log_pg *log);

struct view_log_pg_client;
struct view_log_pg_client *view_log_pg_client_new(struct view_log_pg *log, struct loop *loop);
void view_log_pg_client_free(struct view_log_pg_client *client);
struct log_view view_log_pg_view(struct view_log_pg_client *client);

#endif
