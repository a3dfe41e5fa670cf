/* The events table as a scan: one snapshot, in the order of positions. */
#ifndef DAYBOOK_ADAPTERS_EVENT_SCAN_PG_H
#define DAYBOOK_ADAPTERS_EVENT_SCAN_PG_H

#include "common/ports/event_scan.h"

MUST_CHECK enum err_code event_scan_pg_open(const char *url, int64_t timeout_ms,
                                            struct event_scan **out, struct err *err);

#endif
