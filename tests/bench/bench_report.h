/*
 * What a benchmark says: a table of what it measured, then one line per result,
 *
 *     ratio <name> <value>
 *
 * and the same as JSON in build/bench/<benchmark>.json. Machines differ: only the ratios, each of
 * two things measured side by side in one run, mean something elsewhere.
 */
#ifndef DAYBOOK_TESTS_BENCH_REPORT_H
#define DAYBOOK_TESTS_BENCH_REPORT_H

#include <stddef.h>

enum { BENCH_RESULTS_MAX = 64, BENCH_SAMPLES_MAX = 16 };

/* A figure measured one or several times in a run; what counts is the median. */
struct bench_figure {
    const char *name; /* "deposits_with_keys" */
    const char *unit; /* "/s", "µs" */
    double samples[BENCH_SAMPLES_MAX];
    size_t sample_count;
};

struct bench_report {
    const char *benchmark; /* "write": names the file */
    struct bench_figure figures[BENCH_RESULTS_MAX];
    size_t figure_count;
    struct {
        const char *name;
        double value;
        double wanted; /* 0: no target; negative: at most its amount */
    } ratios[BENCH_RESULTS_MAX];
    size_t ratio_count;
};

/* Finds or makes the figure and adds a sample; names are literals. */
void bench_sample(struct bench_report *report, const char *name, const char *unit, double value);
/* The figure's median; 0 when it was not measured. */
double bench_median(const struct bench_report *report, const char *name);
/* The ratio of two figures' medians; left out when one was not measured. `wanted`: the least it is
 * to reach, or with a minus sign the most; 0: none. */
void bench_ratio(struct bench_report *report, const char *name, const char *over, const char *under,
                 double wanted);
/* Prints everything and writes the file. False when the file can't be written. */
int bench_report_end(const struct bench_report *report);

#endif
