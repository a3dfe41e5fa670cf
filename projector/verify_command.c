/* daybook-projector verify [NAME] */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "projector/commands.h"
#include "projector/rebuild.h"
#include "projector/registry.h"
#include "projector/verify.h"

static const unsigned stores[] = {STORE_PG, STORE_REDIS};

/* A switch to a rebuilt model, or a store that is being filled again, is waited out so often. */
enum { TRIES = 3, VERIFY_THREADS = 2 };

static enum err_code verify_once(const struct world *world, const struct projection *projection,
                                 unsigned store, FILE *out, struct verify_result *result,
                                 struct err *err) {
    struct model_scan *scan = NULL;
    struct event_reader *reader = NULL;
    enum err_code code = world->scan(world, projection, store, &scan, err);

    if (code == ERR_OK) {
        reader = world->reader(world, READ_TOGETHER);
        code = reader->ops->open(reader, err);
    }
    if (code == ERR_OK) {
        const struct verify_options options = {
            .projection = projection,
            .scan = scan,
            .reader = reader,
            .partitions = (int32_t)world->config->topic_partitions,
            .out = out,
            .progress = stderr,
        };
        code = verify_store(&options, result, err);
    }
    if (reader != NULL) {
        reader->ops->free(reader);
    }
    if (scan != NULL) {
        scan->ops->free(scan);
    }
    return code;
}

/* One projection in one store, and what is to be said of it. */
struct job {
    const struct projection *projection;
    unsigned store;
    char *text; /* differences, then the result */
    size_t text_bytes;
    bool ok;
};

struct jobs {
    const struct world *world;
    struct job list[REBUILD_TARGETS_MAX];
    size_t count;
    _Atomic size_t next;
};

static void verify_one(const struct world *world, struct job *job) {
    struct verify_result result = {0};
    struct err err = {0};
    enum err_code code = ERR_CONFLICT;
    FILE *out = NULL;

    for (int i = 0; code == ERR_CONFLICT && i < TRIES; i++) {
        if (out != NULL) {
            (void)fclose(out);
            free(job->text);
            job->text = NULL;
        }
        out = open_memstream(&job->text, &job->text_bytes);
        if (out == NULL) {
            return;
        }
        code = verify_once(world, job->projection, job->store, out, &result, &err);
    }
    (void)fprintf(out, "%-12s %-10s ", job->projection->name,
                  job->store == STORE_PG ? "postgresql" : "redis");
    if (code != ERR_OK) {
        (void)fprintf(out, "not verified: %s\n", err.message);
    } else {
        (void)fprintf(out,
                      "%" PRId64 " rows against %" PRId64 " events, %" PRId64
                      " streams parked: %" PRId64 " differences\n",
                      result.rows, result.events, result.parked, result.differences);
    }
    job->ok = code == ERR_OK && result.differences == 0;
    (void)fclose(out);
}

static void *thread_main(void *arg) {
    struct jobs *jobs = arg;

    for (;;) {
        const size_t i = atomic_fetch_add(&jobs->next, 1);
        if (i >= jobs->count) {
            return NULL;
        }
        verify_one(jobs->world, &jobs->list[i]);
    }
}

/* 0; 1: differences, or one could not be verified. */
static int verify_all(struct jobs *jobs) {
    pthread_t threads[VERIFY_THREADS];
    size_t started = 0;
    int exit_code = 0;

    while (started < ARRAY_LEN(threads) &&
           pthread_create(&threads[started], NULL, thread_main, jobs) == 0) {
        started++;
    }
    if (started == 0) {
        (void)thread_main(jobs);
    }
    for (size_t i = 0; i < started; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    for (size_t i = 0; i < jobs->count; i++) {
        (void)fputs(jobs->list[i].text != NULL ? jobs->list[i].text : "out of memory\n", stdout);
        free(jobs->list[i].text);
        exit_code |= jobs->list[i].ok ? 0 : 1;
    }
    (void)fflush(stdout);
    return exit_code;
}

int command_verify(const struct world *world, const char *const *words, size_t count) {
    const struct projection *only =
        count == 2 ? registry_find_projection(str_from(words[1])) : NULL;
    struct jobs jobs = {.world = world};

    if (count > 2 || (count == 2 && only == NULL)) {
        return command_misused("verify takes the name of one projection, or none");
    }
    for (size_t i = 0; i < registry_projection_count; i++) {
        const struct projection *projection = registry_projections[i];
        for (size_t s = 0; s < ARRAY_LEN(stores); s++) {
            if ((only == NULL || only == projection) &&
                (projection_stores(projection) & stores[s]) && jobs.count < ARRAY_LEN(jobs.list)) {
                jobs.list[jobs.count++] = (struct job){projection, stores[s], NULL, 0, false};
            }
        }
    }
    return verify_all(&jobs);
}
