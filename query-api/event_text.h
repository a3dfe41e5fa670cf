/* Events of the log as text: JSON, and frames of server-sent events. */
#ifndef DAYBOOK_QUERY_API_EVENT_TEXT_H
#define DAYBOOK_QUERY_API_EVENT_TEXT_H

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/ports/recorded_event.h"

/* {"position":…,"event_id":…,"type":…, …} on one line. */
void event_put_json(struct buf *out, const struct recorded_event *event);

/* A frame of /events/stream: id is the position, data the event. */
void event_put_frame(struct buf *out, const struct recorded_event *event);
/* A frame of an account's stream: id is the version, data the entry as in its transactions. False,
 * with nothing useful appended, when the event can't be read as an account's. */
MUST_CHECK bool event_put_entry_frame(struct buf *out, const struct recorded_event *event,
                                      struct arena *scratch);

#endif
