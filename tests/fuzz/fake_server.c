#include "tests/fuzz/fake_server.h"

#include <jansson.h>
#include <string.h>

#include "command-api/api.h"
#include "common/domain/registry.h"
#include "common/http/correlation_id.h"
#include "common/http/router.h"
#include "tests/fuzz/expect.h"

enum { SLOTS = 2, ARENA_BYTES = 1 << 20 };

struct slot {
    struct http_request request;
    const struct fake_call *call;
    const struct command_job *job;
    bool used;
};

static struct slot slots[SLOTS];

/* --- what http_server.c and shard.c would do; the linker takes these instead --- */

static struct slot *slot_of(const struct http_request *request) {
    return request->internal;
}

struct str http_request_header(const struct http_request *request, const char *name) {
    const struct fake_call *call = slot_of(request)->call;

    for (size_t i = 0; i < call->header_count; i++) {
        if (str_eq_nocase(call->headers[i].name, str_from(name))) {
            return call->headers[i].value;
        }
    }
    return (struct str){0};
}

size_t http_request_header_count(const struct http_request *request, const char *name) {
    const struct fake_call *call = slot_of(request)->call;
    size_t count = 0;

    for (size_t i = 0; i < call->header_count; i++) {
        count += str_eq_nocase(call->headers[i].name, str_from(name));
    }
    return count;
}

struct str http_path_param(const struct http_request *request, const char *name) {
    for (size_t i = 0; i < request->path_param_count; i++) {
        if (str_eq(request->path_params[i].name, str_from(name))) {
            return request->path_params[i].value;
        }
    }
    return (struct str){0};
}

void http_respond(struct http_request *request, int status, const char *content_type,
                  struct str body) {
    EXPECT(request->response.status == 0, "answered twice");
    request->response.status = status;
    request->response.content_type = content_type;
    request->response.body = body;
}

void http_respond_header(struct http_request *request, const char *name, struct str value) {
    (void)request;
    (void)name;
    (void)value;
}

void http_complete(struct http_request *request) {
    (void)request;
    EXPECT(false, "nobody completes a request here");
}

size_t shard_submit(struct shard *shard, struct command_job *const *jobs, size_t count) {
    (void)shard;
    for (size_t i = 0; i < count; i++) {
        struct slot *slot = slot_of(jobs[i]->context);
        EXPECT(slot->job == NULL, "submitted twice");
        slot->job = jobs[i];
    }
    return count;
}

struct loop *http_server_loop(struct http_server *server, uint32_t thread_index) {
    (void)server;
    (void)thread_index;
    return NULL;
}

static struct {
    loop_fn *fn;
    void *arg;
} turn;

void loop_on_turn(struct loop *loop, loop_fn *fn, void *arg) {
    (void)loop;
    turn.fn = fn;
    turn.arg = arg;
}

/* --- the API --- */

const struct http_route *fake_server_routes(size_t *count) {
    static struct api *api;
    static struct shard *shards[1];

    if (api == NULL) {
        api = api_new(&(struct api_options){.metrics = metrics_new(), .shard_count = 1});
        api_set_shards(api, shards);
        api_attach(api, NULL, 1);
    }
    return api_routes(api, count);
}

size_t fake_server_commands(const struct http_route *out[FAKE_ROUTES_MAX]) {
    size_t count = 0;
    size_t found = 0;
    const struct http_route *routes = fake_server_routes(&count);

    for (size_t i = 0; i < count && found < FAKE_ROUTES_MAX; i++) {
        if (routes[i].method == HTTP_POST && routes[i].handler != NULL) {
            out[found++] = &routes[i];
        }
    }
    return found;
}

const struct command_type *fake_server_command_type(const struct http_route *route) {
    char path[256];

    for (size_t i = 0; i < registry_aggregate_count; i++) {
        const struct aggregate *aggregate = registry_aggregates[i];
        for (size_t j = 0; j < aggregate->command_count; j++) {
            const struct command_type *type = &aggregate->commands[j];
            (void)snprintf(path, sizeof(path), type->action == NULL ? "/%s" : "/%s/{id}/%s",
                           aggregate->collection, type->action);
            if (strcmp(path, route->path) == 0) {
                return type;
            }
        }
    }
    return NULL;
}

struct http_request *fake_server_request(int slot_index, const struct fake_call *call) {
    struct slot *slot = &slots[slot_index];

    if (slot->used) {
        arena_release(&slot->request.arena);
    }
    memset(slot, 0, sizeof(*slot));
    slot->used = true;
    slot->call = call;
    slot->request.internal = slot;
    slot->request.method = HTTP_POST;
    slot->request.path = call->path;
    slot->request.body = call->body;
    const struct str sent = http_request_header(&slot->request, "X-Correlation-ID");
    slot->request.correlation_id = correlation_id_is_acceptable(sent) ? sent : STR("made");
    arena_init(&slot->request.arena, 4096, ARENA_BYTES);
    return &slot->request;
}

void fake_server_check_problem(const struct http_request *request) {
    const struct http_response *response = &request->response;
    json_error_t why;
    json_t *problem =
        json_loadb(response->body.ptr, response->body.len, JSON_REJECT_DUPLICATES, &why);

    EXPECT(problem != NULL, "the problem isn't JSON: %s: %.*s", why.text, STR_ARG(response->body));
    EXPECT(response->status >= 400 && response->status < 500, "status %d", response->status);
    EXPECT(strcmp(response->content_type, "application/problem+json") == 0, "%s",
           response->content_type);
    EXPECT(json_integer_value(json_object_get(problem, "status")) == response->status,
           "the body's status is another");
    const char *code = json_string_value(json_object_get(problem, "code"));
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    EXPECT(code != NULL && code[0] != '\0', "no code");
    EXPECT(detail != NULL && detail[0] != '\0', "no detail for %s", code);
    json_decref(problem);
}

struct fake_result fake_server_post(int slot_index, const struct fake_call *call) {
    struct http_request *request = fake_server_request(slot_index, call);
    const struct slot *slot = slot_of(request);
    const struct http_route *route = NULL;
    struct buf allow;
    size_t count = 0;
    const struct http_route *routes = fake_server_routes(&count);

    buf_init(&allow, 128);
    const enum router_verdict verdict =
        router_match(routes, count, HTTP_POST, call->path, request, &route, &allow);
    buf_release(&allow);
    if (verdict != ROUTER_FOUND) {
        return (struct fake_result){.outcome = FAKE_NO_ROUTE};
    }
    request->route = route;
    const enum http_result result = route->handler(route->context, request);
    turn.fn(turn.arg);
    if (result == HTTP_LATER) {
        EXPECT(slot->job != NULL && request->response.status == 0, "neither kept nor answered");
        return (struct fake_result){.outcome = FAKE_SUBMITTED, .job = slot->job};
    }
    EXPECT(slot->job == NULL, "answered, yet submitted");
    fake_server_check_problem(request);
    return (struct fake_result){.outcome = FAKE_ANSWERED, .response = &request->response};
}
