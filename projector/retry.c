#include "projector/retry.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "projector/fold.h"

enum {
    EVENTS_MAX = 4096, /* of one stream at once */
    TRIES = 50,        /* against the replica that goes on serving the partition */
    READ_MS = 30000,
    TAKE = 512,
    JUMP = 20000, /* offsets: from here on starting again is quicker than reading on */
    SCRATCH_BYTES = 1024 * 1024,
};

struct job {
    const struct retry_options *options;
    struct retry_result *result;
    struct sink_checkpoint at;
    struct fold fold;
    struct emitter *emitter;
    struct parked_event *listed; /* as the store has them, texts owned by `texts` */
    size_t listed_count;
    struct arena texts;
    struct arena scratch;
    struct consumed_record *records; /* of the first EVENTS_MAX listed */
    struct decoded *decoded;         /* of each; the rows' texts stand in it */
    size_t record_count;
    struct parked_event *parked; /* what is to be parked again */
    size_t parked_count;
    struct void_range range;
    bool has_range;
};

static void list(void *arg, const struct parked_event *event) {
    struct job *job = arg;

    if (job->listed_count % 256 == 0) {
        job->listed = mem_resize(job->listed, job->listed_count + 256, sizeof(job->listed[0]));
    }
    struct parked_event *kept = &job->listed[job->listed_count++];
    *kept = *event;
    kept->stream_id = job->options->stream_id;
    kept->event_type = arena_str(&job->texts, event->event_type);
    kept->payload = arena_str(&job->texts, event->payload);
    kept->reason = event->reason.len > 0 ? arena_str(&job->texts, event->reason) : (struct str){0};
}

/* Reads the events again, in order of their offsets. */
static enum err_code read_records(struct job *job, struct err *err) {
    struct event_reader *reader = job->options->reader;
    const int64_t deadline_us = clock_monotonic_us() + READ_MS * INT64_C(1000);
    struct consumed_record taken[TAKE];
    const size_t wanted = job->listed_count < EVENTS_MAX ? job->listed_count : EVENTS_MAX;
    int64_t at = -1;
    enum err_code code = ERR_OK;

    while (code == ERR_OK && job->record_count < wanted) {
        const int64_t next = job->listed[job->record_count].offset;
        size_t count = 0;
        if (at < 0 || next > at + JUMP) {
            code = reader->ops->start(reader, job->options->partition, next, err);
        }
        if (code == ERR_OK) {
            code = reader->ops->poll(reader, 100, taken, TAKE, &count, err);
        }
        for (size_t i = 0; i < count; i++) {
            at = taken[i].offset;
            if (job->record_count < wanted &&
                taken[i].offset == job->listed[job->record_count].offset) {
                job->records[job->record_count++] = taken[i];
            } else {
                reader->ops->release(reader, &taken[i], 1);
            }
        }
        at = at < 0 && count == 0 ? 0 : at;
        if (code == ERR_OK && count == 0 && clock_monotonic_us() > deadline_us) {
            code = err_set(err, ERR_UNAVAILABLE, "the topic doesn't give the parked events again");
        }
    }
    reader->ops->stop(reader, job->options->partition);
    return code;
}

static void forget(struct job *job) {
    job->options->reader->ops->release(job->options->reader, job->records, job->record_count);
    job->record_count = 0;
    job->listed_count = 0;
    job->parked_count = 0;
    job->has_range = false;
    arena_clear(&job->texts);
    fold_clear(&job->fold);
    emitter_clear(job->emitter);
}

/* Where the store stands, and what it has put aside. */
static enum err_code look(struct job *job, struct err *err) {
    const struct retry_options *o = job->options;
    struct stream_head head = {.stream_id = o->stream_id};
    enum err_code code = sink_read_checkpoint(o->sink, o->partition, &job->at, err);

    if (code == ERR_OK && !checkpoint_exists(&job->at)) {
        return err_set(err, ERR_NOT_FOUND, "nothing is applied there");
    }
    if (code == ERR_OK) {
        code = o->sink->ops->read_parked(o->sink, o->partition, &job->at, o->stream_id, list, job,
                                         err);
    }
    if (code == ERR_OK && job->listed_count == 0) {
        return err_set(err, ERR_NOT_FOUND, "the stream isn't parked there");
    }
    if (code == ERR_OK) {
        code = fold_load(&job->fold, o->sink, &job->at, false, err);
    }
    if (code == ERR_OK) {
        code = o->sink->ops->read_heads(o->sink, o->partition, &job->at, &head, 1, err);
    }
    if (code == ERR_OK && !fold_set_head(&job->fold, o->stream_id, head.version)) {
        code = err_set(err, ERR_INTERNAL, "no room for a head");
    }
    return code;
}

/* What stops the stream: the versions missing before the first parked event, or that event. One
 * that has no version of its own is simply left out. Returns how many records to leave out. */
static size_t declare_void(struct job *job) {
    const struct parked_event *first = &job->listed[0];
    const int64_t *head = streams_find(&job->fold.heads, job->options->stream_id);

    if (first->version == 0 || job->options->stream_id.ptr[0] == '?') {
        return 1;
    }
    job->range = (struct void_range){job->options->stream_id, *head + 1, first->version};
    if (first->version > *head + 1) {
        job->range.last = first->version - 1;
    }
    job->has_range = true;
    fold_add_void(&job->fold, &job->range);
    return 0;
}

static enum err_code fold_again(struct job *job, size_t skip, struct err *err) {
    enum err_code code = ERR_OK;

    for (size_t i = skip; code == ERR_OK && i < job->record_count; i++) {
        struct decoded *decoded = &job->decoded[i];
        enum fold_verdict verdict = FOLD_PASSED;
        decode_record(&job->records[i], job->options->projection->aggregate, &job->scratch,
                      decoded);
        struct parked_event *parked = &job->parked[job->parked_count];
        code =
            fold_record(&job->fold, &job->records[i], decoded, job->emitter, &verdict, parked, err);
        if (code == ERR_OK && verdict == FOLD_PARKED) {
            parked->reason =
                parked->reason.len > 0 ? arena_str(&job->texts, parked->reason) : (struct str){0};
            job->parked_count++;
        } else if (verdict == FOLD_APPLIED) {
            job->result->applied++;
        }
    }
    for (size_t i = job->record_count; i < job->listed_count; i++) {
        job->parked[job->parked_count++] = job->listed[i];
    }
    return code;
}

static enum err_code try_once(struct job *job, struct row *rows, struct err *err) {
    const struct retry_options *o = job->options;
    enum err_code code = look(job, err);

    *job->result = (struct retry_result){.parked = job->listed_count};
    if (code == ERR_OK) {
        code = read_records(job, err);
    }
    if (code == ERR_OK) {
        job->parked = mem_resize(job->parked, job->listed_count + 1, sizeof(job->parked[0]));
        code = fold_again(job, o->discard ? declare_void(job) : 0, err);
    }
    if (code != ERR_OK) {
        return code;
    }
    struct sink_checkpoint next = job->at;
    next.epoch++;
    const struct sink_batch batch = {
        .partition = o->partition,
        .expected = job->at,
        .next = next,
        .rows = rows,
        .row_count = emitter_rows(job->emitter, o->sink->store, rows),
        .released = &o->stream_id,
        .released_count = 1,
        .parked = job->parked,
        .parked_count = job->parked_count,
        .voids = &job->range,
        .void_count = job->has_range,
    };
    job->result->left = job->parked_count;
    return o->sink->ops->apply(o->sink, &batch, err);
}

enum err_code retry_stream(const struct retry_options *options, struct retry_result *result,
                           struct err *err) {
    struct row *rows = mem_array((size_t)EVENTS_MAX * EMITTER_ROWS_PER_EVENT_MAX, sizeof(*rows));
    struct job job = {.options = options, .result = result};
    enum err_code code = ERR_FENCED;

    fold_init(&job.fold, options->projection, options->partition, EVENTS_MAX);
    job.emitter = emitter_new(EVENTS_MAX);
    job.records = mem_array(EVENTS_MAX, sizeof(job.records[0]));
    job.decoded = mem_array(EVENTS_MAX, sizeof(job.decoded[0]));
    arena_init(&job.texts, 65536, INT64_C(1) << 30);
    arena_init(&job.scratch, 4096, SCRATCH_BYTES);
    for (int i = 0; code == ERR_FENCED && i < TRIES; i++) {
        forget(&job);
        code = try_once(&job, rows, err);
    }
    forget(&job);
    fold_release(&job.fold);
    emitter_free(job.emitter);
    arena_release(&job.texts);
    arena_release(&job.scratch);
    mem_free(job.records);
    mem_free(job.decoded);
    mem_free(job.listed);
    mem_free(job.parked);
    mem_free(rows);
    return code;
}
