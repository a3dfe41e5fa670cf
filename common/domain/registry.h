/* All aggregates. To add one: write its file, add its line in registry.c. */
#ifndef DAYBOOK_DOMAIN_REGISTRY_H
#define DAYBOOK_DOMAIN_REGISTRY_H

#include "common/domain/aggregate.h"

extern const struct aggregate *const registry_aggregates[];
extern const size_t registry_aggregate_count;

/* NULL when there is none. */
const struct aggregate *registry_find(struct str name);

#endif
