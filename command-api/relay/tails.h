/* What the topic's ends say. Pure. */
#ifndef DAYBOOK_COMMAND_API_RELAY_TAILS_H
#define DAYBOOK_COMMAND_API_RELAY_TAILS_H

#include <stddef.h>

#include "common/ports/change_feed.h"
#include "common/ports/publish_mark.h"

/* The change is in the partition that ends so. */
bool tail_covers(const struct publish_mark *tail, const struct change *change);
/* Two readings found the same. */
bool tails_agree(const struct publish_mark *a, const struct publish_mark *b, size_t count);

#endif
