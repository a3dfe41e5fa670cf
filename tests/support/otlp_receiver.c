#include "otlp_receiver.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../common/http/http_server.h"

enum { HEADERS = 3, VALUE_BYTES = 256 };

static const char *const kept_headers[HEADERS] = {"Content-Type", "X-Tenant", "Authorization"};

struct otlp_receiver {
    struct http_server *server;
    struct metrics *metrics;
    struct health *health;
    char url[64];
    pthread_mutex_t mutex; /* guards all below */
    json_t *spans;
    int refusal, refusals_left;
    size_t requests;
    char headers[HEADERS][VALUE_BYTES];
    char defect[VALUE_BYTES];
};

/* --- the shape --- */

static char complaint[VALUE_BYTES];

static const char *wrong(const char *what, const json_t *value) {
    char *text = value != NULL ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

    (void)snprintf(complaint, sizeof(complaint), "%s: %.180s", what, text != NULL ? text : "none");
    free(text);
    return complaint;
}

static bool is_hex(const json_t *value, size_t digits) {
    const char *text = json_string_value(value);

    return text != NULL && strlen(text) == digits && strspn(text, "0123456789abcdef") == digits &&
           strspn(text, "0") < digits;
}

/* 64-bit integers are text in proto3's JSON. */
static bool is_decimal(const json_t *value) {
    const char *text = json_string_value(value);
    const char *digits = text != NULL && text[0] == '-' ? text + 1 : text;

    return digits != NULL && digits[0] != '\0' && strspn(digits, "0123456789") == strlen(digits);
}

static const char *check_attributes(const json_t *attributes) {
    size_t i;
    const json_t *item;

    if (!json_is_array(attributes)) {
        return wrong("attributes: no array", attributes);
    }
    json_array_foreach(attributes, i, item) {
        const char *key = json_string_value(json_object_get(item, "key"));
        const json_t *value = json_object_get(item, "value");
        const json_t *text = json_object_get(value, "stringValue");
        const json_t *number = json_object_get(value, "intValue");
        if (key == NULL || key[0] == '\0' || json_object_size(item) != 2 ||
            json_object_size(value) != 1) {
            return wrong("attribute: not {key, value}", item);
        }
        if (!(json_is_string(text) || is_decimal(number))) {
            return wrong("attribute: neither stringValue nor intValue", item);
        }
    }
    return NULL;
}

static const char *check_members(const json_t *object, const char *const *known, size_t count) {
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, key, value) {
        bool found = false;
        for (size_t i = 0; i < count; i++) {
            found = found || strcmp(key, known[i]) == 0;
        }
        if (!found) {
            return wrong("a member that OTLP has not", json_object_get(object, key));
        }
    }
    return NULL;
}

static const char *check_span(const json_t *span) {
    static const char *const known[] = {
        "traceId", "spanId", "traceState",     "parentSpanId", "flags",
        "name",    "kind",   "status",         "attributes",   "startTimeUnixNano",
        "links",   "events", "endTimeUnixNano"};
    const char *name = json_string_value(json_object_get(span, "name"));
    const json_t *parent = json_object_get(span, "parentSpanId");
    const json_t *kind = json_object_get(span, "kind");
    const json_t *start = json_object_get(span, "startTimeUnixNano");
    const json_t *end = json_object_get(span, "endTimeUnixNano");
    const json_t *code = json_object_get(json_object_get(span, "status"), "code");

    if (!is_hex(json_object_get(span, "traceId"), 32) ||
        !is_hex(json_object_get(span, "spanId"), 16) || (parent != NULL && !is_hex(parent, 16))) {
        return wrong("span: ids", span);
    }
    if (name == NULL || name[0] == '\0' || !json_is_integer(kind) || json_integer_value(kind) < 1 ||
        json_integer_value(kind) > 5) {
        return wrong("span: name or kind", span);
    }
    if (!is_decimal(start) || !is_decimal(end) || strlen(json_string_value(start)) != 19 ||
        strcmp(json_string_value(end), json_string_value(start)) < 0) {
        return wrong("span: times", span);
    }
    if (code != NULL && (!json_is_integer(code) || json_integer_value(code) > 2)) {
        return wrong("span: status", span);
    }
    const char *defect = check_members(span, known, sizeof(known) / sizeof(known[0]));
    return defect != NULL ? defect : check_attributes(json_object_get(span, "attributes"));
}

static const char *check_scope(const json_t *scope_spans) {
    const json_t *spans = json_object_get(scope_spans, "spans");
    const char *defect = NULL;
    size_t i;
    const json_t *span;

    if (!json_is_string(json_object_get(json_object_get(scope_spans, "scope"), "name")) ||
        !json_is_array(spans)) {
        return wrong("scopeSpans", scope_spans);
    }
    json_array_foreach(spans, i, span) {
        defect = defect != NULL ? defect : check_span(span);
    }
    return defect;
}

const char *otlp_check(const json_t *body) {
    const json_t *resources = json_object_get(body, "resourceSpans");
    const char *defect = NULL;
    size_t i;
    const json_t *item;

    if (!json_is_array(resources) || json_object_size(body) != 1) {
        return wrong("not {resourceSpans}", body);
    }
    json_array_foreach(resources, i, item) {
        const json_t *scopes = json_object_get(item, "scopeSpans");
        size_t j;
        const json_t *scope;
        defect = defect != NULL ? defect
                                : check_attributes(json_object_get(
                                      json_object_get(item, "resource"), "attributes"));
        if (!json_is_array(scopes)) {
            return wrong("resourceSpans without scopeSpans", item);
        }
        json_array_foreach(scopes, j, scope) {
            defect = defect != NULL ? defect : check_scope(scope);
        }
    }
    return defect;
}

/* --- keeping --- */

const char *span_text_of(const json_t *span, const char *member) {
    const char *text = json_string_value(json_object_get(span, member));

    return text != NULL ? text : "";
}

static const char *attribute(const json_t *attributes, const char *key) {
    size_t i;
    const json_t *item;

    json_array_foreach(attributes, i, item) {
        if (strcmp(span_text_of(item, "key"), key) == 0) {
            const json_t *value = json_object_get(item, "value");
            const char *text = span_text_of(value, "stringValue");
            return text[0] != '\0' ? text : span_text_of(value, "intValue");
        }
    }
    return "";
}

const char *span_attribute_of(const json_t *span, const char *key) {
    return attribute(json_object_get(span, "attributes"), key);
}

const json_t *span_named(const json_t *spans, const char *service, const char *name) {
    size_t i;
    const json_t *span;

    json_array_foreach(spans, i, span) {
        if (strcmp(span_text_of(span, "service"), service) == 0 &&
            strncmp(span_text_of(span, "name"), name, strlen(name)) == 0) {
            return span;
        }
    }
    return NULL;
}

static void keep(struct otlp_receiver *receiver, const json_t *body) {
    size_t i;
    size_t j;
    size_t k;
    const json_t *resource;
    const json_t *scope;
    json_t *span;

    json_array_foreach(json_object_get(body, "resourceSpans"), i, resource) {
        const char *service = attribute(
            json_object_get(json_object_get(resource, "resource"), "attributes"), "service.name");
        json_array_foreach(json_object_get(resource, "scopeSpans"), j, scope) {
            json_array_foreach(json_object_get(scope, "spans"), k, span) {
                json_t *copy = json_deep_copy(span);
                (void)json_object_set_new(copy, "service", json_string(service));
                (void)json_array_append_new(receiver->spans, copy);
            }
        }
    }
}

static enum http_result post_traces(void *context, struct http_request *request) {
    struct otlp_receiver *receiver = context;
    json_t *body = json_loadb(request->body.ptr, request->body.len, JSON_REJECT_DUPLICATES, NULL);
    const char *defect = otlp_check(body);
    int status = 200;

    (void)pthread_mutex_lock(&receiver->mutex);
    receiver->requests++;
    for (size_t i = 0; i < HEADERS; i++) {
        (void)snprintf(receiver->headers[i], VALUE_BYTES, "%.*s",
                       STR_ARG(http_request_header(request, kept_headers[i])));
    }
    if (defect != NULL && receiver->defect[0] == '\0') {
        (void)snprintf(receiver->defect, sizeof(receiver->defect), "%s", defect);
    }
    if (receiver->refusals_left > 0) {
        receiver->refusals_left--;
        status = receiver->refusal;
    } else {
        keep(receiver, body);
    }
    (void)pthread_mutex_unlock(&receiver->mutex);
    json_decref(body);
    http_respond(request, status, "application/json", STR("{}"));
    return HTTP_DONE;
}

struct otlp_receiver *otlp_receiver_new(void) {
    struct otlp_receiver *receiver = calloc(1, sizeof(*receiver));
    struct http_server_options options = http_server_defaults();
    const struct http_route route = {HTTP_POST, "/v1/traces", post_traces, receiver, NULL};
    struct err err;

    (void)pthread_mutex_init(&receiver->mutex, NULL);
    receiver->spans = json_array();
    receiver->metrics = metrics_new();
    receiver->health = health_new("collector");
    options.routes = &route;
    options.route_count = 1;
    options.body_bytes_max = (size_t)16 * 1024 * 1024;
    options.metrics = receiver->metrics;
    options.health = receiver->health;
    cr_assert_eq(http_server_new(&options, &receiver->server, &err), ERR_OK);
    cr_assert_eq(http_server_start(receiver->server, &err), ERR_OK);
    (void)snprintf(receiver->url, sizeof(receiver->url), "http://127.0.0.1:%u",
                   http_server_port(receiver->server));
    return receiver;
}

void otlp_receiver_free(struct otlp_receiver *receiver) {
    (void)http_server_stop(receiver->server, 1000);
    http_server_free(receiver->server);
    health_free(receiver->health);
    metrics_free(receiver->metrics);
    json_decref(receiver->spans);
    (void)pthread_mutex_destroy(&receiver->mutex);
    free(receiver);
}

const char *otlp_receiver_url(const struct otlp_receiver *receiver) {
    return receiver->url;
}

void otlp_receiver_refuse(struct otlp_receiver *receiver, int status, int times) {
    (void)pthread_mutex_lock(&receiver->mutex);
    receiver->refusal = status;
    receiver->refusals_left = times;
    (void)pthread_mutex_unlock(&receiver->mutex);
}

size_t otlp_receiver_requests(struct otlp_receiver *receiver) {
    (void)pthread_mutex_lock(&receiver->mutex);
    const size_t requests = receiver->requests;
    (void)pthread_mutex_unlock(&receiver->mutex);
    return requests;
}

const char *otlp_receiver_header(struct otlp_receiver *receiver, const char *name) {
    static char value[VALUE_BYTES];

    value[0] = '\0';
    (void)pthread_mutex_lock(&receiver->mutex);
    for (size_t i = 0; i < HEADERS; i++) {
        if (strcmp(kept_headers[i], name) == 0) {
            memcpy(value, receiver->headers[i], sizeof(value));
        }
    }
    (void)pthread_mutex_unlock(&receiver->mutex);
    return value;
}

const char *otlp_receiver_defect(struct otlp_receiver *receiver) {
    static char text[VALUE_BYTES];

    (void)pthread_mutex_lock(&receiver->mutex);
    memcpy(text, receiver->defect, sizeof(text));
    (void)pthread_mutex_unlock(&receiver->mutex);
    return text;
}

static int compare_starts(const void *a, const void *b) {
    return strcmp(span_text_of(*(json_t *const *)a, "startTimeUnixNano"),
                  span_text_of(*(json_t *const *)b, "startTimeUnixNano"));
}

json_t *otlp_receiver_spans(struct otlp_receiver *receiver, const char *trace_id) {
    json_t *found[4096];
    json_t *spans = json_array();
    size_t count = 0;
    size_t i;
    json_t *span;

    (void)pthread_mutex_lock(&receiver->mutex);
    json_array_foreach(receiver->spans, i, span) {
        if ((trace_id == NULL || strcmp(span_text_of(span, "traceId"), trace_id) == 0) &&
            count < sizeof(found) / sizeof(found[0])) {
            found[count++] = json_deep_copy(span);
        }
    }
    (void)pthread_mutex_unlock(&receiver->mutex);
    qsort(found, count, sizeof(found[0]), compare_starts);
    for (i = 0; i < count; i++) {
        (void)json_array_append_new(spans, found[i]);
    }
    return spans;
}
