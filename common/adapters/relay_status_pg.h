/* The part of the relay's status that the database knows. */
#ifndef DAYBOOK_ADAPTERS_RELAY_STATUS_PG_H
#define DAYBOOK_ADAPTERS_RELAY_STATUS_PG_H

#include "common/base/err.h"
#include "common/ports/relay_status.h"

/* `status` has partitions, topic_found and the tails; the rest is filled in. */
MUST_CHECK enum err_code relay_status_pg_read(const char *url, int64_t timeout_ms, const char *slot,
                                              struct relay_status *status, struct err *err);

#endif
