#include "projector/merged.h"

#include <string.h>

#include "common/base/mem.h"
#include "common/ports/row.h"

enum { STREAMS_FIRST = 1024 };

void merged_init(struct merged *merged, const struct projection *projection) {
    *merged = (struct merged){.heads = projection->heads->append_only ? NULL : projection->heads};
    rowset_init(&merged->others);
}

void merged_clear(struct merged *merged) {
    for (size_t i = 0; i < merged->streams; i++) {
        if (merged->of_streams[i] != NULL) {
            row_release(merged->of_streams[i]);
            mem_free(merged->of_streams[i]);
            merged->of_streams[i] = NULL;
        }
    }
    merged->streams = 0;
    merged->stream_rows = 0;
    rowset_clear(&merged->others);
}

void merged_release(struct merged *merged) {
    merged_clear(merged);
    mem_free(merged->of_streams);
    merged->of_streams = NULL;
    merged->streams_cap = 0;
}

static void grow(struct merged *merged, size_t wanted) {
    const size_t old = merged->streams_cap;

    merged->streams_cap = old > 0 ? old : STREAMS_FIRST;
    while (merged->streams_cap < wanted) {
        merged->streams_cap *= 2;
    }
    merged->of_streams =
        mem_resize(merged->of_streams, merged->streams_cap, sizeof(merged->of_streams[0]));
    memset(merged->of_streams + old, 0, (merged->streams_cap - old) * sizeof(struct row *));
}

void merged_add(struct merged *merged, const struct row *row, size_t stream) {
    if (row->table != merged->heads) {
        rowset_add(&merged->others, row, 0, 0);
        return;
    }
    if (stream >= merged->streams_cap) {
        grow(merged, stream + 1);
    }
    merged->streams = stream >= merged->streams ? stream + 1 : merged->streams;
    merged->stream_rows += merged->of_streams[stream] == NULL;
    rowset_merge(&merged->of_streams[stream], row);
}

size_t merged_count(const struct merged *merged) {
    return merged->stream_rows + merged->others.count;
}

const struct row *merged_next(const struct merged *merged, size_t *at) {
    const struct row *row = NULL;

    for (; row == NULL && *at < merged->streams; (*at)++) {
        row = merged->of_streams[*at];
    }
    for (; row == NULL && *at < merged->streams + merged->others.slot_count; (*at)++) {
        row = merged->others.entries[*at - merged->streams].row;
    }
    return row;
}
