/* One event as it stands in the log, as the relay carries it and as consumers see it. */
#ifndef DAYBOOK_PORTS_RECORDED_EVENT_H
#define DAYBOOK_PORTS_RECORDED_EVENT_H

#include <stdint.h>

#include "common/base/str.h"
#include "common/base/uuid.h"

struct recorded_event {
    struct uuid event_id;
    struct str aggregate_type;
    struct str stream_id;
    int64_t version;  /* 1, 2, 3, … within the stream */
    int64_t position; /* a number in the whole log, unique; gaps and late ones are normal. 0: not
                         assigned yet */
    struct str event_type;
    int32_t schema_version;
    struct str payload; /* JSON text */
    /* Metadata; len 0 = absent. */
    struct str correlation_id;
    struct str causation_id;
    struct str actor;
    struct str traceparent;
    struct str command;
    int64_t recorded_at_us;
};

#endif
