#include "command-api/shard_metrics.h"

void shard_metrics_register(struct shard_metrics *out, struct metrics *metrics) {
    out->batch_size = metrics_sizes(metrics, "daybook_append_batch_size", "",
                                    "Commands taken into one transaction.");
    out->append_seconds =
        metrics_latency(metrics, "daybook_append_seconds", "",
                        "One append from sending to commit, behind another that is on its way.");
    out->events_appended = metrics_counter(metrics, "daybook_events_appended_total", "",
                                           "Events committed to the log.");
    out->conflicts = metrics_counter(metrics, "daybook_append_conflicts_total", "",
                                     "Appends refused because another replica was first.");
    out->cache_hits = metrics_counter(metrics, "daybook_stream_cache_total", "result=\"hit\"",
                                      "Commands whose stream's state was in memory, or not.");
    out->cache_misses = metrics_counter(metrics, "daybook_stream_cache_total", "result=\"miss\"",
                                        "Commands whose stream's state was in memory, or not.");
    out->queue_length = metrics_gauge(metrics, "daybook_shard_queue_length", "",
                                      "Commands waiting, in the shard that looked last.");
}
