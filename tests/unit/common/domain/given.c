#include "given.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/domain/currency.h"

static struct {
    const struct aggregate *aggregate;
    union {
        char bytes[AGGREGATE_STATE_BYTES_MAX];
        int64_t align;
    } state;
    struct decision decision;
    int64_t now_us;
} story;

void given(const struct aggregate *aggregate) {
    memset(&story, 0, sizeof(story));
    story.aggregate = aggregate;
    story.now_us = INT64_C(1700000000000000);
    aggregate->initial(story.state.bytes);
}

/* What every accepted event must stand: it survives its codec unchanged, and the state takes it. */
static void check_event(const struct event *event) {
    struct arena arena;
    struct buf payload;
    struct event again = {.recorded_at_us = event->recorded_at_us};
    struct err err = {0};

    arena_init(&arena, 1024, 65536);
    buf_init(&payload, 4096);
    event_encode(event, &payload);
    cr_assert_eq(event_decode(story.aggregate, str_from(event->type->name),
                              event->type->schema_version, buf_str(&payload), &arena, &again, &err),
                 ERR_OK, "%s", err.message);
    cr_assert_eq(memcmp(&again.data, &event->data, sizeof(again.data)), 0,
                 "%s changed on its way through JSON", event->type->name);
    cr_assert_eq(story.aggregate->evolve(story.state.bytes, event, &err), ERR_OK, "%s",
                 err.message);
    buf_release(&payload);
    arena_release(&arena);
}

void when(struct command command) {
    union {
        char bytes[AGGREGATE_STATE_BYTES_MAX];
        int64_t align;
    } before = {.align = 0};

    memcpy(before.bytes, story.state.bytes, sizeof(before.bytes));
    memset(&story.decision, 0, sizeof(story.decision));
    command.time_us = ++story.now_us;
    command.type->decide(story.state.bytes, &command, &story.decision);
    cr_assert_eq(memcmp(before.bytes, story.state.bytes, sizeof(before.bytes)), 0,
                 "a decision changed the state");
    if (story.decision.rejection.kind != REJECTION_NONE) {
        cr_assert_eq(story.decision.event_count, 0, "rejected, yet with events");
        return;
    }
    for (size_t i = 0; i < story.decision.event_count; i++) {
        cr_assert_eq(story.decision.events[i].recorded_at_us, story.now_us);
        check_event(&story.decision.events[i]);
    }
}

void past(struct command command) {
    when(command);
    cr_assert_eq(story.decision.rejection.kind, REJECTION_NONE, "the story's past was refused: %s",
                 story.decision.rejection.detail);
}

void then_accepted(const char *event_name) {
    cr_assert_eq(story.decision.rejection.kind, REJECTION_NONE, "rejected: %s",
                 story.decision.rejection.code);
    cr_assert_eq(story.decision.event_count, 1);
    cr_assert_str_eq(story.decision.events[0].type->name, event_name);
}

void then_rejected(const char *code) {
    cr_assert_neq(story.decision.rejection.kind, REJECTION_NONE, "accepted, expected %s", code);
    cr_assert_str_eq(story.decision.rejection.code, code);
    cr_assert_neq(story.decision.rejection.detail[0], '\0', "no detail");
}

void then_rejected_as(enum rejection_kind kind) {
    cr_assert_eq(story.decision.rejection.kind, kind, "%s", story.decision.rejection.code);
}

void then_described(const char *name, const char *value) {
    struct buf text;
    char wanted[128];

    buf_init(&text, 4096);
    story.aggregate->describe(story.state.bytes, &text);
    (void)snprintf(wanted, sizeof(wanted), "\"%s\":\"%s\"", name, value);
    cr_assert_not_null(strstr(text.ptr, wanted), "%s is not in %s", wanted, text.ptr);
    buf_release(&text);
}

void then_balance(const char *balance) {
    then_described("balance", balance);
}

void then_status(const char *status) {
    then_described("status", status);
}

const void *story_state(void) {
    return story.state.bytes;
}

const struct decision *story_decision(void) {
    return &story.decision;
}

/* --- commands of the account --- */

static struct command make(enum account_command which) {
    struct command command = {.type = &account_aggregate.commands[which]};

    cr_assert(str_copy(command.stream_id, sizeof(command.stream_id), STR("a-1")));
    return command;
}

struct command opened_by(const char *currency, const char *owner) {
    struct command command = make(ACCOUNT_OPEN_COMMAND);
    struct open_account *open = (void *)command.data.bytes;

    cr_assert(str_copy(open->currency, sizeof(open->currency), str_from(currency)));
    cr_assert(str_copy(open->owner, sizeof(open->owner), str_from(owner)));
    return command;
}

struct command opened(const char *currency) {
    return opened_by(currency, "");
}

static struct command move(enum account_command which, const char *amount) {
    struct command command = make(which);
    struct move_money *data = (void *)command.data.bytes;

    cr_assert_eq(decimal_parse(str_from(amount), &data->amount, NULL), ERR_OK);
    return command;
}

struct command deposit(const char *amount) {
    return move(ACCOUNT_DEPOSIT, amount);
}

struct command withdraw(const char *amount) {
    return move(ACCOUNT_WITHDRAW, amount);
}

struct command close_account(void) {
    return make(ACCOUNT_CLOSE);
}
