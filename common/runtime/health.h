/*
 * Health: each component that can be ready or not has an entry with a name and a reason. /ready
 * lists them all. Thread-safe.
 */
#ifndef DAYBOOK_RUNTIME_HEALTH_H
#define DAYBOOK_RUNTIME_HEALTH_H

#include <stdbool.h>

#include "common/base/buf.h"

enum { HEALTH_COMPONENTS_MAX = 64, HEALTH_REASON_BYTES = 256 };

struct health;
struct health_component;

struct health *health_new(const char *service);
void health_free(struct health *health);

/* `name` is copied. Starts as not ready, reason "starting". The same name gives the same component.
 */
struct health_component *health_component(struct health *health, const char *name);
void health_ok(struct health_component *component);
void health_fail(struct health_component *component, const char *format, ...) PRINTF_LIKE(2, 3);
/* Ready, but something needs an operator's eye: /ready stays 200 and shows status "degraded" with
 * the reason. */
void health_degrade(struct health_component *component, const char *format, ...) PRINTF_LIKE(2, 3);
bool health_component_ok(const struct health_component *component);
/* From now on /ready says 503 "draining". */
void health_drain(struct health *health);

bool health_ready(struct health *health);
/* {"status":"ready"|"degraded"|"not_ready"|"draining","service":…,"components":[{"name","status","reason"?},…]}
 */
void health_render(struct health *health, struct buf *out);

#endif
