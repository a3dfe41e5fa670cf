#include "common/adapters/log_mem.h"

#include <assert.h>
#include <pthread.h>

#include "common/base/arena.h"
#include "common/base/mem.h"

enum { TEXT_BYTES_MAX = 64 * 1024 * 1024, TEXT_BLOCK_BYTES = 64 * 1024, EVENTS_FIRST = 64 };

struct log_mem {
    pthread_mutex_t lock; /* guards all below */
    struct arena texts;
    struct recorded_event *events; /* by position */
    size_t count, capacity;
    int64_t settled_max;
    enum log_mem_mood mood;
    size_t calls;
};

struct call {
    struct call *next;
    struct log_query query;
    char id[STREAM_ID_BYTES_MAX + 1];
    char aggregate_type[LOG_VIEW_NAME_BYTES];
    char event_type[LOG_VIEW_NAME_BYTES];
    log_view_fn *done;
    void *arg;
};

struct log_mem_client {
    struct log_mem *log;
    struct loop *loop;
    struct call *oldest; /* the loop's thread only */
    bool scheduled;
};

struct log_mem *log_mem_new(void) {
    struct log_mem *log = mem_zalloc(sizeof(*log));

    pthread_mutex_init(&log->lock, NULL);
    arena_init(&log->texts, TEXT_BLOCK_BYTES, TEXT_BYTES_MAX);
    log->settled_max = INT64_MAX;
    return log;
}

void log_mem_free(struct log_mem *log) {
    if (log != NULL) {
        arena_release(&log->texts);
        pthread_mutex_destroy(&log->lock);
        mem_free(log->events);
        mem_free(log);
    }
}

static struct str keep(struct log_mem *log, struct str text) {
    const struct str kept = text.len > 0 ? arena_str(&log->texts, text) : (struct str){"", 0};

    assert(kept.ptr != NULL);
    return kept;
}

void log_mem_append(struct log_mem *log, const struct recorded_event *event) {
    pthread_mutex_lock(&log->lock);
    const int64_t next = log->count > 0 ? log->events[log->count - 1].position + 1 : 1;
    if (log->count == log->capacity) {
        log->capacity = log->capacity > 0 ? log->capacity * 2 : EVENTS_FIRST;
        log->events = mem_resize(log->events, log->capacity, sizeof(log->events[0]));
    }
    struct recorded_event *kept = &log->events[log->count++];
    *kept = *event;
    kept->position = event->position > next ? event->position : next;
    kept->aggregate_type = keep(log, event->aggregate_type);
    kept->stream_id = keep(log, event->stream_id);
    kept->event_type = keep(log, event->event_type);
    kept->payload = keep(log, event->payload);
    kept->correlation_id = keep(log, event->correlation_id);
    kept->causation_id = keep(log, event->causation_id);
    kept->actor = keep(log, event->actor);
    kept->traceparent = keep(log, event->traceparent);
    kept->command = keep(log, event->command);
    pthread_mutex_unlock(&log->lock);
}

void log_mem_hold(struct log_mem *log, int64_t settled_max) {
    pthread_mutex_lock(&log->lock);
    log->settled_max = settled_max;
    pthread_mutex_unlock(&log->lock);
}

void log_mem_set_mood(struct log_mem *log, enum log_mem_mood mood) {
    pthread_mutex_lock(&log->lock);
    log->mood = mood;
    pthread_mutex_unlock(&log->lock);
}

size_t log_mem_calls(struct log_mem *log) {
    pthread_mutex_lock(&log->lock);
    const size_t calls = log->calls;
    pthread_mutex_unlock(&log->lock);
    return calls;
}

/* --- reading; the lock is held --- */

static bool fits(const struct log_query *query, const struct recorded_event *event,
                 int64_t settled) {
    const bool of_stream = query->read == LOG_READ_AGGREGATE;
    const int64_t place = of_stream ? event->version : event->position;

    if (query->backwards ? query->place > 0 && place >= query->place : place <= query->place) {
        return false;
    }
    if (of_stream) {
        return str_eq(event->stream_id, query->id) &&
               str_eq(event->aggregate_type, query->aggregate_type);
    }
    return event->position <= settled &&
           (query->aggregate_type.len == 0 ||
            str_eq(query->aggregate_type, event->aggregate_type)) &&
           (query->event_type.len == 0 || str_eq(query->event_type, event->event_type)) &&
           event->recorded_at_us >= query->from_us && event->recorded_at_us < query->to_us;
}

static enum err_code read_log(const struct log_mem *log, const struct log_query *query,
                              struct recorded_event *events, struct log_result *out) {
    const int64_t newest = log->count > 0 ? log->events[log->count - 1].position : 0;
    bool known = false;

    out->settled = newest < log->settled_max ? newest : log->settled_max;
    out->events = events;
    for (size_t i = 0; i < log->count; i++) {
        const struct recorded_event *event =
            &log->events[query->backwards ? log->count - 1 - i : i];
        if (query->read == LOG_READ_EVENT) {
            if (memcmp(&event->event_id, &query->event_id, sizeof(struct uuid)) == 0) {
                events[out->count++] = *event;
                return ERR_OK;
            }
            continue;
        }
        if (query->read == LOG_READ_AGGREGATE && str_eq(event->stream_id, query->id) &&
            str_eq(event->aggregate_type, query->aggregate_type)) {
            known = true;
            out->head_version =
                event->version > out->head_version ? event->version : out->head_version;
        }
        if (query->read == LOG_READ_SETTLED || !fits(query, event, out->settled)) {
            continue;
        }
        if (out->count == query->limit) {
            out->more = true;
        } else {
            events[out->count++] = *event;
        }
    }
    out->last = query->place;
    if (out->count > 0) {
        const struct recorded_event *last = &events[out->count - 1];
        out->last = query->read == LOG_READ_AGGREGATE ? last->version : last->position;
    }
    if (query->read == LOG_READ_EVENTS && !out->more && !query->backwards &&
        out->settled > out->last) {
        out->last = out->settled;
    }
    return query->read == LOG_READ_EVENT || (query->read == LOG_READ_AGGREGATE && !known)
               ? ERR_NOT_FOUND
               : ERR_OK;
}

static void answer(struct log_mem *log, const struct call *call) {
    struct log_result result = {.code = ERR_TIMEOUT};
    struct recorded_event *events = mem_array(call->query.limit + 1, sizeof(*events));

    pthread_mutex_lock(&log->lock);
    if (log->mood == LOG_MEM_WELL) {
        result.code = read_log(log, &call->query, events, &result);
    }
    pthread_mutex_unlock(&log->lock);
    /* What the texts point to is never freed or moved while the log lives. */
    call->done(call->arg, &result);
    mem_free(events);
}

static void answer_all(void *arg) {
    struct log_mem_client *client = arg;
    struct call *waiting = client->oldest;

    client->scheduled = false;
    client->oldest = NULL;
    while (waiting != NULL) {
        struct call *call = waiting;
        waiting = call->next;
        answer(client->log, call);
        mem_free(call);
    }
}

static enum err_code start_read(void *self, const struct log_query *query, log_view_fn *done,
                                void *arg) {
    struct log_mem_client *client = self;

    pthread_mutex_lock(&client->log->lock);
    const enum log_mem_mood mood = client->log->mood;
    client->log->calls++;
    pthread_mutex_unlock(&client->log->lock);
    if (mood == LOG_MEM_DOWN || mood == LOG_MEM_FULL) {
        return mood == LOG_MEM_DOWN ? ERR_UNAVAILABLE : ERR_LIMIT;
    }
    struct call *call = mem_zalloc(sizeof(*call));
    *call = (struct call){.query = *query, .done = done, .arg = arg};
    if (!str_copy(call->id, sizeof(call->id), query->id) ||
        !str_copy(call->aggregate_type, sizeof(call->aggregate_type), query->aggregate_type) ||
        !str_copy(call->event_type, sizeof(call->event_type), query->event_type)) {
        mem_free(call);
        return ERR_INVALID;
    }
    call->query.id = str_of(call->id, query->id.len);
    call->query.aggregate_type = str_of(call->aggregate_type, query->aggregate_type.len);
    call->query.event_type = str_of(call->event_type, query->event_type.len);
    struct call **end = &client->oldest;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = call;
    if (!client->scheduled) {
        client->scheduled = true;
        const uint64_t timer = loop_after(client->loop, 0, answer_all, client);
        assert(timer != 0);
        (void)timer;
    }
    return ERR_OK;
}

struct log_mem_client *log_mem_client_new(struct log_mem *log, struct loop *loop) {
    struct log_mem_client *client = mem_zalloc(sizeof(*client));

    client->log = log;
    client->loop = loop;
    return client;
}

void log_mem_client_free(struct log_mem_client *client) {
    if (client == NULL) {
        return;
    }
    while (client->oldest != NULL) {
        struct call *next = client->oldest->next;
        mem_free(client->oldest);
        client->oldest = next;
    }
    mem_free(client);
}

struct log_view log_mem_view(struct log_mem_client *client) {
    return (struct log_view){.self = client, .read = start_read};
}
