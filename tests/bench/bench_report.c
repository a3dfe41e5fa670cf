#include "tests/bench/bench_report.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct bench_figure *figure_of(struct bench_report *report, const char *name,
                                      const char *unit) {
    for (size_t i = 0; i < report->figure_count; i++) {
        if (strcmp(report->figures[i].name, name) == 0) {
            return &report->figures[i];
        }
    }
    assert(report->figure_count < BENCH_RESULTS_MAX);
    struct bench_figure *figure = &report->figures[report->figure_count++];
    figure->name = name;
    figure->unit = unit;
    return figure;
}

void bench_sample(struct bench_report *report, const char *name, const char *unit, double value) {
    struct bench_figure *figure = figure_of(report, name, unit);

    assert(figure->sample_count < BENCH_SAMPLES_MAX);
    figure->samples[figure->sample_count++] = value;
}

static int compare(const void *left, const void *right) {
    const double a = *(const double *)left;
    const double b = *(const double *)right;

    return (a > b) - (a < b);
}

static double median_of(const struct bench_figure *figure) {
    double sorted[BENCH_SAMPLES_MAX];
    const size_t count = figure->sample_count;

    if (count == 0) {
        return 0;
    }
    memcpy(sorted, figure->samples, count * sizeof(sorted[0]));
    qsort(sorted, count, sizeof(sorted[0]), compare);
    return count % 2 == 1 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
}

double bench_median(const struct bench_report *report, const char *name) {
    for (size_t i = 0; i < report->figure_count; i++) {
        if (strcmp(report->figures[i].name, name) == 0) {
            return median_of(&report->figures[i]);
        }
    }
    return 0;
}

void bench_ratio(struct bench_report *report, const char *name, const char *over, const char *under,
                 double wanted) {
    const double divisor = bench_median(report, under);
    const double value = divisor > 0 ? bench_median(report, over) / divisor : 0;

    if (value <= 0) {
        return;
    }
    assert(report->ratio_count < BENCH_RESULTS_MAX);
    report->ratios[report->ratio_count].name = name;
    report->ratios[report->ratio_count].value = value;
    report->ratios[report->ratio_count++].wanted = wanted;
}

static void print_tables(const struct bench_report *report) {
    (void)printf("\n%-34s %14s  %-10s %s\n", "measured", "median", "unit", "samples");
    for (size_t i = 0; i < report->figure_count; i++) {
        const struct bench_figure *figure = &report->figures[i];
        (void)printf("%-34s %14.1f  %-10s", figure->name, median_of(figure), figure->unit);
        for (size_t j = 0; figure->sample_count > 1 && j < figure->sample_count; j++) {
            (void)printf(" %.1f", figure->samples[j]);
        }
        (void)printf("\n");
    }
    (void)printf("\n");
    for (size_t i = 0; i < report->ratio_count; i++) {
        const double wanted = report->ratios[i].wanted;
        const double value = report->ratios[i].value;
        const char *verdict = "";
        if (wanted > 0) {
            verdict = value >= wanted ? "reached" : "missed";
        } else if (wanted < 0) {
            verdict = value <= -wanted ? "reached" : "missed";
        }
        (void)printf("%-46s %8.2f", report->ratios[i].name, value);
        if (wanted != 0) {
            (void)printf("   wanted %s %.2f: %s", wanted > 0 ? "≥" : "≤",
                         wanted > 0 ? wanted : -wanted, verdict);
        }
        (void)printf("\n");
    }
    (void)printf("\n");
    for (size_t i = 0; i < report->ratio_count; i++) {
        (void)printf("ratio %s %.3f\n", report->ratios[i].name, report->ratios[i].value);
    }
}

static json_t *as_json(const struct bench_report *report) {
    json_t *root = json_object();
    json_t *figures = json_object();
    json_t *ratios = json_object();

    for (size_t i = 0; i < report->figure_count; i++) {
        const struct bench_figure *figure = &report->figures[i];
        json_t *samples = json_array();
        for (size_t j = 0; j < figure->sample_count; j++) {
            (void)json_array_append_new(samples, json_real(figure->samples[j]));
        }
        (void)json_object_set_new(figures, figure->name,
                                  json_pack("{s:s, s:f, s:o}", "unit", figure->unit, "median",
                                            median_of(figure), "samples", samples));
    }
    for (size_t i = 0; i < report->ratio_count; i++) {
        (void)json_object_set_new(ratios, report->ratios[i].name,
                                  json_real(report->ratios[i].value));
    }
    (void)json_object_set_new(root, "benchmark", json_string(report->benchmark));
    (void)json_object_set_new(root, "figures", figures);
    (void)json_object_set_new(root, "ratios", ratios);
    return root;
}

int bench_report_end(const struct bench_report *report) {
    char path[256];
    json_t *root = as_json(report);

    print_tables(report);
    (void)mkdir("build", 0777);
    (void)mkdir("build/bench", 0777);
    (void)snprintf(path, sizeof(path), "build/bench/%s.json", report->benchmark);
    const int failed = json_dump_file(root, path, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    json_decref(root);
    if (failed != 0) {
        (void)fprintf(stderr, "bench: %s can't be written: %s\n", path, strerror(errno));
        return 0;
    }
    return 1;
}
