#include "query-api/readiness.h"

#include <assert.h>
#include <stdio.h>

void readiness_init(struct readiness *readiness, struct health *health) {
    *readiness = (struct readiness){.health = health};
    pthread_mutex_init(&readiness->lock, NULL);
}

void readiness_release(struct readiness *readiness) {
    pthread_mutex_destroy(&readiness->lock);
}

static void show(const struct readiness_store *store, bool another_is_up) {
    if (store->optional && store->state != VIEW_UP) {
        health_degrade(store->component, "%s", store->reason);
        return;
    }
    switch (store->state) {
    case VIEW_UP:
        health_ok(store->component);
        break;
    case VIEW_DOWN:
        if (another_is_up) {
            health_degrade(store->component, "%s", store->reason);
        } else {
            health_fail(store->component, "%s", store->reason);
        }
        break;
    case VIEW_STARTING:
    case VIEW_WRONG:
    default:
        health_fail(store->component, "%s", store->reason);
        break;
    }
}

static void on_change(void *arg, enum view_state state, const char *reason) {
    struct readiness_store *changed = arg;
    struct readiness *readiness = changed->readiness;
    size_t up = 0;

    pthread_mutex_lock(&readiness->lock);
    changed->state = state;
    (void)snprintf(changed->reason, sizeof(changed->reason), "%s", reason);
    for (size_t i = 0; i < readiness->count; i++) {
        up += readiness->stores[i].state == VIEW_UP && !readiness->stores[i].optional;
    }
    for (size_t i = 0; i < readiness->count; i++) {
        show(&readiness->stores[i], up > 0);
    }
    pthread_mutex_unlock(&readiness->lock);
}

static struct view_state_listener listen_to(struct readiness *readiness, const char *name,
                                            bool optional) {
    pthread_mutex_lock(&readiness->lock);
    assert(readiness->count < READINESS_STORES_MAX);
    struct readiness_store *store = &readiness->stores[readiness->count++];
    *store = (struct readiness_store){
        .readiness = readiness, .state = VIEW_STARTING, .optional = optional};
    store->component = health_component(readiness->health, name);
    (void)snprintf(store->reason, sizeof(store->reason), "not reached yet");
    show(store, false);
    pthread_mutex_unlock(&readiness->lock);
    return (struct view_state_listener){.changed = on_change, .arg = store};
}

struct view_state_listener readiness_listen(struct readiness *readiness, const char *name) {
    return listen_to(readiness, name, false);
}

struct view_state_listener readiness_listen_optional(struct readiness *readiness,
                                                     const char *name) {
    return listen_to(readiness, name, true);
}
