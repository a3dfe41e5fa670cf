/* From a record of the topic to a decoded event, or to the reason why it is none. */
#ifndef DAYBOOK_PROJECTOR_DECODE_H
#define DAYBOOK_PROJECTOR_DECODE_H

#include "common/domain/aggregate.h"
#include "common/ports/event_reader.h"
#include "common/ports/projection_sink.h"

struct decoded {
    bool ours;    /* false: an event of another aggregate, which passes by */
    bool trusted; /* the stream and version it names are well-formed, whatever else is wrong */
    struct event event;
    const char *defect; /* why it can't be applied; NULL: it can */
    char text[PARKED_REASON_BYTES + 1];
};

/* `scratch` is cleared. */
void decode_record(const struct consumed_record *record, const struct aggregate *aggregate,
                   struct arena *scratch, struct decoded *out);

#endif
