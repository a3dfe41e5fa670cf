#include "command-api/request_headers.h"

#include "common/http/problem.h"
#include "common/ports/event_store.h"

enum { METADATA_BYTES_MAX = 128 };

bool content_type_is_json(struct str value) {
    const char *semicolon = memchr(value.ptr != NULL ? value.ptr : "", ';', value.len);
    const size_t len = semicolon != NULL ? (size_t)(semicolon - value.ptr) : value.len;

    if (!str_eq_nocase(str_trim(str_of(value.ptr, len)), STR("application/json"))) {
        return false;
    }
    if (semicolon == NULL) {
        return true;
    }
    const struct str parameter = str_trim(str_of(semicolon + 1, value.len - len - 1));
    return parameter.len == 0 || str_eq_nocase(parameter, STR("charset=utf-8")) ||
           str_eq_nocase(parameter, STR("charset=\"utf-8\""));
}

bool idempotency_key_parse(struct str value, struct str *key) {
    struct str text = str_trim(value);

    if (text.len >= 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"') {
        text = str_of(text.ptr + 1, text.len - 2);
    }
    if (text.len == 0 || text.len > IDEMPOTENCY_KEY_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < 0x21 || text.ptr[i] > 0x7e || text.ptr[i] == '"') {
            return false;
        }
    }
    *key = text;
    return true;
}

bool if_match_parse(struct str value, int64_t *expected_version) {
    struct str text = str_trim(value);

    if (str_eq(text, STR("*"))) {
        *expected_version = EXPECT_EXISTS;
        return true;
    }
    if (text.len >= 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"') {
        text = str_of(text.ptr + 1, text.len - 2);
    }
    /* Tags are compared as text: "05" is not the tag of version 5. */
    return text.len > 0 && text.ptr[0] != '0' && str_to_i64(text, expected_version) &&
           *expected_version > 0;
}

bool metadata_is_acceptable(struct str value) {
    for (size_t i = 0; i < value.len; i++) {
        const unsigned char c = (unsigned char)value.ptr[i];
        if (c < 0x20 || c == 0x7f) {
            return false;
        }
    }
    return value.len <= METADATA_BYTES_MAX && str_is_utf8(value);
}

bool traceparent_is_valid(struct str value) {
    struct trace_context context;

    return trace_context_parse(value, &context);
}

/* What the event will carry: our span, so that whatever follows from the event is below it. */
static void read_trace(struct http_request *request, struct command_job *job) {
    char text[TRACEPARENT_BYTES];

    if (trace_context_is_set(&request->trace)) {
        trace_context_format(text, &request->trace);
        job->traceparent = arena_str(&request->arena, str_from(text));
        job->trace = request->trace.sampled ? &request->trace : NULL;
        return;
    }
    /* A malformed traceparent starts a new trace: W3C Trace Context section 3.2. */
    const struct str sent = http_request_header(request, "traceparent");
    job->traceparent = traceparent_is_valid(sent) ? sent : (struct str){0};
}

/* Optional metadata: kept when it is short, visible text, refused otherwise. */
static bool read_metadata(struct http_request *request, const char *name, struct str *out) {
    const struct str value = http_request_header(request, name);

    if (!metadata_is_acceptable(value)) {
        (void)problem_respond(request, 400, "header_invalid", "Header not acceptable",
                              "%s must be UTF-8 text of at most %d bytes, without control "
                              "characters",
                              name, METADATA_BYTES_MAX);
        return false;
    }
    *out = value;
    return true;
}

/* A precondition that can't be understood is refused, an empty or second one too: to leave it out
 * would be to act where the client said not to. */
static bool read_preconditions(struct http_request *request, struct command_job *job) {
    const size_t matches = http_request_header_count(request, "If-Match");
    const size_t none_matches = http_request_header_count(request, "If-None-Match");

    job->expected_version = EXPECT_ANY;
    if (matches > 1 || (matches == 1 && !if_match_parse(http_request_header(request, "If-Match"),
                                                        &job->expected_version))) {
        (void)problem_respond(request, 400, "if_match_invalid", "If-Match not acceptable",
                              "If-Match must be one stream version such as \"5\", or *");
        return false;
    }
    if (none_matches == 0) {
        return true;
    }
    if (none_matches > 1 || matches > 0 ||
        !str_eq(str_trim(http_request_header(request, "If-None-Match")), STR("*"))) {
        (void)problem_respond(request, 400, "if_none_match_invalid", "If-None-Match not acceptable",
                              "on commands If-None-Match may only be *, once, without If-Match");
        return false;
    }
    job->expected_version = 0;
    return true;
}

/* Headers last as long as the client stays, the job may last longer. */
static bool keep_all(struct http_request *request, struct command_job *job) {
    struct str *const texts[] = {&job->idempotency_key, &job->causation_id, &job->actor,
                                 &job->traceparent};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        if (texts[i]->len == 0) {
            continue;
        }
        *texts[i] = arena_str(&request->arena, *texts[i]);
        if (texts[i]->ptr == NULL) {
            (void)problem_respond(request, 500, "internal", "Internal error",
                                  "the request does not fit the memory that one may use");
            return false;
        }
    }
    return true;
}

bool request_headers_read(struct http_request *request, struct command_job *job) {
    const size_t keys = http_request_header_count(request, "Idempotency-Key");

    job->idempotency_key = (struct str){0};
    if (keys > 1 ||
        (keys == 1 && !idempotency_key_parse(http_request_header(request, "Idempotency-Key"),
                                             &job->idempotency_key))) {
        (void)problem_respond(request, 400, "idempotency_key_invalid",
                              "Idempotency-Key not acceptable",
                              "Idempotency-Key must be given once, with 1 to %d visible ASCII "
                              "characters",
                              IDEMPOTENCY_KEY_BYTES_MAX);
        return false;
    }
    if (!read_preconditions(request, job) ||
        !read_metadata(request, "X-Causation-ID", &job->causation_id)) {
        return false;
    }
    /* Whoever is known can't say that they are somebody else. */
    job->actor = request->subject;
    if (job->actor.len == 0 && !read_metadata(request, "X-Actor", &job->actor)) {
        return false;
    }
    read_trace(request, job);
    job->correlation_id = request->correlation_id;
    return keep_all(request, job);
}
