/*
 * What pgoutput's messages are to the change feed: which relation is daybook.events, which
 * transaction is in hand, and the number of each change in it. Pure but for one log line.
 */
#ifndef DAYBOOK_ADAPTERS_WAL_DECODER_H
#define DAYBOOK_ADAPTERS_WAL_DECODER_H

#include "common/adapters/event_row.h"
#include "common/base/log.h"
#include "common/ports/change_feed.h"

/* All zero but the log: nothing was told yet. */
struct wal_decoder {
    struct log *log;
    struct pgoutput_message decoded;
    uint32_t relation_id;         /* of daybook.events; 0: not told yet */
    uint32_t ignored_relation_id; /* the last one that is not ours */
    struct event_row_layout layout;
    uint64_t incarnation;
    uint64_t commit_lsn; /* of the transaction in hand */
    int64_t committed_at_us;
    uint32_t seq;
};

/* One message. The item becomes a change (its slices point into the bytes), a commit, or stays as
 * it is. ERR_CORRUPT: it can't be understood. */
MUST_CHECK enum err_code wal_decoder_take(struct wal_decoder *self, struct str bytes,
                                          struct feed_item *item, struct err *err);
/* Makes the item a change with the next number in the transaction. */
void wal_decoder_number(struct wal_decoder *self, struct feed_item *item);

#endif
