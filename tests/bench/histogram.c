#include "tests/bench/histogram.h"

static unsigned index_of(uint64_t value) {
    if (value < HISTOGRAM_PARTS) {
        return (unsigned)value;
    }
    const unsigned power = 63U - (unsigned)__builtin_clzll(value); /* ≥ 6 */
    const unsigned part = (unsigned)(value >> (power - 6)) - HISTOGRAM_PARTS;
    const unsigned index = (power - 5) * HISTOGRAM_PARTS + part;
    const unsigned last = HISTOGRAM_POWERS * HISTOGRAM_PARTS - 1;
    return index < last ? index : last;
}

/* The largest value of a bucket. */
static int64_t bound_of(unsigned index) {
    const unsigned row = index / HISTOGRAM_PARTS;
    const uint64_t part = index % HISTOGRAM_PARTS;

    if (row == 0) {
        return (int64_t)part;
    }
    return (int64_t)(((part + HISTOGRAM_PARTS + 1) << (row - 1)) - 1);
}

void histogram_add(struct histogram *histogram, int64_t value) {
    const int64_t counted = value > 0 ? value : 0;

    histogram->counts[index_of((uint64_t)counted)]++;
    histogram->total++;
    if (counted > histogram->max) {
        histogram->max = counted;
    }
}

int64_t histogram_at(const struct histogram *histogram, double share) {
    const double wanted = share * (double)histogram->total;
    uint64_t seen = 0;

    for (unsigned i = 0; i < HISTOGRAM_POWERS * HISTOGRAM_PARTS; i++) {
        seen += histogram->counts[i];
        if (seen > 0 && (double)seen >= wanted) {
            const int64_t bound = bound_of(i);
            return bound < histogram->max ? bound : histogram->max;
        }
    }
    return histogram->max;
}

void histogram_merge(struct histogram *histogram, const struct histogram *from) {
    for (unsigned i = 0; i < HISTOGRAM_POWERS * HISTOGRAM_PARTS; i++) {
        histogram->counts[i] += from->counts[i];
    }
    histogram->total += from->total;
    histogram->max = from->max > histogram->max ? from->max : histogram->max;
}
