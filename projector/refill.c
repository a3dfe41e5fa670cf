#include "projector/refill.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/ports/row.h"

enum { ROWS_AT_ONCE = 1000, PARKED_AT_ONCE = 500 };

struct part {
    bool lost;   /* it gets what operators declared void */
    bool wanted; /* and all the rest */
    struct sink_checkpoint at;
    struct row *rows; /* owned texts */
    size_t row_count;
    struct parked_event *parked; /* owned texts */
    size_t parked_count;
    struct void_range *voids; /* owned texts */
    size_t void_count;
};

struct job {
    const struct refill_options *options;
    struct part *parts; /* partitions */
    struct part *part;  /* of the exceptions being read */
    int64_t rows;
};

static struct str own(struct str text) {
    return str_of(mem_strndup(text), text.len);
}

/* Writes what a partition has gathered; with its checkpoint when `last`. */
static enum err_code flush(struct job *job, int32_t p, bool last, struct err *err) {
    struct part *part = &job->parts[p];
    struct projection_sink *into = job->options->into;
    const struct sink_checkpoint none = {.next = SINK_NO_CHECKPOINT};
    const struct sink_checkpoint at = {.next = part->at.next, .version = part->at.version};
    const struct sink_batch batch = {
        .partition = p,
        .expected = none,
        .next = last && part->wanted ? at : none,
        .rows = part->rows,
        .row_count = part->row_count,
        .parked = last ? part->parked : NULL,
        .parked_count = last ? part->parked_count : 0,
        .voids = last ? part->voids : NULL,
        .void_count = last ? part->void_count : 0,
    };
    const enum err_code code = into->ops->apply(into, &batch, err);

    job->rows += (int64_t)part->row_count;
    for (size_t i = 0; i < part->row_count; i++) {
        row_release(&part->rows[i]);
    }
    part->row_count = 0;
    return code;
}

/* Another replica was first in a partition: it needs nothing of us any more, the others do. */
static enum err_code flush_unless_filled(struct job *job, int32_t p, bool last, struct err *err) {
    const enum err_code code = flush(job, p, last, err);

    if (code != ERR_FENCED) {
        return code;
    }
    job->parts[p].lost = false;
    job->parts[p].wanted = false;
    return ERR_OK;
}

static enum err_code take_row(void *arg, int32_t partition, const struct sink_checkpoint *at,
                              const struct row *row, struct err *err) {
    struct job *job = arg;
    struct part *part = &job->parts[partition];

    (void)at;
    if (!part->wanted) {
        return ERR_OK;
    }
    row_copy(&part->rows[part->row_count++], row);
    return part->row_count == ROWS_AT_ONCE ? flush_unless_filled(job, partition, false, err)
                                           : ERR_OK;
}

static void take_parked(void *arg, const struct parked_event *event) {
    struct part *part = ((struct job *)arg)->part;

    if (part->parked_count % PARKED_AT_ONCE == 0) {
        part->parked =
            mem_resize(part->parked, part->parked_count + PARKED_AT_ONCE, sizeof(*part->parked));
    }
    struct parked_event *kept = &part->parked[part->parked_count++];
    *kept = *event;
    kept->stream_id = own(event->stream_id);
    kept->event_type = own(event->event_type);
    kept->reason = own(event->reason);
    kept->payload = (struct str){0};
}

static void take_void(void *arg, const struct void_range *range) {
    struct part *part = ((struct job *)arg)->part;

    if (part->void_count % PARKED_AT_ONCE == 0) {
        part->voids =
            mem_resize(part->voids, part->void_count + PARKED_AT_ONCE, sizeof(*part->voids));
    }
    part->voids[part->void_count++] =
        (struct void_range){own(range->stream_id), range->first, range->last};
}

static enum err_code read_exceptions(struct job *job, int32_t p, struct err *err) {
    struct model_scan *from = job->options->from;

    job->part = &job->parts[p];
    const enum err_code code =
        job->part->wanted ? from->ops->parked(from, p, take_parked, job, err) : ERR_OK;
    return code == ERR_OK ? from->ops->voids(from, p, take_void, job, err) : code;
}

/* Can all that `into` keeps be had from `from`? */
static bool covers(const struct refill_options *options) {
    for (size_t i = 0; i < options->projection->table_count; i++) {
        const unsigned stores = options->projection->tables[i]->stores;
        if ((stores & options->into->store) && !(stores & options->from->store)) {
            return false;
        }
    }
    return true;
}

/* The checkpoints of the source; those that are worth it are wanted whole. */
static enum err_code open_source(struct job *job, const bool *wanted, size_t *count,
                                 struct err *err) {
    struct sink_checkpoint at[TOPIC_PARTITIONS_MAX];
    struct model_scan *from = job->options->from;
    const enum err_code code = from->ops->open(from, at, (size_t)job->options->partitions, err);

    for (int32_t p = 0; code == ERR_OK && p < job->options->partitions; p++) {
        struct part *part = &job->parts[p];
        part->at = at[p];
        part->lost = wanted[p];
        part->wanted = wanted[p] && checkpoint_exists(&at[p]) && at[p].next >= REFILL_EVENTS_MIN &&
                       at[p].version == job->options->projection->version && covers(job->options);
        if (part->wanted) {
            part->rows = mem_array(ROWS_AT_ONCE, sizeof(part->rows[0]));
            ++*count;
        }
    }
    return code;
}

static enum err_code copy(struct job *job, size_t whole, struct err *err) {
    const struct projection *projection = job->options->projection;
    struct model_scan *from = job->options->from;
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < projection->table_count; i++) {
        const struct model_table *table = projection->tables[i];
        if (whole > 0 && (table->stores & from->store) &&
            (table->stores & job->options->into->store)) {
            code = from->ops->rows(from, table, table->redis_list_max, take_row, job, err);
        }
    }
    for (int32_t p = 0; code == ERR_OK && p < job->options->partitions; p++) {
        if (job->parts[p].lost) {
            code = read_exceptions(job, p, err);
            if (code == ERR_OK && (job->parts[p].wanted || job->parts[p].void_count > 0)) {
                code = flush_unless_filled(job, p, true, err);
            }
        }
    }
    return code;
}

static void release(struct job *job) {
    for (int32_t p = 0; p < job->options->partitions; p++) {
        struct part *part = &job->parts[p];
        for (size_t i = 0; i < part->row_count; i++) {
            row_release(&part->rows[i]);
        }
        for (size_t i = 0; i < part->parked_count; i++) {
            mem_free_const(part->parked[i].stream_id.ptr);
            mem_free_const(part->parked[i].event_type.ptr);
            mem_free_const(part->parked[i].reason.ptr);
        }
        for (size_t i = 0; i < part->void_count; i++) {
            mem_free_const(part->voids[i].stream_id.ptr);
        }
        mem_free(part->rows);
        mem_free(part->parked);
        mem_free(part->voids);
    }
    mem_free(job->parts);
}

enum err_code refill(const struct refill_options *options, const bool *wanted, size_t *filled,
                     struct err *err) {
    const int64_t started_us = clock_monotonic_us();
    struct job job = {.options = options};

    *filled = 0;
    job.parts = mem_array((size_t)options->partitions, sizeof(job.parts[0]));
    enum err_code code = open_source(&job, wanted, filled, err);
    if (code == ERR_OK) {
        code = copy(&job, *filled, err);
    }
    *filled = 0;
    for (int32_t p = 0; p < options->partitions; p++) {
        *filled += job.parts[p].wanted;
    }
    if (code == ERR_OK && *filled > 0) {
        log_info(options->log, log_event("sink.refilled"),
                 log_cstr("projection", options->projection->name),
                 log_cstr("sink", options->into->ops->name),
                 log_cstr("from", options->from->ops->name),
                 log_i64("partitions", (int64_t)*filled), log_i64("rows", job.rows),
                 log_i64("took_ms", (clock_monotonic_us() - started_us) / 1000));
    }
    options->from->ops->close(options->from);
    release(&job);
    return code;
}
