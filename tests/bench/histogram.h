/*
 * A histogram of durations with a fixed relative error, as HdrHistogram has it (Gil Tene): buckets
 * by powers of two, each split into 64 linear parts, so a value is known to within 1.6 %. Fixed
 * memory, one addition per value.
 */
#ifndef DAYBOOK_TESTS_BENCH_HISTOGRAM_H
#define DAYBOOK_TESTS_BENCH_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_PARTS = 64, HISTOGRAM_POWERS = 40 };

struct histogram {
    uint64_t counts[HISTOGRAM_POWERS * HISTOGRAM_PARTS];
    uint64_t total;
    int64_t max;
};

/* Microseconds, or any other unit; negative counts as 0. */
void histogram_add(struct histogram *histogram, int64_t value);
/* Adds all of another's values. */
void histogram_merge(struct histogram *histogram, const struct histogram *from);
/* The value that `share` (0 … 1) of all values do not exceed; 0 when there is none. */
int64_t histogram_at(const struct histogram *histogram, double share);

#endif
