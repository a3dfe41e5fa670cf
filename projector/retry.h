/*
 * Parked streams, after the fact: the events are read from the log again and folded again, and what
 * comes of it goes into the store in one step. The checkpoint's epoch is raised in that step, so
 * the replica that serves the partition looks again and knows that the stream is free.
 */
#ifndef DAYBOOK_PROJECTOR_RETRY_H
#define DAYBOOK_PROJECTOR_RETRY_H

#include "common/ports/projection_sink.h"

struct retry_options {
    const struct projection *projection;
    struct projection_sink *sink; /* borrowed */
    struct event_reader *reader;  /* borrowed, open */
    int32_t partition;
    struct str stream_id;
    bool discard; /* declare void what stops the stream */
};

struct retry_result {
    size_t parked; /* events before */
    size_t applied;
    size_t left; /* still parked */
};

/* ERR_NOT_FOUND: the stream isn't parked there. ERR_INVALID: the store still refuses it. */
MUST_CHECK enum err_code retry_stream(const struct retry_options *options,
                                      struct retry_result *result, struct err *err);

#endif
