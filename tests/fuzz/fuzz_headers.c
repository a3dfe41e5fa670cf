/*
 * Headers of commands, one "Name: value" on each line of the input. What must hold, by an oracle
 * that reads them on its own:
 *  1. They are taken, or refused with the problem that names the first that is wrong.
 *  2. What is taken is within its bounds: an Idempotency-Key of 1 to 255 visible characters, given
 *     once; one version for If-Match, written as an ETag is; metadata short and without control
 *     characters; a traceparent only when it is well-formed; a correlation id only when visible.
 *  3. A content type is JSON exactly when a regular expression says so.
 *  4. Reading what was taken once more gives the same.
 */
#include <regex.h>
#include <string.h>

#include "command-api/request_headers.h"
#include "common/ports/event_store.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/fake_server.h"

static size_t read_lines(struct str text, struct fake_header *out) {
    size_t count = 0;

    while (text.len > 0 && count < FAKE_HEADERS_MAX) {
        const char *end = memchr(text.ptr, '\n', text.len);
        const size_t len = end != NULL ? (size_t)(end - text.ptr) : text.len;
        const char *colon = memchr(text.ptr, ':', len);
        /* A NUL or CR can't be in a header: the server's parser ends or refuses it there. */
        if (colon != NULL && memchr(text.ptr, '\0', len) == NULL &&
            memchr(text.ptr, '\r', len) == NULL) {
            const size_t name = (size_t)(colon - text.ptr);
            out[count++] = (struct fake_header){str_of(text.ptr, name),
                                                str_trim(str_of(colon + 1, len - name - 1))};
        }
        text = str_of(text.ptr + len + (end != NULL), text.len - len - (end != NULL));
    }
    return count;
}

/* --- the oracle --- */

static struct str without_quotes(struct str text) {
    const bool quoted = text.len >= 2 && text.ptr[0] == '"' && text.ptr[text.len - 1] == '"';

    return quoted ? str_of(text.ptr + 1, text.len - 2) : text;
}

static bool only(struct str text, char low, char high, char except) {
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < low || text.ptr[i] > high || text.ptr[i] == except) {
            return false;
        }
    }
    return true;
}

static bool key_is_good(struct str key) {
    return key.len >= 1 && key.len <= 255 && only(key, '!', '~', '"');
}

/* The digits of a version, as an ETag has them: from 1, no zero before, within int64. */
static bool version_is_good(struct str text) {
    return text.len >= 1 && text.len <= 19 && text.ptr[0] != '0' && only(text, '0', '9', '\0') &&
           (text.len < 19 || memcmp(text.ptr, "9223372036854775807", 19) <= 0);
}

static bool metadata_is_good(struct str value) {
    for (size_t i = 0; i < value.len; i++) {
        const unsigned char c = (unsigned char)value.ptr[i];
        if (c < ' ' || c == 0x7f) {
            return false;
        }
    }
    return value.len <= 128 && str_is_utf8(value);
}

static bool traceparent_is_good(struct str value) {
    static const char shape[] = "00-hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh-hhhhhhhhhhhhhhhh-hh";
    bool trace = false;
    bool parent = false;

    if (value.len != sizeof(shape) - 1) {
        return false;
    }
    for (size_t i = 0; i < value.len; i++) {
        const char c = value.ptr[i];
        if (shape[i] == 'h' ? c == '\0' || strchr("0123456789abcdef", c) == NULL : c != shape[i]) {
            return false;
        }
        trace = trace || (i >= 3 && i < 35 && c != '0');
        parent = parent || (i >= 36 && i < 52 && c != '0');
    }
    return trace && parent;
}

/* The code of the problem that must come; NULL when all is well. */
static const char *expected_problem(const struct http_request *request) {
    const struct str key = http_request_header(request, "Idempotency-Key");
    const struct str match = http_request_header(request, "If-Match");
    const struct str none = http_request_header(request, "If-None-Match");
    const size_t keys = http_request_header_count(request, "Idempotency-Key");
    const size_t matches = http_request_header_count(request, "If-Match");
    const size_t nones = http_request_header_count(request, "If-None-Match");

    if (keys > 1 || (keys == 1 && !key_is_good(without_quotes(key)))) {
        return "idempotency_key_invalid";
    }
    if (matches > 1 ||
        (matches == 1 && !str_eq(match, STR("*")) && !version_is_good(without_quotes(match)))) {
        return "if_match_invalid";
    }
    if (nones > 1 || (nones == 1 && (matches > 0 || !str_eq(none, STR("*"))))) {
        return "if_none_match_invalid";
    }
    if (!metadata_is_good(http_request_header(request, "X-Causation-ID")) ||
        !metadata_is_good(http_request_header(request, "X-Actor"))) {
        return "header_invalid";
    }
    return NULL;
}

static void check_content_type(struct str value) {
    static const char pattern[] =
        "^[ \t]*application/json[ \t]*(;[ \t]*(charset=(utf-8|\"utf-8\"))?[ \t]*)?$";
    static regex_t compiled;
    static bool ready;
    char text[512];

    if (!ready) {
        EXPECT(regcomp(&compiled, pattern, REG_EXTENDED | REG_ICASE | REG_NOSUB) == 0, "pattern");
        ready = true;
    }
    if (str_copy(text, sizeof(text), value)) {
        const bool json = regexec(&compiled, text, 0, NULL, 0) == 0;
        EXPECT(content_type_is_json(value) == json, "content type %s", text);
    }
}

/* --- the properties --- */

static void check_taken(const struct http_request *request, const struct command_job *job) {
    const struct str match = http_request_header(request, "If-Match");
    const struct str trace = http_request_header(request, "traceparent");
    char version[32];

    EXPECT(str_eq(job->idempotency_key,
                  without_quotes(http_request_header(request, "Idempotency-Key"))),
           "key %.*s", STR_ARG(job->idempotency_key));
    if (http_request_header(request, "If-None-Match").len > 0) {
        EXPECT(job->expected_version == 0, "If-None-Match");
    } else if (match.len == 0) {
        EXPECT(job->expected_version == EXPECT_ANY, "no precondition");
    } else if (str_eq(match, STR("*"))) {
        EXPECT(job->expected_version == EXPECT_EXISTS, "If-Match: *");
    } else {
        (void)snprintf(version, sizeof(version), "%lld", (long long)job->expected_version);
        EXPECT(str_eq(str_from(version), without_quotes(match)), "If-Match %.*s is %s",
               STR_ARG(match), version);
    }
    EXPECT(str_eq(job->actor, http_request_header(request, "X-Actor")), "actor");
    EXPECT(str_eq(job->causation_id, http_request_header(request, "X-Causation-ID")), "causation");
    const struct str correlation = http_request_header(request, "X-Correlation-ID");
    const bool kept =
        correlation.len >= 1 && correlation.len <= 128 && only(correlation, '!', '~', '\0');
    EXPECT(str_eq(job->correlation_id, kept ? correlation : STR("made")), "correlation %.*s",
           STR_ARG(correlation));
    EXPECT(str_eq(job->traceparent, traceparent_is_good(trace) ? trace : (struct str){0}),
           "traceparent %.*s", STR_ARG(trace));
}

static void check_again(const struct command_job *job) {
    char version[32];
    struct command_job again = {0};
    struct fake_header written[5];
    size_t count = 0;

    if (job->idempotency_key.len > 0) {
        written[count++] = (struct fake_header){STR("idempotency-key"), job->idempotency_key};
    }
    if (job->expected_version > 0) {
        (void)snprintf(version, sizeof(version), "\"%lld\"", (long long)job->expected_version);
        written[count++] = (struct fake_header){STR("IF-MATCH"), str_from(version)};
    } else if (job->expected_version != EXPECT_ANY) {
        written[count++] = (struct fake_header){
            job->expected_version == 0 ? STR("If-None-Match") : STR("If-Match"), STR("*")};
    }
    written[count++] = (struct fake_header){STR("x-actor"), job->actor};
    written[count++] = (struct fake_header){STR("x-causation-id"), job->causation_id};
    written[count++] = (struct fake_header){STR("Traceparent"), job->traceparent};
    const struct fake_call call = {.headers = written, .header_count = count};
    EXPECT(request_headers_read(fake_server_request(1, &call), &again), "refused when sent again");
    EXPECT(str_eq(again.idempotency_key, job->idempotency_key) &&
               again.expected_version == job->expected_version && str_eq(again.actor, job->actor) &&
               str_eq(again.causation_id, job->causation_id) &&
               str_eq(again.traceparent, job->traceparent),
           "read otherwise when sent again");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fake_header headers[FAKE_HEADERS_MAX];
    const size_t count = read_lines(str_of((const char *)data, size), headers);
    const struct fake_call call = {.headers = headers, .header_count = count};
    struct http_request *request = fake_server_request(0, &call);
    struct command_job job = {0};

    check_content_type(http_request_header(request, "Content-Type"));
    const char *wanted = expected_problem(request);
    const bool taken = request_headers_read(request, &job);
    if (wanted == NULL) {
        EXPECT(taken && request->response.status == 0, "refused: %.*s",
               STR_ARG(request->response.body));
        check_taken(request, &job);
        check_again(&job);
        return 0;
    }
    char code[64];
    (void)snprintf(code, sizeof(code), "\"code\":\"%s\"", wanted);
    EXPECT(!taken, "taken in spite of %s", wanted);
    fake_server_check_problem(request);
    EXPECT(request->response.status == 400 &&
               memmem(request->response.body.ptr, request->response.body.len, code, strlen(code)) !=
                   NULL,
           "not %s: %.*s", wanted, STR_ARG(request->response.body));
    return 0;
}
