/* Counts refused commands by the code of the refusal. Safe from any thread. */
#ifndef DAYBOOK_COMMAND_API_REJECTIONS_H
#define DAYBOOK_COMMAND_API_REJECTIONS_H

#include <pthread.h>

#include "common/runtime/metrics.h"

enum { REJECTION_CODES_MAX = 32 };

struct rejections {
    struct metrics *metrics;
    pthread_mutex_t lock; /* guards what is below */
    struct {
        const char *code;
        struct metric_counter *counter;
    } known[REJECTION_CODES_MAX];
    size_t count;
};

/* `metrics` is borrowed. */
void rejections_init(struct rejections *rejections, struct metrics *metrics);
void rejections_release(struct rejections *rejections);

/* `code`: a literal. Those past REJECTION_CODES_MAX count as "other". */
void rejections_add(struct rejections *rejections, const char *code);

#endif
