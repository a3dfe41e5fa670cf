#include "common/domain/aggregate.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/json_doc.h"

void *decision_emit(struct decision *decision, const struct event_type *type,
                    int64_t recorded_at_us) {
    assert(decision->event_count < DECISION_EVENTS_MAX);
    assert(decision->rejection.kind == REJECTION_NONE);
    struct event *event = &decision->events[decision->event_count++];

    event->type = type;
    event->recorded_at_us = recorded_at_us;
    memset(&event->data, 0, sizeof(event->data));
    return event->data.bytes;
}

void decision_reject(struct decision *decision, enum rejection_kind kind, const char *code,
                     const char *title, const char *detail_format, ...) {
    va_list args;

    assert(decision->event_count == 0 && kind != REJECTION_NONE);
    decision->rejection.kind = kind;
    decision->rejection.code = code;
    decision->rejection.title = title;
    va_start(args, detail_format);
    (void)vsnprintf(decision->rejection.detail, sizeof(decision->rejection.detail), detail_format,
                    args);
    va_end(args);
}

static const struct event_type *find_event_type(const struct aggregate *aggregate,
                                                struct str name) {
    for (size_t i = 0; i < aggregate->event_count; i++) {
        if (str_eq(name, str_from(aggregate->events[i].name))) {
            return &aggregate->events[i];
        }
    }
    return NULL;
}

enum err_code event_decode(const struct aggregate *aggregate, struct str type_name,
                           int32_t schema_version, struct str payload, struct arena *arena,
                           struct event *out, struct err *err) {
    const struct event_type *type = find_event_type(aggregate, type_name);
    struct field_problem problem = {0};
    struct json_doc doc;

    if (type == NULL) {
        return err_set(err, ERR_CORRUPT, "%s has no event type \"%.*s\"", aggregate->name,
                       STR_ARG(type_name));
    }
    if (schema_version != type->schema_version) {
        return err_set(err, ERR_CORRUPT, "%s: schema version %d, this program knows %d", type->name,
                       (int)schema_version, (int)type->schema_version);
    }
    memset(&out->data, 0, sizeof(out->data));
    out->type = type;
    if (fields_from_plain_json(type->fields, type->field_count, payload, out->data.bytes)) {
        return ERR_OK;
    }
    enum err_code code = json_doc_parse(payload, arena, &doc, err);
    if (code != ERR_OK) {
        (void)err_prefix(err, "%s: payload", type->name);
        return ERR_CORRUPT;
    }
    memset(&out->data, 0, sizeof(out->data));
    code =
        fields_from_json(type->fields, type->field_count, &doc, false, out->data.bytes, &problem);
    json_doc_release(&doc);
    if (code != ERR_OK) {
        return err_set(err, ERR_CORRUPT, "%s: %s", type->name, problem.detail);
    }
    return ERR_OK;
}

void event_encode(const struct event *event, struct buf *out) {
    fields_to_json(event->type->fields, event->type->field_count, event->data.bytes, out);
}

static bool is_id_character(char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-_.~:@", c) != NULL);
}

enum err_code stream_id_check(struct str id, struct err *err) {
    if (id.len == 0) {
        return err_set(err, ERR_INVALID, "the id is empty");
    }
    if (id.len > STREAM_ID_BYTES_MAX) {
        return err_set(err, ERR_INVALID, "the id may have at most %d characters, has %zu",
                       STREAM_ID_BYTES_MAX, id.len);
    }
    if (id.ptr[0] == '.') {
        return err_set(err, ERR_INVALID, "the id may not start with a dot");
    }
    for (size_t i = 0; i < id.len; i++) {
        if (!is_id_character(id.ptr[i])) {
            return err_set(err, ERR_INVALID,
                           "the id may have letters, digits and - _ . ~ : @ only; character %zu "
                           "is another",
                           i + 1);
        }
    }
    return ERR_OK;
}
