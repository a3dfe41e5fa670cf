#include "crowd.h"

#include <criterion/criterion.h>
#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>

#include "http_client.h"

struct member {
    struct crowd *crowd;
    size_t index;
    pthread_t thread;
};

struct crowd {
    crowd_fn *fn;
    void *context;
    size_t count;
    struct member members[CROWD_MAX];
};

static void *run_member(void *arg) {
    const struct member *member = arg;

    member->crowd->fn(member->crowd->context, member->index);
    http_client_close();
    return NULL;
}

struct crowd *crowd_start(size_t count, crowd_fn *fn, void *context) {
    struct crowd *crowd = calloc(1, sizeof(*crowd));

    cr_assert(crowd != NULL && count <= CROWD_MAX);
    /* Not safe to be left to the first call of each thread. */
    cr_assert_eq(curl_global_init(CURL_GLOBAL_DEFAULT), CURLE_OK);
    crowd->fn = fn;
    crowd->context = context;
    crowd->count = count;
    for (size_t i = 0; i < count; i++) {
        struct member *member = &crowd->members[i];
        *member = (struct member){.crowd = crowd, .index = i};
        cr_assert_eq(pthread_create(&member->thread, NULL, run_member, member), 0);
    }
    return crowd;
}

void crowd_join(struct crowd *crowd) {
    for (size_t i = 0; i < crowd->count; i++) {
        (void)pthread_join(crowd->members[i].thread, NULL);
    }
    free(crowd);
}

void crowd_run(size_t count, crowd_fn *fn, void *context) {
    crowd_join(crowd_start(count, fn, context));
}

unsigned crowd_random(unsigned *state) {
    *state = *state * 1664525U + 1013904223U;
    return *state >> 8;
}
