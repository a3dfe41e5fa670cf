/* Where a partition of the topic ends: what its last record says of itself. */
#ifndef DAYBOOK_PORTS_PUBLISH_MARK_H
#define DAYBOOK_PORTS_PUBLISH_MARK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/uuid.h"

enum { PUBLISHER_PARTITIONS_MAX = 256 };

struct publish_mark {
    uint64_t incarnation; /* of the log; marks of different incarnations don't compare by place */
    uint64_t commit_lsn;
    uint32_t seq;
    bool present; /* false: the partition is empty, nothing else but `end` counts */
    int64_t offset;
    int64_t end; /* the next record's offset; of an emptied partition too; 0: none, or not told */
    struct uuid event_id;
};

#endif
