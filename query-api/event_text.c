#include "query-api/event_text.h"

#include <stdio.h>

#include "common/domain/account.h"
#include "query-api/answer.h"

/* A payload is valid JSON as it was stored; line ends can only stand between its tokens. */
static void put_on_one_line(struct buf *out, struct str json) {
    while (json.len > 0) {
        size_t len = 0;
        while (len < json.len && json.ptr[len] != '\n' && json.ptr[len] != '\r') {
            len++;
        }
        buf_put(out, json.ptr, len);
        if (len < json.len) {
            buf_put_char(out, ' ');
            len++;
        }
        json = str_of(json.ptr + len, json.len - len);
    }
}

static void put_metadata(struct buf *out, const char *name, struct str value, bool *first) {
    if (value.len > 0) {
        buf_printf(out, "%s\"%s\":", *first ? "" : ",", name);
        buf_put_json_str(out, value);
        *first = false;
    }
}

void event_put_json(struct buf *out, const struct recorded_event *event) {
    char id[UUID_TEXT_BYTES];
    bool first = true;

    uuid_format(id, &event->event_id);
    buf_put_text(out, "{\"position\":");
    buf_put_i64(out, event->position);
    buf_printf(out, ",\"event_id\":\"%s\",\"type\":", id);
    buf_put_json_str(out, event->event_type);
    buf_put_text(out, ",\"aggregate_type\":");
    buf_put_json_str(out, event->aggregate_type);
    buf_put_text(out, ",\"stream_id\":");
    buf_put_json_str(out, event->stream_id);
    buf_put_text(out, ",\"version\":");
    buf_put_i64(out, event->version);
    buf_printf(out, ",\"schema_version\":%d,\"recorded_at\":", (int)event->schema_version);
    answer_put_time(out, event->recorded_at_us);
    buf_put_text(out, ",\"payload\":");
    put_on_one_line(out, event->payload);
    buf_put_text(out, ",\"metadata\":{");
    put_metadata(out, "correlation_id", event->correlation_id, &first);
    put_metadata(out, "causation_id", event->causation_id, &first);
    put_metadata(out, "actor", event->actor, &first);
    put_metadata(out, "traceparent", event->traceparent, &first);
    put_metadata(out, "command", event->command, &first);
    buf_put_text(out, "}}");
}

static void begin_frame(struct buf *out, int64_t id, struct str type) {
    buf_put_text(out, "id: ");
    buf_put_i64(out, id);
    buf_put_text(out, "\nevent: ");
    buf_put_str(out, type);
    buf_put_text(out, "\ndata: ");
}

void event_put_frame(struct buf *out, const struct recorded_event *event) {
    begin_frame(out, event->position, event->event_type);
    event_put_json(out, event);
    buf_put_text(out, "\n\n");
}

/* The same as the projection "statements" makes of it. */
static bool read_line(const struct recorded_event *recorded, struct arena *scratch,
                      struct statement_line *line) {
    struct event event = {0};
    struct err err = {0};
    const char *kind = "opened";
    const char *currency = NULL;

    if (event_decode(&account_aggregate, recorded->event_type, recorded->schema_version,
                     recorded->payload, scratch, &event, &err) != ERR_OK) {
        return false;
    }
    const void *data = event.data.bytes;
    *line = (struct statement_line){.version = recorded->version,
                                    .recorded_at_us = recorded->recorded_at_us,
                                    .event_id = recorded->event_id};
    switch ((enum account_event)(event.type - account_event_types)) {
    case ACCOUNT_CREATED:
        currency = ((const struct account_created *)data)->currency;
        break;
    case MONEY_DEPOSITED:
    case MONEY_WITHDRAWN: {
        const struct money_moved *moved = data;
        kind = event.type == &account_event_types[MONEY_DEPOSITED] ? "deposit" : "withdrawal";
        currency = moved->currency;
        line->amount_minor = moved->amount_minor;
        line->balance_minor = moved->balance_minor;
        break;
    }
    case ACCOUNT_CLOSED_EVENT:
        kind = "closed";
        currency = ((const struct account_closed *)data)->currency;
        break;
    case ACCOUNT_EVENTS:
        return false;
    }
    return str_copy(line->kind, sizeof(line->kind), str_from(kind)) &&
           str_copy(line->currency, sizeof(line->currency), str_from(currency));
}

bool event_put_entry_frame(struct buf *out, const struct recorded_event *event,
                           struct arena *scratch) {
    struct statement_line line;

    begin_frame(out, event->version, event->event_type);
    if (!read_line(event, scratch, &line) || !answer_put_line(out, &line)) {
        return false;
    }
    buf_put_text(out, "\n\n");
    return true;
}
