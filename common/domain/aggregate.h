/*
 * An aggregate is one file: its state, commands, events, how it decides and how it evolves; and one
 * line in registry.c. Everything here is pure: no I/O, no clock (a command carries its time), no
 * globals that change.
 */
#ifndef DAYBOOK_DOMAIN_AGGREGATE_H
#define DAYBOOK_DOMAIN_AGGREGATE_H

#include "common/domain/field.h"

enum {
    AGGREGATE_STATE_BYTES_MAX = 512,
    EVENT_DATA_BYTES_MAX = 512,
    COMMAND_DATA_BYTES_MAX = 512,
    DECISION_EVENTS_MAX = 4,
    STREAM_ID_BYTES_MAX = 128,
};

struct event_type {
    const char *name; /* past tense; stored, never changes */
    int32_t schema_version;
    const struct field *fields;
    size_t field_count;
};

struct event {
    const struct event_type *type;
    int64_t recorded_at_us;
    union {
        char bytes[EVENT_DATA_BYTES_MAX];
        int64_t align;
    } data;
};

enum rejection_kind {
    REJECTION_NONE = 0,
    REJECTION_NOT_FOUND, /* the stream does not exist */
    REJECTION_CONFLICT,  /* the state forbids it: exists already, closed, not enough money */
    REJECTION_INVALID, /* the command can't be right for this stream, whatever its state becomes */
};

struct rejection {
    enum rejection_kind kind;
    const char *code;  /* "insufficient_funds": stable, for programs */
    const char *title; /* for people */
    char detail[256];
};

struct command_type;

struct command {
    const struct command_type *type;
    char stream_id[STREAM_ID_BYTES_MAX + 1];
    int64_t time_us;
    union {
        char bytes[COMMAND_DATA_BYTES_MAX];
        int64_t align;
    } data;
};

struct decision {
    struct rejection rejection; /* kind NONE: accepted */
    size_t event_count;
    struct event events[DECISION_EVENTS_MAX];
};

/* `state` is the aggregate's struct as of now (initial when the stream has no events). `out` comes
 * zeroed. */
typedef void decide_fn(const void *state, const struct command *command, struct decision *out);

struct command_type {
    const char *name; /* imperative: "Deposit" */
    /* The route: POST /<collection> when NULL (the command opens the stream; its JSON may carry
     * "id"), else POST /<collection>/{id}/<action>. */
    const char *action;
    const struct field *fields;
    size_t field_count;
    decide_fn *decide;
};

struct aggregate {
    const char *name;       /* "account": stored, never changes */
    const char *collection; /* "accounts": first segment of its paths */
    size_t state_bytes;
    const struct field *state_fields; /* for snapshots */
    size_t state_field_count;
    const struct command_type *commands;
    size_t command_count;
    const struct event_type *events;
    size_t event_count;
    void (*initial)(void *state);
    /* ERR_CORRUPT when the event contradicts the state (the log would be wrong). */
    enum err_code (*evolve)(void *state, const struct event *event, struct err *err);
    /* Members for an answer, without braces: "balance":"350.00","currency":"USD","status":"open".
     */
    void (*describe)(const void *state, struct buf *out);
};

/* Appends an event to a decision; returns its data, zeroed, to be filled. */
void *decision_emit(struct decision *decision, const struct event_type *type,
                    int64_t recorded_at_us);
void decision_reject(struct decision *decision, enum rejection_kind kind, const char *code,
                     const char *title, const char *detail_format, ...) PRINTF_LIKE(5, 6);

/* Payload <-> event by the type's field table. Unknown members of a stored payload are ignored (a
 * later version may have added them); a missing required one or an unknown type is ERR_CORRUPT. */
MUST_CHECK enum err_code event_decode(const struct aggregate *aggregate, struct str type_name,
                                      int32_t schema_version, struct str payload,
                                      struct arena *arena, struct event *out, struct err *err);
void event_encode(const struct event *event, struct buf *out);

/* 1 … STREAM_ID_BYTES_MAX characters of A–Z a–z 0–9 - _ . ~ : @ (RFC 3986 unreserved plus two), not
 * starting with a dot. ERR_INVALID with a clear message otherwise. */
MUST_CHECK enum err_code stream_id_check(struct str id, struct err *err);

#endif
