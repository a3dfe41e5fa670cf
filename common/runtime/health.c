#include "common/runtime/health.h"

#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"

enum { NAME_BYTES = 96 };

enum component_status { COMPONENT_OK, COMPONENT_DEGRADED, COMPONENT_FAILED };

struct health_component {
    struct health *health;
    char name[NAME_BYTES];
    enum component_status status;
    char reason[HEALTH_REASON_BYTES];
};

struct health {
    pthread_mutex_t lock; /* guards all below */
    const char *service;
    struct health_component components[HEALTH_COMPONENTS_MAX];
    size_t count;
    bool draining;
};

struct health *health_new(const char *service) {
    struct health *health = mem_zalloc(sizeof(*health));

    pthread_mutex_init(&health->lock, NULL);
    health->service = service;
    return health;
}

void health_free(struct health *health) {
    if (health == NULL) {
        return;
    }
    pthread_mutex_destroy(&health->lock);
    mem_free(health);
}

struct health_component *health_component(struct health *health, const char *name) {
    struct health_component *found = NULL;

    pthread_mutex_lock(&health->lock);
    for (size_t i = 0; i < health->count && found == NULL; i++) {
        if (strncmp(health->components[i].name, name, NAME_BYTES - 1) == 0) {
            found = &health->components[i];
        }
    }
    if (found == NULL) {
        assert(health->count < HEALTH_COMPONENTS_MAX);
        found = &health->components[health->count++];
        found->health = health;
        found->status = COMPONENT_FAILED;
        (void)snprintf(found->name, sizeof(found->name), "%s", name);
        (void)snprintf(found->reason, sizeof(found->reason), "starting");
    }
    pthread_mutex_unlock(&health->lock);
    return found;
}

void health_ok(struct health_component *component) {
    pthread_mutex_lock(&component->health->lock);
    component->status = COMPONENT_OK;
    component->reason[0] = '\0';
    pthread_mutex_unlock(&component->health->lock);
}

static void set_status(struct health_component *component, enum component_status status,
                       const char *format, va_list args) PRINTF_LIKE(3, 0);
static void set_status(struct health_component *component, enum component_status status,
                       const char *format, va_list args) {
    pthread_mutex_lock(&component->health->lock);
    component->status = status;
    (void)vsnprintf(component->reason, sizeof(component->reason), format, args);
    pthread_mutex_unlock(&component->health->lock);
}

void health_fail(struct health_component *component, const char *format, ...) {
    va_list args;

    va_start(args, format);
    set_status(component, COMPONENT_FAILED, format, args);
    va_end(args);
}

void health_degrade(struct health_component *component, const char *format, ...) {
    va_list args;

    va_start(args, format);
    set_status(component, COMPONENT_DEGRADED, format, args);
    va_end(args);
}

bool health_component_ok(const struct health_component *component) {
    pthread_mutex_lock(&component->health->lock);
    const bool ok = component->status == COMPONENT_OK;
    pthread_mutex_unlock(&component->health->lock);
    return ok;
}

void health_drain(struct health *health) {
    pthread_mutex_lock(&health->lock);
    health->draining = true;
    pthread_mutex_unlock(&health->lock);
}

static enum component_status worst(const struct health *health) {
    enum component_status status = COMPONENT_OK;

    for (size_t i = 0; i < health->count; i++) {
        if (health->components[i].status > status) {
            status = health->components[i].status;
        }
    }
    return status;
}

bool health_ready(struct health *health) {
    pthread_mutex_lock(&health->lock);
    const bool ready = !health->draining && worst(health) != COMPONENT_FAILED;
    pthread_mutex_unlock(&health->lock);
    return ready;
}

void health_render(struct health *health, struct buf *out) {
    static const char *const overall[] = {"ready", "degraded", "not_ready"};
    static const char *const each[] = {"ok", "degraded", "failed"};

    pthread_mutex_lock(&health->lock);
    buf_printf(out, "{\"status\":\"%s\",\"service\":\"%s\",\"components\":[",
               health->draining ? "draining" : overall[worst(health)], health->service);
    for (size_t i = 0; i < health->count; i++) {
        const struct health_component *c = &health->components[i];
        buf_put_text(out, i > 0 ? ",{\"name\":" : "{\"name\":");
        buf_put_json_str(out, str_from(c->name));
        buf_printf(out, ",\"status\":\"%s\"", each[c->status]);
        if (c->reason[0] != '\0') {
            buf_put_text(out, ",\"reason\":");
            buf_put_json_str(out, str_from(c->reason));
        }
        buf_put_char(out, '}');
    }
    buf_put_text(out, "]}\n");
    pthread_mutex_unlock(&health->lock);
}
