#include "command-api/api.h"

#include <inttypes.h>
#include <stdio.h>

#include "command-api/answer.h"
#include "command-api/rejections.h"
#include "command-api/request_headers.h"
#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/json_doc.h"
#include "common/base/mem.h"
#include "common/base/uuid.h"
#include "common/domain/registry.h"
#include "common/http/problem.h"
#include "common/http/read_paths.h"

enum { PATH_BYTES_MAX = 128, FIELDS_MAX = 16, OUTCOMES_MAX = 16 };

extern const char openapi_start[] __asm__("_binary_command_api_openapi_json_start");
extern const char openapi_end[] __asm__("_binary_command_api_openapi_json_end");

/* A command's route: what the handler needs to know about it. */
struct endpoint {
    const struct aggregate *aggregate;
    const struct command_type *type;
    char path[PATH_BYTES_MAX];
    struct field fields[FIELDS_MAX]; /* the command's, and "id" where it opens the stream */
    size_t field_count;
    struct metric_counter *answered[COMMAND_RESULTS];
};

/* Commands for one shard, gathered by one HTTP thread in the current turn of its loop. */
struct gathered {
    struct shard *shard;
    struct command_job *jobs[SHARD_SUBMIT_MAX];
    size_t count;
};

struct intake {
    struct gathered *shards; /* one per shard */
    size_t shard_count;
};

struct api {
    struct api_options options;
    struct shard **shards;
    struct intake *intakes; /* one per HTTP thread */
    size_t intake_count;
    struct endpoint endpoints[API_ROUTES_MAX];
    size_t endpoint_count;
    struct http_route routes[API_ROUTES_MAX];
    size_t route_count;
    struct metric_histogram *command_seconds;
    struct rejections rejections;
};

/* Where a body is read to: the command's data and, for commands that open a stream, its id. */
struct command_body {
    char data[COMMAND_DATA_BYTES_MAX];
    char id[STREAM_ID_BYTES_MAX + 1];
};

/* --- reading --- */

static int status_of(const char *problem_code) {
    static const char *const unprocessable[] = {"amount_not_positive", "amount_too_large",
                                                "amount_invalid", "text_too_long",
                                                "number_invalid"};

    for (size_t i = 0; i < ARRAY_LEN(unprocessable); i++) {
        if (str_eq(str_from(problem_code), str_from(unprocessable[i]))) {
            return 422;
        }
    }
    return 400;
}

static const char *title_of(const char *problem_code) {
    static const char *const titles[][2] = {
        {"missing_field", "Field missing"},          {"unknown_field", "Unknown field"},
        {"duplicate_field", "Field given twice"},    {"wrong_type", "Field of the wrong type"},
        {"text_too_long", "Text too long"},          {"amount_not_positive", "Amount not positive"},
        {"amount_too_large", "Amount too large"},    {"amount_invalid", "Amount not a number"},
        {"number_invalid", "Number not acceptable"}, {"not_an_object", "Not a JSON object"},
    };

    for (size_t i = 0; i < ARRAY_LEN(titles); i++) {
        if (str_eq(str_from(problem_code), str_from(titles[i][0]))) {
            return titles[i][1];
        }
    }
    return "Request not acceptable";
}

static void refuse_field(struct http_request *request, const struct field_problem *problem) {
    char members[128];

    if (problem->field[0] == '\0') {
        (void)problem_respond(request, status_of(problem->code), problem->code,
                              title_of(problem->code), "%s", problem->detail);
        return;
    }
    struct buf text;
    buf_init(&text, sizeof(members));
    buf_put_text(&text, "\"field\":");
    buf_put_json_str(&text, str_from(problem->field));
    (void)problem_respond_with(request, status_of(problem->code), problem->code,
                               title_of(problem->code), buf_str(&text), "%s", problem->detail);
    buf_release(&text);
}

static bool id_is_given(const struct json_doc *doc) {
    const char *key;
    json_t *value;

    json_object_foreach(doc->root, key, value) {
        if (str_eq_nocase(str_from(key), STR("id")) && !json_is_null(value)) {
            return true;
        }
    }
    return false;
}

/* A new stream without an id of its own. With an idempotency key the id follows from it, so that a
 * repetition names the same stream; without one it is random. */
static void make_id(const struct command_job *job, char id[STREAM_ID_BYTES_MAX + 1]) {
    char text[UUID_TEXT_BYTES];
    struct uuid uuid;

    if (job->idempotency_key.len == 0) {
        struct uuid_source source;
        uuid_source_init(&source);
        uuid = uuid_next(&source, clock_wall_us());
    } else {
        const struct str name = str_from(job->aggregate->name);
        const uint64_t low = hash_fnv1a(hash_fnv1a(HASH_FNV1A_START, name), job->idempotency_key);
        const uint64_t high = hash_fnv1a(low, job->idempotency_key);
        memcpy(uuid.bytes, &high, sizeof(high));
        memcpy(uuid.bytes + 8, &low, sizeof(low));
        uuid.bytes[6] = (uint8_t)((uuid.bytes[6] & 0x0f) | 0x80); /* version 8, RFC 9562 */
        uuid.bytes[8] = (uint8_t)((uuid.bytes[8] & 0x3f) | 0x80);
    }
    uuid_format(text, &uuid);
    memcpy(id, text, UUID_TEXT_BYTES);
}

static bool set_id(struct http_request *request, struct command_job *job, struct str id) {
    struct err err;

    if (stream_id_check(id, &err) != ERR_OK ||
        !str_copy(job->command.stream_id, sizeof(job->command.stream_id), id)) {
        (void)problem_respond_with(request, 400, "id_invalid", "Id not acceptable",
                                   STR("\"field\":\"id\""), "%s", err.message);
        return false;
    }
    return true;
}

static bool read_fields(struct http_request *request, const struct endpoint *endpoint,
                        const struct json_doc *doc, struct command_job *job) {
    struct command_body body = {0};
    struct field_problem problem = {0};

    if (fields_from_json(endpoint->fields, endpoint->field_count, doc, true, &body, &problem) !=
        ERR_OK) {
        if (endpoint->type->action == NULL && str_eq(str_from(problem.field), STR("id")) &&
            str_eq(str_from(problem.code), STR("text_too_long"))) {
            (void)problem_respond_with(request, 400, "id_invalid", "Id not acceptable",
                                       STR("\"field\":\"id\""), "%s", problem.detail);
        } else {
            refuse_field(request, &problem);
        }
        return false;
    }
    memcpy(job->command.data.bytes, body.data, sizeof(job->command.data.bytes));
    if (endpoint->type->action != NULL) {
        return true;
    }
    if (!id_is_given(doc)) {
        make_id(job, job->command.stream_id);
        return true;
    }
    return set_id(request, job, str_from(body.id));
}

static bool read_body(struct http_request *request, const struct endpoint *endpoint,
                      struct command_job *job) {
    struct str text = request->body;
    struct json_doc doc;
    struct err err = {0};

    if (text.len > 0 && !content_type_is_json(http_request_header(request, "Content-Type"))) {
        (void)problem_respond(request, 415, "unsupported_media_type", "Unsupported media type",
                              "the body must be application/json in UTF-8");
        return false;
    }
    if (text.len == 0) {
        /* Nothing to say is fine where nothing must be said. */
        if (endpoint->type->field_count > 0) {
            (void)problem_respond(request, 400, "body_missing", "Body missing",
                                  "a JSON object is required");
            return false;
        }
        text = STR("{}");
    }
    if (json_doc_parse(text, &request->arena, &doc, &err) != ERR_OK) {
        (void)problem_respond(request, 400, "invalid_json", "Not valid JSON", "%s",
                              str_is_utf8(str_from(err.message)) ? err.message
                                                                 : "the text is not UTF-8");
        return false;
    }
    const bool ok = read_fields(request, endpoint, &doc, job);
    json_doc_release(&doc);
    return ok;
}

/* Equal for requests that mean the same: command, stream and every field's value. */
static int64_t hash_request(const struct command_job *job) {
    uint64_t hash = hash_fnv1a(HASH_FNV1A_START, str_from(job->command.type->name));

    hash = hash_fnv1a(hash, str_from(job->command.stream_id));
    return (int64_t)hash_fnv1a_sparse(
        hash, str_of(job->command.data.bytes, sizeof(job->command.data.bytes)));
}

/* --- answering --- */

/* Called by the shard's thread, or by the HTTP thread when no shard took the job. */
static void finish_job(struct command_job *job) {
    struct http_request *request = job->context;
    const struct endpoint *endpoint = request->route->detail;
    struct api *api = request->route->context;
    char text[192];

    metric_add(endpoint->answered[job->result], 1);
    if (job->result == COMMAND_REJECTED) {
        rejections_add(&api->rejections, job->rejection_code);
    }
    metric_observe(api->command_seconds, clock_monotonic_us() - job->accepted_at_us);
    if (job->version > 0) {
        (void)snprintf(text, sizeof(text), "\"%" PRId64 "\"", job->version);
        http_respond_header(request, "ETag", str_from(text));
    }
    if (job->replayed) {
        http_respond_header(request, "Idempotency-Replayed", STR("true"));
    }
    if (job->status == 201) {
        (void)snprintf(text, sizeof(text), "/%s/%s", endpoint->aggregate->collection,
                       job->command.stream_id);
        http_respond_header(request, "Location", str_from(text));
    }
    if (job->status == 503) {
        http_respond_header(request, "Retry-After", STR("1"));
    }
    http_respond(request, job->status,
                 job->is_problem ? "application/problem+json" : "application/json", job->body);
    http_complete(request);
}

/* --- handing on --- */

static void hand_on(struct gathered *gathered) {
    const size_t taken = shard_submit(gathered->shard, gathered->jobs, gathered->count);

    for (size_t i = taken; i < gathered->count; i++) {
        answer_overloaded(gathered->jobs[i]);
        finish_job(gathered->jobs[i]);
    }
    gathered->count = 0;
}

/* A shard that waits for work starts with what the turn brought, not with its first command: larger
 * transactions, and fewer threads woken. A turn that brings many hands them on in parts: the shard
 * works on the first while the rest is read. */
static void end_turn(void *arg) {
    struct intake *intake = arg;

    for (size_t i = 0; i < intake->shard_count; i++) {
        if (intake->shards[i].count > 0) {
            hand_on(&intake->shards[i]);
        }
    }
}

static void gather(struct intake *intake, struct command_job *job) {
    const size_t shard = hash_murmur2(str_from(job->command.stream_id)) % intake->shard_count;
    struct gathered *gathered = &intake->shards[shard];

    gathered->jobs[gathered->count++] = job;
    if (gathered->count == SHARD_SUBMIT_MAX) {
        hand_on(gathered);
    }
}

static enum http_result post_command(void *context, struct http_request *request) {
    struct api *api = context;
    const struct endpoint *endpoint = request->route->detail;
    struct command_job *job = arena_alloc(&request->arena, sizeof(*job));

    if (job == NULL) {
        return problem_respond(request, 503, "overloaded", "Overloaded", "out of memory");
    }
    job->aggregate = endpoint->aggregate;
    job->command.type = endpoint->type;
    job->arena = &request->arena;
    job->accepted_at_us = request->received_at_us;
    job->finish = finish_job;
    job->context = request;
    if (request->query_count > 0) {
        return problem_respond(request, 400, "unknown_parameter", "Unknown parameter",
                               "commands take no query parameters");
    }
    if (!request_headers_read(request, job)) {
        return HTTP_DONE;
    }
    if (endpoint->type->action != NULL && !set_id(request, job, http_path_param(request, "id"))) {
        return HTTP_DONE;
    }
    if (!read_body(request, endpoint, job)) {
        return HTTP_DONE;
    }
    job->request_hash = hash_request(job);
    gather(&api->intakes[request->thread_index], job);
    return HTTP_LATER;
}

static enum http_result get_openapi(void *context, struct http_request *request) {
    (void)context;
    /* The linker puts both symbols around one document. */
    /* cppcheck-suppress comparePointers */
    const size_t len = (size_t)(openapi_end - openapi_start);
    http_respond(request, 200, "application/json", str_of(openapi_start, len));
    return HTTP_DONE;
}

/* --- routes --- */

static void register_results(const struct api *api, struct endpoint *endpoint) {
    static const char *const names[COMMAND_RESULTS] = {
        "accepted",   "rejected", "replayed",   "precondition_failed",
        "key_reused", "conflict", "overloaded", "unavailable",
        "unknown",    "defect"};
    char labels[128];

    for (size_t i = 0; i < COMMAND_RESULTS; i++) {
        (void)snprintf(labels, sizeof(labels), "command=\"%s\",outcome=\"%s\"",
                       endpoint->type->name, names[i]);
        endpoint->answered[i] = metrics_counter(api->options.metrics, "daybook_commands_total",
                                                labels, "Commands answered, by outcome.");
    }
}

static void add_endpoint(struct api *api, const struct aggregate *aggregate,
                         const struct command_type *type) {
    struct endpoint *endpoint = &api->endpoints[api->endpoint_count++];

    endpoint->aggregate = aggregate;
    endpoint->type = type;
    for (size_t i = 0; i < type->field_count; i++) {
        endpoint->fields[endpoint->field_count++] = type->fields[i];
    }
    if (type->action == NULL) {
        (void)snprintf(endpoint->path, sizeof(endpoint->path), "/%s", aggregate->collection);
        endpoint->fields[endpoint->field_count++] =
            (struct field)FIELD_OF(struct command_body, id, "id", FIELD_TEXT, false);
    } else {
        (void)snprintf(endpoint->path, sizeof(endpoint->path), "/%s/{id}/%s", aggregate->collection,
                       type->action);
    }
    register_results(api, endpoint);
    api->routes[api->route_count++] =
        (struct http_route){HTTP_POST, endpoint->path, post_command, api, endpoint};
}

struct api *api_new(const struct api_options *options) {
    struct api *api = mem_zalloc(sizeof(*api));

    api->options = *options;
    for (size_t i = 0; i < registry_aggregate_count; i++) {
        for (size_t j = 0; j < registry_aggregates[i]->command_count; j++) {
            add_endpoint(api, registry_aggregates[i], &registry_aggregates[i]->commands[j]);
        }
    }
    for (size_t i = 0; i < http_read_path_count; i++) {
        api->routes[api->route_count++] =
            (struct http_route){HTTP_GET, http_read_paths[i], NULL, NULL, NULL};
    }
    api->routes[api->route_count++] =
        (struct http_route){HTTP_GET, "/openapi.json", get_openapi, NULL, NULL};
    rejections_init(&api->rejections, options->metrics);
    api->command_seconds = metrics_latency(options->metrics, "daybook_command_seconds", "",
                                           "From the request's headers to its answer.");
    return api;
}

void api_free(struct api *api) {
    if (api == NULL) {
        return;
    }
    for (size_t i = 0; i < api->intake_count; i++) {
        mem_free(api->intakes[i].shards);
    }
    mem_free(api->intakes);
    rejections_release(&api->rejections);
    mem_free(api);
}

const struct http_route *api_routes(struct api *api, size_t *count) {
    *count = api->route_count;
    return api->routes;
}

void api_set_shards(struct api *api, struct shard **shards) {
    api->shards = shards;
}

void api_attach(struct api *api, struct http_server *server, uint32_t threads) {
    api->intakes = mem_array(threads, sizeof(api->intakes[0]));
    api->intake_count = threads;
    for (uint32_t i = 0; i < threads; i++) {
        struct intake *intake = &api->intakes[i];
        intake->shard_count = api->options.shard_count;
        intake->shards = mem_array(intake->shard_count, sizeof(intake->shards[0]));
        for (size_t j = 0; j < intake->shard_count; j++) {
            intake->shards[j].shard = api->shards[j];
        }
        loop_on_turn(http_server_loop(server, i), end_turn, intake);
    }
}
