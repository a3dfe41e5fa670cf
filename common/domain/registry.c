#include "common/domain/registry.h"

#include "common/domain/account.h"

const struct aggregate *const registry_aggregates[] = {
    &account_aggregate,
};

const size_t registry_aggregate_count = ARRAY_LEN(registry_aggregates);

const struct aggregate *registry_find(struct str name) {
    for (size_t i = 0; i < registry_aggregate_count; i++) {
        if (str_eq(name, str_from(registry_aggregates[i]->name))) {
            return registry_aggregates[i];
        }
    }
    return NULL;
}
