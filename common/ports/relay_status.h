/* How the relay stands, as seen from outside: what its slot, its row and the topic say. */
#ifndef DAYBOOK_PORTS_RELAY_STATUS_H
#define DAYBOOK_PORTS_RELAY_STATUS_H

#include "common/base/str.h"
#include "common/ports/publish_mark.h"

enum { RELAY_STATUS_TEXT_BYTES = 200 };

struct relay_partition_status {
    struct publish_mark tail;
    bool known; /* the table has the tail's event; else the next three say nothing */
    char stream_id[RELAY_STATUS_TEXT_BYTES];
    int64_t version;
    int64_t position;
    int64_t
        behind; /* events of the table with a later position: while commits are under way, about */
};

struct relay_status {
    bool slot_found;
    bool active;
    char wal_status[16]; /* reserved, extended, unreserved, lost */
    char holder[RELAY_STATUS_TEXT_BYTES];
    char restart_lsn[24], confirmed_lsn[24], current_lsn[24];
    int64_t lag_bytes;
    uint64_t incarnation;
    uint64_t published_below;
    bool topic_found;
    int64_t lag_events;
    int64_t lag_us; /* age of the oldest event that is behind; 0: none is */
    int32_t partitions;
    struct relay_partition_status of[PUBLISHER_PARTITIONS_MAX];
};

#endif
