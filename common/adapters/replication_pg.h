/*
 * What the change feed asks of PostgreSQL over a replication connection or beside it, every answer
 * awaited for a bounded time.
 */
#ifndef DAYBOOK_ADAPTERS_REPLICATION_PG_H
#define DAYBOOK_ADAPTERS_REPLICATION_PG_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/log.h"

/* A replication connection takes SQL too. Texts come as UTF-8, times in UTC with DateStyle ISO. */
MUST_CHECK enum err_code replication_connect(const char *url, bool replication, int64_t timeout_ms,
                                             PGconn **out, struct err *err);

/*
 * Runs one command and waits for its result, at most wait_ms; on ERR_OK *out (when not NULL) is the
 * caller's. After ERR_TIMEOUT the command has been cancelled and the connection can only be closed.
 * ERR_FENCED: somebody else holds the slot. ERR_INVALID: an operator must mend something.
 * `what` names the thing in messages.
 */
MUST_CHECK enum err_code replication_run(PGconn *pg, const char *sql, const char *what,
                                         int64_t wait_ms, PGresult **out, struct err *err);
/* The same with values for $1, $2, …, as text; not for replication connections. */
MUST_CHECK enum err_code replication_run_params(PGconn *pg, const char *sql,
                                                const char *const *values, int count,
                                                const char *what, int64_t wait_ms, PGresult **out,
                                                struct err *err);
/* A result that is an error, as a class. */
enum err_code replication_error(const PGresult *result, const char *what, struct err *err);
/* The first line of libpq's message. */
struct str replication_message(const char *message);

/* While streaming: the server may forget what lies before this position. */
MUST_CHECK enum err_code replication_send_status(PGconn *pg, uint64_t confirmed, struct err *err);
/* The position in a message: eight bytes from here on. */
uint64_t replication_position(const char *bytes);
/* Why the stream has ended. */
enum err_code replication_ended(PGconn *pg, struct err *err);

/* "16/B374D848" */
enum { LSN_TEXT_BYTES = 24 };
MUST_CHECK bool replication_parse_lsn(const char *text, uint64_t *out);
const char *replication_format_lsn(char out[LSN_TEXT_BYTES], uint64_t lsn);

struct replication_slot {
    bool found;
    bool active; /* somebody holds it now */
    bool lost;   /* invalidated: it fell too far behind, nothing can be read from it */
    uint64_t confirmed;
};

/* ERR_INVALID: it exists but is of no use (another plug-in, another database). */
MUST_CHECK enum err_code replication_find_slot(PGconn *pg, const char *name, int64_t wait_ms,
                                               struct replication_slot *out, struct err *err);
/* When it is there; beside a replication connection. ERR_FENCED: somebody holds it. */
MUST_CHECK enum err_code replication_drop_slot(PGconn *pg, const char *name, int64_t wait_ms,
                                               struct err *err);
MUST_CHECK enum err_code replication_drop_slot_at(const char *url, int64_t timeout_ms,
                                                  const char *name, int64_t wait_ms,
                                                  struct err *err);
/* ERR_INVALID: there is no such publication in this database. */
MUST_CHECK enum err_code replication_find_publication(PGconn *pg, const char *name, int64_t wait_ms,
                                                      struct err *err);
/* The cluster's identifier, and how far its log has been flushed. */
enum { REPLICATION_SYSTEM_BYTES = 32 };
MUST_CHECK enum err_code replication_identify(PGconn *pg, int64_t wait_ms,
                                              char system[REPLICATION_SYSTEM_BYTES],
                                              uint64_t *end_of_log, struct err *err);

#endif
