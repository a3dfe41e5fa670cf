#include "common/adapters/event_row.h"

enum field_index {
    F_POSITION,
    F_EVENT_ID,
    F_AGGREGATE_TYPE,
    F_STREAM_ID,
    F_VERSION,
    F_EVENT_TYPE,
    F_SCHEMA_VERSION,
    F_PAYLOAD,
    F_CORRELATION_ID,
    F_CAUSATION_ID,
    F_ACTOR,
    F_TRACEPARENT,
    F_COMMAND,
    F_RECORDED_AT,
};

const char *const event_row_names[EVENT_ROW_FIELDS] = {
    [F_POSITION] = "position",
    [F_EVENT_ID] = "event_id",
    [F_AGGREGATE_TYPE] = "aggregate_type",
    [F_STREAM_ID] = "stream_id",
    [F_VERSION] = "version",
    [F_EVENT_TYPE] = "event_type",
    [F_SCHEMA_VERSION] = "schema_version",
    [F_PAYLOAD] = "payload",
    [F_CORRELATION_ID] = "correlation_id",
    [F_CAUSATION_ID] = "causation_id",
    [F_ACTOR] = "actor",
    [F_TRACEPARENT] = "traceparent",
    [F_COMMAND] = "command",
    [F_RECORDED_AT] = "recorded_at",
};

static bool is_required(int field) {
    return field <= F_PAYLOAD || field == F_RECORDED_AT;
}

enum err_code event_row_layout(const struct pgoutput_message *relation,
                               struct event_row_layout *out, struct err *err) {
    for (int i = 0; i < EVENT_ROW_FIELDS; i++) {
        out->column_of[i] = -1;
        for (size_t j = 0; j < relation->column_count; j++) {
            if (str_eq(relation->columns[j], str_from(event_row_names[i]))) {
                out->column_of[i] = (int)j;
            }
        }
        if (out->column_of[i] < 0 && is_required(i)) {
            return err_set(err, ERR_CORRUPT, "the events table has no column %s",
                           event_row_names[i]);
        }
    }
    return ERR_OK;
}

enum err_code event_row_of_insert(const struct event_row_layout *layout,
                                  const struct pgoutput_message *insert, struct recorded_event *out,
                                  struct err *err) {
    struct str fields[EVENT_ROW_FIELDS] = {{0}};

    for (int i = 0; i < EVENT_ROW_FIELDS; i++) {
        const int column = layout->column_of[i];
        if (column < 0) {
            continue;
        }
        if ((size_t)column >= insert->column_count || insert->values[column].is_unchanged) {
            return err_set(err, ERR_CORRUPT, "an inserted event lacks its column %s",
                           event_row_names[i]);
        }
        fields[i] = insert->values[column].text;
    }
    return event_row_decode(fields, out, err);
}

static bool set_numbers(const struct str *fields, struct recorded_event *event, int *wrong) {
    int64_t schema_version = 0;

    if (!str_to_i64(fields[F_POSITION], &event->position)) {
        *wrong = F_POSITION;
    } else if (!str_to_i64(fields[F_VERSION], &event->version) || event->version < 1) {
        *wrong = F_VERSION;
    } else if (!str_to_i64(fields[F_SCHEMA_VERSION], &schema_version) || schema_version < 1 ||
               schema_version > INT32_MAX) {
        *wrong = F_SCHEMA_VERSION;
    } else if (!uuid_parse(fields[F_EVENT_ID], &event->event_id)) {
        *wrong = F_EVENT_ID;
    } else if (!pgoutput_parse_time(fields[F_RECORDED_AT], &event->recorded_at_us)) {
        *wrong = F_RECORDED_AT;
    } else {
        event->schema_version = (int32_t)schema_version;
        return true;
    }
    return false;
}

enum err_code event_row_decode(const struct str fields[EVENT_ROW_FIELDS],
                               struct recorded_event *out, struct err *err) {
    int wrong = 0;

    *out = (struct recorded_event){
        .aggregate_type = fields[F_AGGREGATE_TYPE],
        .stream_id = fields[F_STREAM_ID],
        .event_type = fields[F_EVENT_TYPE],
        .payload = fields[F_PAYLOAD],
        .correlation_id = fields[F_CORRELATION_ID],
        .causation_id = fields[F_CAUSATION_ID],
        .actor = fields[F_ACTOR],
        .traceparent = fields[F_TRACEPARENT],
        .command = fields[F_COMMAND],
    };
    for (int i = 0; i < EVENT_ROW_FIELDS; i++) {
        if (is_required(i) && fields[i].len == 0) {
            return err_set(err, ERR_CORRUPT, "an event row has no %s", event_row_names[i]);
        }
    }
    if (!set_numbers(fields, out, &wrong)) {
        return err_set(err, ERR_CORRUPT, "an event row's %s can't be read: \"%.*s\"",
                       event_row_names[wrong], fields[wrong].len > 40 ? 40 : (int)fields[wrong].len,
                       fields[wrong].ptr);
    }
    return ERR_OK;
}
