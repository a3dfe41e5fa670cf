#include "command-api/relay/verify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/mem.h"

enum { SLOTS_FIRST = 1 << 16, PAUSE_MS = 100 };
#define PROGRESS_INTERVAL_US INT64_C(1000000)
#define PROGRESS_EVENTS 4096

/* `state`: 0: free; else 1 (not seen) or 2 + the incarnation in which it was seen last. */
struct entry {
    struct uuid id;
    uint64_t content; /* hash of everything that both stores carry */
    uint64_t state;
};

/* `version`: of the last one seen; 0: free. */
struct stream_entry {
    uint64_t stream;
    int64_t version;
};

struct verify {
    struct verify_options options;
    struct verify_result *result;
    struct entry *entries;
    uint64_t entry_slots;
    struct stream_entry *streams;
    uint64_t stream_slots;
    uint64_t seen;
    int64_t told_at_us;
};

/* --- what is said --- */

static void differ(struct verify *v, const struct scanned_event *at, const char *format, ...)
    PRINTF_LIKE(3, 4);
static void differ(struct verify *v, const struct scanned_event *at, const char *format, ...) {
    char id[UUID_TEXT_BYTES];
    va_list args;

    if (v->result->differences++ >= v->options.differences_shown) {
        return;
    }
    uuid_format(id, &at->event.event_id);
    (void)fprintf(v->options.out, "%.*s version %" PRId64 " (event %s, position %" PRId64,
                  STR_ARG(at->event.stream_id), at->event.version, id, at->event.position);
    if (at->partition >= 0) {
        (void)fprintf(v->options.out, ", partition %" PRId32 " offset %" PRId64, at->partition,
                      at->offset);
    }
    (void)fputs("): ", v->options.out);
    va_start(args, format);
    (void)vfprintf(v->options.out, format, args);
    va_end(args);
    (void)fputc('\n', v->options.out);
}

static void tell_progress(struct verify *v, const char *what, uint64_t count, uint64_t expected) {
    const int64_t now_us = clock_monotonic_us();

    if (v->options.progress != NULL && now_us - v->told_at_us > PROGRESS_INTERVAL_US) {
        v->told_at_us = now_us;
        (void)fprintf(v->options.progress, "verify: %s: %" PRIu64 " of about %" PRIu64 "\n", what,
                      count, expected > count ? expected : count);
    }
}

/* --- tables --- */

static uint64_t hash_of(const void *bytes, size_t len) {
    /* FNV's low bits alone are poor for ascending ids. */
    uint64_t hash = hash_fnv1a(HASH_FNV1A_START, str_of(bytes, len));

    hash ^= hash >> 32;
    return hash * UINT64_C(0x9e3779b97f4a7c15) >> 7;
}

/* A record's traceparent names the span of its publishing, the table's that of its command: they
 * agree in the trace. */
static struct str trace_of(struct str traceparent) {
    enum { VERSION_AND_TRACE_ID = 35 };

    return str_of(traceparent.ptr,
                  traceparent.len < VERSION_AND_TRACE_ID ? traceparent.len : VERSION_AND_TRACE_ID);
}

static uint64_t content_of(const struct scanned_event *scanned) {
    const struct recorded_event *e = &scanned->event;
    const struct str texts[] = {e->aggregate_type, e->stream_id,    e->event_type,
                                e->correlation_id, e->causation_id, trace_of(e->traceparent),
                                e->actor,          e->command,      e->payload};
    const int64_t numbers[] = {e->version, e->position, e->schema_version, e->recorded_at_us};
    uint64_t hash =
        hash_fnv1a(HASH_FNV1A_START, str_of((const char *)(const void *)numbers, sizeof(numbers)));

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        const uint64_t len = texts[i].len;
        hash = hash_fnv1a(hash, str_of((const char *)(const void *)&len, sizeof(len)));
        hash = hash_fnv1a(hash, texts[i]);
    }
    return hash;
}

static struct entry *entry_of(const struct verify *v, const struct uuid *id) {
    uint64_t slot = hash_of(id->bytes, sizeof(id->bytes)) & (v->entry_slots - 1);

    while (v->entries[slot].state != 0 &&
           memcmp(&v->entries[slot].id, id, sizeof(struct uuid)) != 0) {
        slot = (slot + 1) & (v->entry_slots - 1);
    }
    return &v->entries[slot];
}

static void grow_entries(struct verify *v) {
    struct entry *old = v->entries;
    const uint64_t old_slots = v->entry_slots;

    v->entry_slots = old_slots * 2;
    v->entries = mem_array(v->entry_slots, sizeof(v->entries[0]));
    for (uint64_t i = 0; i < old_slots; i++) {
        if (old[i].state != 0) {
            *entry_of(v, &old[i].id) = old[i];
        }
    }
    mem_free(old);
}

static struct stream_entry *stream_of(const struct verify *v, uint64_t stream) {
    uint64_t slot = stream & (v->stream_slots - 1);

    while (v->streams[slot].version != 0 && v->streams[slot].stream != stream) {
        slot = (slot + 1) & (v->stream_slots - 1);
    }
    return &v->streams[slot];
}

static void grow_streams(struct verify *v) {
    struct stream_entry *old = v->streams;
    const uint64_t old_slots = v->stream_slots;

    v->stream_slots = old_slots * 2;
    v->streams = mem_array(v->stream_slots, sizeof(v->streams[0]));
    for (uint64_t i = 0; i < old_slots; i++) {
        if (old[i].version != 0) {
            *stream_of(v, old[i].stream) = old[i];
        }
    }
    mem_free(old);
}

/* --- the table --- */

static enum err_code read_table(struct verify *v, struct err *err) {
    struct event_scan *table = v->options.table;
    struct scanned_event scanned;
    bool found = true;

    for (;;) {
        const enum err_code code = table->ops->next(table, &scanned, &found, err);
        if (code != ERR_OK || !found) {
            return code;
        }
        if (v->result->table_events * 2 >= v->entry_slots) {
            grow_entries(v);
        }
        *entry_of(v, &scanned.event.event_id) =
            (struct entry){scanned.event.event_id, content_of(&scanned), 1};
        if (v->result->table_events++ % PROGRESS_EVENTS == 0) {
            tell_progress(v, "table", v->result->table_events, table->ops->expected(table));
        }
    }
}

/* --- the topic --- */

static void check_order(struct verify *v, const struct scanned_event *scanned) {
    const uint64_t stream =
        hash_of(scanned->event.stream_id.ptr, scanned->event.stream_id.len) ^
        hash_of(scanned->event.aggregate_type.ptr, scanned->event.aggregate_type.len);

    if (v->result->streams * 2 >= v->stream_slots) {
        grow_streams(v);
    }
    struct stream_entry *entry = stream_of(v, stream);
    v->result->streams += entry->version == 0 ? 1 : 0;
    if (scanned->event.version <= entry->version) {
        differ(v, scanned, "comes behind version %" PRId64, entry->version);
        return;
    }
    *entry = (struct stream_entry){stream, scanned->event.version};
}

static void check_content(struct verify *v, const struct scanned_event *scanned,
                          uint64_t expected) {
    const int32_t partition = hash_kafka_partition(scanned->event.stream_id, v->options.partitions);

    if (scanned->partition != partition) {
        differ(v, scanned, "belongs into partition %" PRId32, partition);
    } else if (scanned->without_payload) {
        differ(v, scanned, "was published without its payload");
    } else if (content_of(scanned) != expected) {
        differ(v, scanned, "is not what the table has");
    }
}

/* An event that the table did not have when it was read. */
static enum err_code check_newer(struct verify *v, const struct scanned_event *scanned,
                                 struct err *err) {
    struct event_scan *table = v->options.table;
    struct scanned_event stored;
    bool found = false;
    const enum err_code code =
        table->ops->find(table, &scanned->event.event_id, &stored, &found, err);

    if (code != ERR_OK) {
        return code;
    }
    if (!found) {
        differ(v, scanned, "is not in the table");
        return ERR_OK;
    }
    check_content(v, scanned, content_of(&stored));
    if ((v->result->table_events + 1) * 2 >= v->entry_slots) {
        grow_entries(v);
    }
    v->result->table_events++;
    v->seen++;
    *entry_of(v, &scanned->event.event_id) =
        (struct entry){scanned->event.event_id, content_of(&stored), 2 + scanned->incarnation};
    check_order(v, scanned);
    return ERR_OK;
}

static enum err_code check_record(struct verify *v, const struct scanned_event *scanned,
                                  struct err *err) {
    v->result->topic_records++;
    if (scanned->defect != NULL) {
        differ(v, scanned, "is no event: %s", scanned->defect);
        return ERR_OK;
    }
    struct entry *entry = entry_of(v, &scanned->event.event_id);
    if (entry->state == 0) {
        return check_newer(v, scanned, err);
    }
    check_content(v, scanned, entry->content);
    if (entry->state == 1) {
        v->seen++;
        check_order(v, scanned);
    } else if (scanned->incarnation + 2 > entry->state) {
        v->result->repeats++;
    } else {
        differ(v, scanned, "is there twice");
    }
    entry->state = 2 + scanned->incarnation;
    return ERR_OK;
}

static enum err_code read_topic(struct verify *v, struct err *err) {
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    struct event_scan *topic = v->options.topic;
    struct scanned_event scanned;
    int64_t last_us = clock_monotonic_us();

    for (;;) {
        bool found = false;
        enum err_code code = topic->ops->next(topic, &scanned, &found, err);
        if (code == ERR_OK && found) {
            last_us = clock_monotonic_us();
            code = check_record(v, &scanned, err);
            if (v->result->topic_records % PROGRESS_EVENTS == 0) {
                tell_progress(v, "topic", v->result->topic_records, topic->ops->expected(topic));
            }
        } else if (code == ERR_OK) {
            const int64_t silent_us = clock_monotonic_us() - last_us;
            if (v->seen == v->result->table_events || silent_us > v->options.settle_ms * 1000) {
                return ERR_OK;
            }
            (void)nanosleep(&pause, NULL);
        }
        if (code != ERR_OK) {
            return code;
        }
    }
}

static enum err_code name_missing(struct verify *v, struct err *err) {
    struct event_scan *table = v->options.table;
    struct scanned_event stored;
    bool found = false;

    for (uint64_t i = 0; i < v->entry_slots && v->seen < v->result->table_events; i++) {
        if (v->entries[i].state != 1) {
            continue;
        }
        v->seen++;
        stored = (struct scanned_event){.event.event_id = v->entries[i].id, .partition = -1};
        if (v->result->differences < v->options.differences_shown) {
            const enum err_code code =
                table->ops->find(table, &v->entries[i].id, &stored, &found, err);
            if (code != ERR_OK) {
                return code;
            }
        }
        differ(v, &stored, "is not in the topic");
    }
    return ERR_OK;
}

enum err_code verify_run(const struct verify_options *options, struct verify_result *result,
                         struct err *err) {
    struct verify v = {
        .options = *options,
        .result = result,
        .entries = mem_array(SLOTS_FIRST, sizeof(struct entry)),
        .entry_slots = SLOTS_FIRST,
        .streams = mem_array(SLOTS_FIRST, sizeof(struct stream_entry)),
        .stream_slots = SLOTS_FIRST,
        .told_at_us = clock_monotonic_us(),
    };

    *result = (struct verify_result){0};
    enum err_code code = read_table(&v, err);
    if (code == ERR_OK) {
        code = read_topic(&v, err);
    }
    if (code == ERR_OK) {
        code = name_missing(&v, err);
    }
    mem_free(v.entries);
    mem_free(v.streams);
    return code;
}
