/*
 * What the states of the two stores mean for the process.
 *
 *   both up                                   ready
 *   a store never reached since the start     not ready: something is not set up yet
 *   a store answers, but is not the right one not ready: an operator's task
 *   one lost                                  degraded: the other still answers (what it can)
 *   both lost                                 not ready
 *   a store that only some queries need       degraded while it is lost, or was never reached
 *
 * So one lost store doesn't take all replicas out of a load balancer at once. Thread-safe.
 */
#ifndef DAYBOOK_QUERY_API_READINESS_H
#define DAYBOOK_QUERY_API_READINESS_H

#include <pthread.h>

#include "common/ports/view_state.h"
#include "common/runtime/health.h"

enum { READINESS_STORES_MAX = 40 }; /* PostgreSQL and one Redis connection per HTTP thread */

struct readiness;

/* What a listener's argument points to. */
struct readiness_store {
    struct readiness *readiness;
    struct health_component *component;
    enum view_state state;
    bool optional;
    char reason[HEALTH_REASON_BYTES];
};

struct readiness {
    pthread_mutex_t lock; /* guards all below */
    struct health *health;
    struct readiness_store stores[READINESS_STORES_MAX];
    size_t count;
};

void readiness_init(struct readiness *readiness, struct health *health);
void readiness_release(struct readiness *readiness);

/* Adds the component `name` and returns a listener for the adapter behind it. At most
 * READINESS_STORES_MAX. */
struct view_state_listener readiness_listen(struct readiness *readiness, const char *name);
/* The same for one that only some queries need. */
struct view_state_listener readiness_listen_optional(struct readiness *readiness, const char *name);

#endif
