/* All projections. To add one: write its file in projections/, its migration, its line in
 * registry.c. */
#ifndef DAYBOOK_PROJECTOR_REGISTRY_H
#define DAYBOOK_PROJECTOR_REGISTRY_H

#include "common/ports/projection.h"

extern const struct projection *const registry_projections[];
extern const size_t registry_projection_count;

/* NULL when there is none. */
const struct projection *registry_find_projection(struct str name);

#endif
