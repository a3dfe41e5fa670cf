#include "command-api/relay/tails.h"

bool tail_covers(const struct publish_mark *tail, const struct change *change) {
    return tail->present && change->incarnation == tail->incarnation &&
           (change->commit_lsn < tail->commit_lsn ||
            (change->commit_lsn == tail->commit_lsn && change->seq <= tail->seq));
}

bool tails_agree(const struct publish_mark *a, const struct publish_mark *b, size_t count) {
    for (size_t p = 0; p < count; p++) {
        if (a[p].present != b[p].present || a[p].offset != b[p].offset || a[p].end != b[p].end) {
            return false;
        }
    }
    return true;
}
