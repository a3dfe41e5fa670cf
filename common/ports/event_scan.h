/*
 * A scan: the events of some store, one after the other, to an end. What a comparison of two stores
 * is made of. Belongs to one thread.
 */
#ifndef DAYBOOK_PORTS_EVENT_SCAN_H
#define DAYBOOK_PORTS_EVENT_SCAN_H

#include <stdbool.h>

#include "common/base/err.h"
#include "common/ports/recorded_event.h"

struct scanned_event {
    struct recorded_event event; /* slices live until the next call */
    const char *defect;          /* not NULL: no event of ours, and why */
    int32_t partition;           /* of the topic; -1: from the table */
    int64_t offset;
    uint64_t incarnation;
    bool without_payload; /* only a reference to it was published */
};

struct event_scan;

struct event_scan_ops {
    /* *found false: the end as it stood when the scan began, or at the last such answer: a further
     * call looks whether there is more by now. */
    enum err_code (*next)(struct event_scan *scan, struct scanned_event *out, bool *found,
                          struct err *err);
    /* One event by its id, as the store has it now. Stores without such an index: NULL. */
    enum err_code (*find)(struct event_scan *scan, const struct uuid *id, struct scanned_event *out,
                          bool *found, struct err *err);
    /* About how many there are in all; 0: not known. */
    uint64_t (*expected)(const struct event_scan *scan);
    void (*free)(struct event_scan *scan);
};

struct event_scan {
    const struct event_scan_ops *ops;
};

#endif
