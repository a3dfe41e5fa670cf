/* The query API's paths as one table, and those of the command API as routes served elsewhere. */
#ifndef DAYBOOK_QUERY_API_ROUTES_H
#define DAYBOOK_QUERY_API_ROUTES_H

#include "common/base/arena.h"
#include "query-api/queries/queries.h"

enum { ROUTES_MAX = 56 };

struct routes {
    struct http_route table[ROUTES_MAX];
    size_t count;
    struct arena paths; /* of the command API's routes */
};

/* ERR_LIMIT: more routes than the table holds. Release in any case. */
MUST_CHECK enum err_code routes_init(struct routes *routes, struct queries *queries,
                                     struct err *err);
void routes_release(struct routes *routes);

#endif
