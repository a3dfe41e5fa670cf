/* The registry of a projector with a fourth projection, which exists in the tests alone: this line
 * is all that a projection needs besides its file and its table. */
#include "projector/registry.h"

extern const struct projection accounts_projection;
extern const struct projection statements_projection;
extern const struct projection activity_projection;
extern const struct projection moves_projection;

const struct projection *const registry_projections[] = {
    &accounts_projection,
    &statements_projection,
    &activity_projection,
    &moves_projection,
};

const size_t registry_projection_count = ARRAY_LEN(registry_projections);

const struct projection *registry_find_projection(struct str name) {
    for (size_t i = 0; i < registry_projection_count; i++) {
        if (str_eq(name, str_from(registry_projections[i]->name))) {
            return registry_projections[i];
        }
    }
    return NULL;
}
