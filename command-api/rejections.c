#include "command-api/rejections.h"

#include <stdio.h>
#include <string.h>

void rejections_init(struct rejections *rejections, struct metrics *metrics) {
    *rejections = (struct rejections){.metrics = metrics};
    (void)pthread_mutex_init(&rejections->lock, NULL);
}

void rejections_release(struct rejections *rejections) {
    (void)pthread_mutex_destroy(&rejections->lock);
}

/* A registry's look-up compares texts under a lock of its own: it is asked once a code. */
static struct metric_counter *counter_of(struct rejections *rejections, const char *code) {
    char labels[128];

    for (size_t i = 0; i < rejections->count; i++) {
        if (strcmp(rejections->known[i].code, code) == 0) {
            return rejections->known[i].counter;
        }
    }
    const bool full = rejections->count == REJECTION_CODES_MAX;
    (void)snprintf(labels, sizeof(labels), "code=\"%s\"", full ? "other" : code);
    struct metric_counter *counter =
        metrics_counter(rejections->metrics, "daybook_commands_rejected_total", labels,
                        "Commands refused by the domain, by the refusal's code.");
    if (!full) {
        rejections->known[rejections->count].code = code;
        rejections->known[rejections->count].counter = counter;
        rejections->count++;
    }
    return counter;
}

void rejections_add(struct rejections *rejections, const char *code) {
    (void)pthread_mutex_lock(&rejections->lock);
    struct metric_counter *counter = counter_of(rejections, code);
    (void)pthread_mutex_unlock(&rejections->lock);
    metric_add(counter, 1);
}
