/*
 * Bodies of commands through the API's own handler. The first byte picks the command, the rest is
 * the body. What must hold:
 *  1. A body is either refused with a readable problem or becomes a command; never both.
 *  2. JSON is what jansson by itself calls JSON (numbers beyond its range excepted).
 *  3. The same body makes the same command with the same fingerprint, whatever was on the stack.
 *  4. A command written as JSON and read again is the same command with the same fingerprint.
 *  5. Its stream id is acceptable; its decision against any state is sound: the state stays as it
 *     is, events survive their codec, and the state takes them.
 */
#include <jansson.h>
#include <string.h>

#include "command-api/request_headers.h"
#include "common/base/json_doc.h"
#include "common/domain/registry.h"
#include "tests/fuzz/expect.h"
#include "tests/fuzz/fake_server.h"

enum { BODY_BYTES_MAX = 65536 };

union state {
    char bytes[AGGREGATE_STATE_BYTES_MAX];
    int64_t align;
};

static const struct fake_header headers[] = {
    {{"Content-Type", 12}, {"application/json", 16}},
    {{"Idempotency-Key", 15}, {"key", 3}}, /* so that an id made by the API is the same again */
};

/* Fills what the next call will find as its uninitialised locals. */
static __attribute__((noinline)) void dirty_the_stack(int fill) {
    volatile char garbage[16384];

    for (size_t i = 0; i < sizeof(garbage); i++) {
        garbage[i] = (char)fill;
    }
}

static __attribute__((noinline)) struct fake_result post(int slot, const struct fake_call *call) {
    dirty_the_stack(slot == 0 ? 0xaa : 0x55);
    return fake_server_post(slot, call);
}

static void check_json(struct str body) {
    struct arena arena;
    struct json_doc doc;
    json_error_t why;

    arena_init(&arena, 4096, 1 << 20);
    json_t *theirs = json_loadb(body.ptr, body.len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    const bool out_of_range =
        theirs == NULL && json_error_code(&why) == json_error_numeric_overflow;
    const enum err_code code = json_doc_parse(body, &arena, &doc, NULL);
    if (code == ERR_OK) {
        EXPECT(theirs != NULL || out_of_range, "accepted, but not JSON: %s", why.text);
        json_doc_release(&doc);
    } else {
        EXPECT(theirs == NULL || code == ERR_LIMIT, "refused, but JSON");
    }
    json_decref(theirs);
    arena_release(&arena);
}

static void check_same(const struct command_job *a, const struct command_job *b) {
    EXPECT(a->command.type == b->command.type, "another command");
    EXPECT(strcmp(a->command.stream_id, b->command.stream_id) == 0, "another stream: %s, %s",
           a->command.stream_id, b->command.stream_id);
    EXPECT(memcmp(a->command.data.bytes, b->command.data.bytes, sizeof(a->command.data.bytes)) == 0,
           "%s: other data", a->command.type->name);
    EXPECT(a->request_hash == b->request_hash, "another fingerprint");
}

/* The body that would ask for just this command. */
static void write_body(const struct command_job *job, struct buf *out) {
    const struct command_type *type = job->command.type;

    fields_to_json(type->fields, type->field_count, job->command.data.bytes, out);
    if (type->action == NULL) {
        out->len--; /* the closing brace */
        buf_put_text(out, out->len > 1 ? ",\"id\":" : "\"id\":");
        buf_put_json_str(out, str_from(job->command.stream_id));
        buf_put_char(out, '}');
    }
    EXPECT(!buf_failed(out), "a command's JSON is larger than a body");
}

static void check_events(const struct aggregate *aggregate, const struct decision *decision,
                         union state *state) {
    for (size_t i = 0; i < decision->event_count; i++) {
        const struct event *event = &decision->events[i];
        struct event again = {.recorded_at_us = event->recorded_at_us};
        struct arena arena;
        struct buf payload;
        struct err err = {0};

        arena_init(&arena, 4096, 1 << 20);
        buf_init(&payload, BODY_BYTES_MAX);
        event_encode(event, &payload);
        EXPECT(event_decode(aggregate, str_from(event->type->name), event->type->schema_version,
                            buf_str(&payload), &arena, &again, &err) == ERR_OK,
               "%s", err.message);
        EXPECT(memcmp(again.data.bytes, event->data.bytes, sizeof(again.data.bytes)) == 0,
               "%s changed on its way through JSON", event->type->name);
        EXPECT(aggregate->evolve(state->bytes, event, &err) == ERR_OK, "%s", err.message);
        buf_release(&payload);
        arena_release(&arena);
    }
}

static bool same_decision(const struct decision *a, const struct decision *b) {
    bool same = a->rejection.kind == b->rejection.kind &&
                strcmp(a->rejection.detail, b->rejection.detail) == 0 &&
                str_eq(str_from(a->rejection.code), str_from(b->rejection.code)) &&
                a->event_count == b->event_count;

    for (size_t i = 0; same && i < a->event_count; i++) {
        const struct event *x = &a->events[i];
        const struct event *y = &b->events[i];
        same = x->type == y->type && x->recorded_at_us == y->recorded_at_us &&
               memcmp(x->data.bytes, y->data.bytes, sizeof(x->data.bytes)) == 0;
    }
    return same;
}

static void check_decision(const struct aggregate *aggregate, const struct command *command,
                           union state *state) {
    const union state before = *state;
    static struct decision decision;
    static struct decision again;

    memset(&decision, 0, sizeof(decision));
    memset(&again, 0, sizeof(again));
    command->type->decide(state->bytes, command, &decision);
    command->type->decide(state->bytes, command, &again);
    EXPECT(memcmp(before.bytes, state->bytes, sizeof(before.bytes)) == 0,
           "a decision changed the state");
    EXPECT(same_decision(&decision, &again), "decided otherwise the second time");
    if (decision.rejection.kind != REJECTION_NONE) {
        EXPECT(decision.event_count == 0, "rejected, yet with events");
        EXPECT(str_is_utf8(str_from(decision.rejection.detail)), "a detail that isn't UTF-8");
        return;
    }
    EXPECT(decision.event_count > 0, "accepted, yet nothing happened");
    check_events(aggregate, &decision, state);
    struct buf text;
    buf_init(&text, BODY_BYTES_MAX);
    buf_put_char(&text, '{');
    aggregate->describe(state->bytes, &text);
    buf_put_char(&text, '}');
    json_t *described = json_loadb(text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
    EXPECT(described != NULL, "not JSON: %s", text.ptr);
    json_decref(described);
    buf_release(&text);
}

static void check_decisions(const struct command_job *job) {
    /* Histories that commands meet: nothing, and whatever an empty body's opening leads to. */
    union state state = {{0}};
    const struct aggregate *aggregate = job->aggregate;

    aggregate->initial(state.bytes);
    check_decision(aggregate, &job->command, &state);
    aggregate->initial(state.bytes);
    struct command open = {.type = &aggregate->commands[0], .time_us = 1};
    memcpy(open.stream_id, job->command.stream_id, sizeof(open.stream_id));
    check_decision(aggregate, &open, &state);
    check_decision(aggregate, &job->command, &state);
    check_decision(aggregate, &job->command, &state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const struct http_route *routes[FAKE_ROUTES_MAX];
    const size_t count = fake_server_commands(routes);
    char path[256];

    if (size == 0 || size > BODY_BYTES_MAX) {
        return 0;
    }
    const struct http_route *route = routes[data[0] % count];
    const struct command_type *type = fake_server_command_type(route);
    EXPECT(type != NULL, "%s is no command's route", route->path);
    const char *brace = strchr(route->path, '{');
    (void)snprintf(path, sizeof(path), "%.*s%s%s",
                   (int)(brace != NULL ? brace - route->path : (ptrdiff_t)strlen(route->path)),
                   route->path, brace != NULL ? "a-1" : "", brace != NULL ? brace + 4 : "");
    const struct str body = str_of((const char *)data + 1, size - 1);
    const struct fake_call call = {headers, ARRAY_LEN(headers), str_from(path), body};

    check_json(body);
    const struct fake_result first = post(0, &call);
    const struct fake_result second = post(1, &call);
    EXPECT(first.outcome != FAKE_NO_ROUTE, "%s has no route", path);
    EXPECT(first.outcome == second.outcome, "read otherwise the second time");
    if (first.outcome == FAKE_ANSWERED) {
        return 0;
    }
    check_same(first.job, second.job);
    EXPECT(first.job->command.type == type, "another command");
    EXPECT(stream_id_check(str_from(first.job->command.stream_id), NULL) == ERR_OK, "its id");

    struct buf text;
    buf_init(&text, BODY_BYTES_MAX);
    write_body(first.job, &text);
    const struct fake_call rewritten = {headers, ARRAY_LEN(headers), str_from(path),
                                        buf_str(&text)};
    const struct fake_result third = post(1, &rewritten);
    EXPECT(third.outcome == FAKE_SUBMITTED, "refused when written again: %s", text.ptr);
    check_same(first.job, third.job);
    buf_release(&text);
    check_decisions(first.job);
    return 0;
}
