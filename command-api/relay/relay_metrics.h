/* What the relay counts. */
#ifndef DAYBOOK_COMMAND_API_RELAY_RELAY_METRICS_H
#define DAYBOOK_COMMAND_API_RELAY_RELAY_METRICS_H

#include "common/runtime/metrics.h"

/* The two ends of the relay; which of them failed decides what is reported. */
enum relay_end { END_FEED, END_PUBLISHER, ENDS };

struct relay_metrics {
    struct metric_gauge *lag_bytes;
    struct metric_gauge *lag_seconds;
    struct metric_gauge *in_flight_gauge;
    struct metric_counter *published;
    struct metric_counter *skipped;
    struct metric_counter *referred;
    struct metric_gauge *blocked;
    struct metric_counter *transactions;
    struct metric_counter *reconnects[ENDS];
    struct metric_histogram *batch_size;
    struct metric_histogram *publish_seconds;
};

void relay_metrics_register(struct relay_metrics *metrics, struct metrics *m);

#endif
