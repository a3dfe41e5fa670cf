/*
 * daybook-relay verify: the events table and the topic, compared event by event.
 *
 * Every event of the table is in the topic, with the same content, in the partition of its stream
 * id; the topic has no other event; each stream's events come first in the order of their versions;
 * none comes twice, but after a place in the log was lost (in a later incarnation).
 *
 * Events may be added meanwhile: the table is read first; then the topic, until it has all of the
 * table's events or nothing more has come for settle_ms; an event that the table did not have then
 * is looked up.
 *
 * Memory: 32 bytes for each event and 16 for each stream, twice over.
 */
#ifndef DAYBOOK_COMMAND_API_RELAY_VERIFY_H
#define DAYBOOK_COMMAND_API_RELAY_VERIFY_H

#include <stdio.h>

#include "common/ports/event_scan.h"

struct verify_options {
    struct event_scan *table; /* with find; both are borrowed */
    struct event_scan *topic;
    int32_t partitions;
    int64_t settle_ms;
    uint64_t differences_shown; /* the first ones, in full */
    FILE *out;                  /* what was found */
    FILE *progress;             /* once a second; NULL: none */
};

struct verify_result {
    uint64_t table_events;
    uint64_t topic_records;
    uint64_t streams;
    uint64_t repeats; /* in a later incarnation: allowed */
    uint64_t differences;
};

/* ERR_OK also when there are differences; an error: one of the two could not be read. */
MUST_CHECK enum err_code verify_run(const struct verify_options *options,
                                    struct verify_result *result, struct err *err);

#endif
