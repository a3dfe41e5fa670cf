#include "common/http/read_paths.h"

#include "common/base/attr.h"

const char *const http_read_paths[] = {
    "/accounts",
    "/accounts/{id}",
    "/accounts/{id}/balance",
    "/accounts/{id}/transactions",
    "/accounts/{id}/stream",
    "/activity",
    "/events",
    "/events/stream",
    "/events/{event_id}",
    "/events/aggregate/{id}",
};

const size_t http_read_path_count = ARRAY_LEN(http_read_paths);
