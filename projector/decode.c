#include "projector/decode.h"

#include <stdio.h>

static void refuse(struct decoded *out, const char *why) {
    size_t len = 0;

    /* It is stored and shown: bytes from outside may be anything. */
    while (len < PARKED_REASON_BYTES && why[len] != '\0') {
        out->text[len] = why[len] >= ' ' && why[len] <= '~' ? why[len] : '?';
        len++;
    }
    out->text[len] = '\0';
    out->defect = out->text;
}

void decode_record(const struct consumed_record *record, const struct aggregate *aggregate,
                   struct arena *scratch, struct decoded *out) {
    const struct recorded_event *event = &record->event;
    struct err err = {0};

    out->defect = NULL;
    out->ours =
        event->aggregate_type.len == 0 || str_eq(event->aggregate_type, str_from(aggregate->name));
    out->trusted = false;
    if (!out->ours) {
        return;
    }
    if (stream_id_check(event->stream_id, &err) != ERR_OK) {
        refuse(out, event->stream_id.len == 0 ? "no key" : err.message);
        return;
    }
    out->trusted = event->version > 0;
    if (record->defect != NULL) {
        refuse(out, record->defect);
        return;
    }
    arena_clear(scratch);
    out->event.recorded_at_us = event->recorded_at_us;
    if (event_decode(aggregate, event->event_type, event->schema_version, event->payload, scratch,
                     &out->event, &err) != ERR_OK) {
        refuse(out, err.message);
    }
}
