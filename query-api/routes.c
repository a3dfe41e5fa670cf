#include "query-api/routes.h"

#include "common/domain/registry.h"
#include "common/http/problem.h"

enum { PATHS_BYTES_MAX = 16 * 1024, PATHS_BLOCK_BYTES = 1024 };

/* Made from openapi.json by the linker. */
extern const char _binary_query_api_openapi_json_start[];
extern const char _binary_query_api_openapi_json_end[];

static enum http_result get_openapi(void *context, struct http_request *request) {
    const char *start = _binary_query_api_openapi_json_start;
    /* Two symbols for the two ends of one object, which the compiler can't know. */
    const size_t len = (size_t)((uintptr_t)_binary_query_api_openapi_json_end - (uintptr_t)start);

    (void)context;
    http_respond(request, 200, "application/json", str_of(start, len));
    return HTTP_DONE;
}

static const struct http_route own_routes[] = {
    {HTTP_GET, "/accounts", query_accounts_list, NULL, NULL},
    {HTTP_GET, "/accounts/{id}", query_account, NULL, NULL},
    {HTTP_GET, "/accounts/{id}/balance", query_balance, NULL, NULL},
    {HTTP_GET, "/accounts/{id}/transactions", query_transactions, NULL, NULL},
    {HTTP_GET, "/accounts/{id}/stream", query_account_live, NULL, NULL},
    {HTTP_GET, "/activity", query_activity, NULL, NULL},
    {HTTP_GET, "/events", query_events, NULL, NULL},
    {HTTP_GET, "/events/stream", query_events_live, NULL, NULL}, /* before {event_id} */
    {HTTP_GET, "/events/{event_id}", query_event, NULL, NULL},
    {HTTP_GET, "/events/aggregate/{id}", query_stream_events, NULL, NULL},
    {HTTP_GET, "/openapi.json", get_openapi, NULL, NULL},
};

/* The paths that the command API answers follow from the domain, there as here. */
static enum err_code add_commands(struct routes *routes, const struct aggregate *aggregate,
                                  struct err *err) {
    for (size_t i = 0; i < aggregate->command_count; i++) {
        const char *action = aggregate->commands[i].action;
        const struct str path =
            action == NULL
                ? arena_printf(&routes->paths, "/%s", aggregate->collection)
                : arena_printf(&routes->paths, "/%s/{id}/%s", aggregate->collection, action);
        if (path.ptr == NULL || routes->count == ROUTES_MAX) {
            return err_set(err, ERR_LIMIT, "more than %d routes", ROUTES_MAX);
        }
        routes->table[routes->count++] = (struct http_route){HTTP_POST, path.ptr, NULL, NULL, NULL};
    }
    return ERR_OK;
}

enum err_code routes_init(struct routes *routes, struct queries *queries, struct err *err) {
    enum err_code code = ERR_OK;

    *routes = (struct routes){0};
    arena_init(&routes->paths, PATHS_BLOCK_BYTES, PATHS_BYTES_MAX);
    for (size_t i = 0; i < ARRAY_LEN(own_routes); i++) {
        routes->table[routes->count] = own_routes[i];
        routes->table[routes->count++].context = queries;
    }
    for (size_t i = 0; i < registry_aggregate_count && code == ERR_OK; i++) {
        code = add_commands(routes, registry_aggregates[i], err);
    }
    return code;
}

void routes_release(struct routes *routes) {
    arena_release(&routes->paths);
}
