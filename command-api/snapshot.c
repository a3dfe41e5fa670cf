#include "command-api/snapshot.h"

#include <string.h>

#include "common/base/hash.h"
#include "common/base/json_doc.h"

int64_t snapshot_layout(const struct aggregate *aggregate) {
    return (int64_t)fields_fingerprint(aggregate->state_fields, aggregate->state_field_count);
}

/* Against what happens to rows by accident: it covers all that the state is built from. */
static int64_t checksum_of(const struct stream_snapshot *snapshot) {
    const int64_t numbers[] = {snapshot->version, snapshot->recorded_at_us, snapshot->layout};
    uint64_t hash = hash_fnv1a(HASH_FNV1A_START, snapshot->state);

    hash = hash_fnv1a(hash, str_of((const char *)numbers, sizeof(numbers)));
    hash = hash_fnv1a(
        hash, str_of((const char *)snapshot->event_id.bytes, sizeof(snapshot->event_id.bytes)));
    hash = hash_fnv1a(hash, snapshot->stream.aggregate_type);
    return (int64_t)hash_fnv1a(hash, snapshot->stream.stream_id);
}

void snapshot_write(const struct aggregate *aggregate, const char *stream_id,
                    const struct stream_state *state, struct buf *text,
                    struct stream_snapshot *out) {
    buf_clear(text);
    fields_to_json(aggregate->state_fields, aggregate->state_field_count, state->data.bytes, text);
    *out = (struct stream_snapshot){
        .stream = {str_from(aggregate->name), str_from(stream_id)},
        .version = state->version,
        .event_id = state->event_id,
        .recorded_at_us = state->recorded_at_us,
        .layout = snapshot_layout(aggregate),
        .state = buf_str(text),
    };
    out->checksum = checksum_of(out);
}

enum err_code snapshot_read(const struct aggregate *aggregate,
                            const struct stream_snapshot *snapshot, struct arena *arena,
                            struct stream_state *out, struct err *err) {
    struct field_problem problem = {0};
    struct json_doc doc;

    if (snapshot->checksum != checksum_of(snapshot)) {
        return err_set(err, ERR_CORRUPT, "the checksum differs");
    }
    memset(out, 0, sizeof(*out));
    aggregate->initial(out->data.bytes);
    arena_clear(arena);
    if (json_doc_parse(snapshot->state, arena, &doc, err) != ERR_OK) {
        return ERR_CORRUPT;
    }
    const enum err_code code =
        fields_from_json(aggregate->state_fields, aggregate->state_field_count, &doc, true,
                         out->data.bytes, &problem);
    json_doc_release(&doc);
    if (code != ERR_OK) {
        return err_set(err, ERR_CORRUPT, "%s: %s", problem.field, problem.detail);
    }
    out->version = snapshot->version;
    out->event_id = snapshot->event_id;
    out->recorded_at_us = snapshot->recorded_at_us;
    return ERR_OK;
}
