/* What shards count; all shards of a process share these. */
#ifndef DAYBOOK_COMMAND_API_SHARD_METRICS_H
#define DAYBOOK_COMMAND_API_SHARD_METRICS_H

#include "common/runtime/metrics.h"

struct shard_metrics {
    struct metric_histogram *batch_size;
    struct metric_histogram *append_seconds;
    struct metric_counter *events_appended;
    struct metric_counter *conflicts;
    struct metric_counter *cache_hits;
    struct metric_counter *cache_misses;
    struct metric_gauge *queue_length;
};

void shard_metrics_register(struct shard_metrics *out, struct metrics *metrics);

#endif
