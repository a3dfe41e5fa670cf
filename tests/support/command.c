#include "command.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "environment.h"
#include "http_client.h"

enum { HEADER_BYTES = 320 };

struct headers {
    char lines[HTTP_CLIENT_HEADERS_MAX][HEADER_BYTES];
    size_t count;
};

static void add(struct headers *headers, const char *name, const char *value) {
    if (value != NULL && headers->count < HTTP_CLIENT_HEADERS_MAX) {
        (void)snprintf(headers->lines[headers->count++], HEADER_BYTES, "%s%s", name, value);
    }
}

/* "12.05": 1205. */
static long long minor_of(const char *text) {
    char *end = NULL;

    if (text[0] == '\0') {
        return -1;
    }
    const long long whole = strtoll(text, &end, 10);
    return whole * 100 + (*end == '.' ? strtoll(end + 1, NULL, 10) : 0);
}

static struct reply reply_of(const struct http_answer *answer) {
    const char *etag = http_answer_header(answer, "ETag");
    struct reply reply = {
        .status = answer->status,
        .version = http_answer_number(answer, "version"),
        .etag = etag[0] == '"' ? strtoll(etag + 1, NULL, 10) : 0,
        .balance_minor = minor_of(http_answer_text(answer, "balance")),
        .seconds = answer->seconds,
    };

    reply.replayed = strcmp(http_answer_header(answer, "Idempotency-Replayed"), "true") == 0;
    reply.retry_after = http_answer_header(answer, "Retry-After")[0] != '\0';
    (void)snprintf(reply.code, sizeof(reply.code), "%s", http_answer_text(answer, "code"));
    (void)snprintf(reply.body, sizeof(reply.body), "%s", answer->body);
    return reply;
}

struct reply command_send(const struct command *command) {
    struct headers headers = {0};
    struct http_call call = {.method = "POST",
                             .timeout_ms = command->timeout_ms,
                             .own_connection = command->own_connection};
    char url[320];
    char body[256] = "{}";

    if (command->action == NULL) {
        (void)snprintf(url, sizeof(url), "%s/accounts", command->base);
        (void)snprintf(body, sizeof(body), "{\"id\":\"%s\"}", command->stream);
    } else {
        (void)snprintf(url, sizeof(url), "%s/accounts/%s/%s", command->base, command->stream,
                       command->action);
        if (strcmp(command->action, "close") != 0) {
            (void)snprintf(body, sizeof(body), "{\"amount\":\"%lld.%02lld\"}",
                           command->amount_minor / 100, command->amount_minor % 100);
        }
    }
    add(&headers, "Content-Type: ", "application/json");
    add(&headers, "Idempotency-Key: ", command->key);
    add(&headers, "X-Correlation-ID: ", command->correlation_id);
    add(&headers, "X-Causation-ID: ", command->causation_id);
    add(&headers, "X-Actor: ", command->actor);
    add(&headers, "traceparent: ", command->traceparent);
    add(&headers, "", command->condition);
    for (size_t i = 0; i < headers.count; i++) {
        call.headers[i] = headers.lines[i];
    }
    call.url = url;
    call.body = body;
    struct http_answer answer = http_call(&call);
    const struct reply reply = reply_of(&answer);
    http_answer_release(&answer);
    return reply;
}

struct reply command_expect(const struct command *command, int status) {
    const struct reply reply = command_send(command);

    cr_assert_eq(reply.status, status, "%s %s: %d %s", command->stream,
                 command->action != NULL ? command->action : "open", reply.status, reply.body);
    return reply;
}

const char *command_open(const char *base, const char *prefix) {
    const char *id = fresh_id(prefix);
    const double deadline = now_seconds() + 30;
    struct reply reply = {0};

    do {
        reply = command_send(&(struct command){.base = base, .stream = id, .key = id});
        cr_assert(reply.status == 201 || reply.status == 503, "%d %s", reply.status, reply.body);
    } while (reply.status != 201 && now_seconds() < deadline);
    cr_assert_eq(reply.status, 201, "%s", reply.body);
    return id;
}
