/*
 * A row of daybook.events as the relay gets it, columns as text, turned into an event. Pure.
 *
 * Columns are found by name: further ones may come, those with metadata may be missing or NULL.
 */
#ifndef DAYBOOK_ADAPTERS_EVENT_ROW_H
#define DAYBOOK_ADAPTERS_EVENT_ROW_H

#include "common/adapters/pgoutput.h"
#include "common/ports/recorded_event.h"

enum { EVENT_ROW_FIELDS = 14 };

/* In the order of EVENT_ROW_COLUMNS. */
extern const char *const event_row_names[EVENT_ROW_FIELDS];
#define EVENT_ROW_COLUMNS                                                                          \
    "position, event_id, aggregate_type, stream_id, version, event_type, schema_version, payload," \
    " correlation_id, causation_id, actor, traceparent, command, recorded_at"

/* Where a relation has each field; -1: it has no such column. */
struct event_row_layout {
    int column_of[EVENT_ROW_FIELDS];
};

/* ERR_CORRUPT names the column that is missing. */
MUST_CHECK enum err_code event_row_layout(const struct pgoutput_message *relation,
                                          struct event_row_layout *out, struct err *err);
/* Slices point into the message. ERR_CORRUPT: a field is missing or can't be read. */
MUST_CHECK enum err_code event_row_of_insert(const struct event_row_layout *layout,
                                             const struct pgoutput_message *insert,
                                             struct recorded_event *out, struct err *err);
/* `fields` in the order of event_row_names; NULL is len 0. */
MUST_CHECK enum err_code event_row_decode(const struct str fields[EVENT_ROW_FIELDS],
                                          struct recorded_event *out, struct err *err);

#endif
