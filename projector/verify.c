#include "projector/verify.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/ports/row.h"
#include "projector/expected.h"

enum { TEXT_BYTES_MAX = 4096, STREAMS_MAX = 20000000 };

/* The list being read: its elements come newest first. */
struct list_run {
    const struct model_table *table; /* NULL: none */
    int32_t partition;
    char stream[STREAM_ID_BYTES_MAX + 1];
    int64_t next;  /* version that should come next; 0: none */
    int64_t count; /* elements so far */
};

struct verification {
    const struct verify_options *options;
    struct verify_result *result;
    struct expected expected;
    struct sink_checkpoint at[TOPIC_PARTITIONS_MAX]; /* when the scan was opened */
    bool beyond[TOPIC_PARTITIONS_MAX];               /* its checkpoint lies beyond the log */
    struct streams *parked;                          /* partitions: as the store has them */
    struct streams *listed;                          /* partitions: streams whose list was seen */
    struct list_run run;
    const struct row *missing; /* what is being looked for */
    int64_t events_total;
    int64_t shown_at_us;
    int64_t started_us;
};

/* --- telling --- */

static void differ(struct verification *v, int32_t partition, const char *what,
                   const struct row *expected, const struct row *stored) {
    struct buf text;

    v->result->differences++;
    if (v->options->out == NULL || v->result->differences > VERIFY_PRINTED_MAX) {
        return;
    }
    buf_init(&text, TEXT_BYTES_MAX);
    buf_printf(&text, "%s %s partition %" PRId32 ": %s", v->options->projection->name,
               v->options->scan->ops->name, partition, what);
    if (expected != NULL) {
        buf_printf(&text, "\n  the log says  %s: ", expected->table->name);
        row_print(expected, &text);
    }
    if (stored != NULL) {
        buf_printf(&text, "\n  the store has %s: ", stored->table->name);
        row_print(stored, &text);
    }
    (void)fprintf(v->options->out, "%s\n", text.ptr);
    buf_release(&text);
}

static void show_progress(void *arg, int64_t events) {
    struct verification *v = arg;
    const int64_t now_us = clock_monotonic_us();

    if (v->options->progress == NULL || now_us - v->shown_at_us < 1000000) {
        return;
    }
    v->shown_at_us = now_us;
    (void)fprintf(v->options->progress,
                  "verify %s %s: %" PRId64 " of %" PRId64 " events folded, %" PRId64
                  " rows compared, %.0f s\n",
                  v->options->projection->name, v->options->scan->ops->name, events,
                  v->events_total > events ? v->events_total : events, v->result->rows,
                  (double)(now_us - v->started_us) / 1e6);
}

/* --- rows --- */

static bool rows_equal(const struct row *a, const struct row *b) {
    for (size_t i = a->table->key_count; i < a->table->column_count; i++) {
        if (!cell_equal(&a->table->columns[i], &a->cells[i], &b->cells[i])) {
            return false;
        }
    }
    return true;
}

struct original {
    struct verification *v;
    const struct row *stored;
    int32_t partition;
    const char *what;
};

static void differ_from_original(void *arg, const struct row *row) {
    const struct original *original = arg;

    if (row->table->append_only &&
        (original->stored == NULL || row->table == original->stored->table)) {
        differ(original->v, original->partition, original->what, row, original->stored);
    }
}

/* An append-only row of which only the digest is known: the log has it. */
static enum err_code differ_by_offset(struct verification *v, const struct rowset_entry *entry,
                                      const char *what, const struct row *stored, struct err *err) {
    struct original original = {v, stored, entry->partition, what};

    if (v->result->differences >= VERIFY_PRINTED_MAX) {
        v->result->differences++;
        return ERR_OK;
    }
    return expected_rows_of(&v->expected, entry->partition, entry->offset, differ_from_original,
                            &original, err);
}

static enum err_code compare(struct verification *v, int32_t partition, const struct row *row,
                             struct err *err) {
    struct rowset_entry *entry = rowset_find(&v->expected.rows, row);

    v->result->rows++;
    if (entry == NULL) {
        differ(v, partition, "a row that no event explains", NULL, row);
        return ERR_OK;
    }
    entry->seen = true;
    if (entry->row != NULL) {
        if (!rows_equal(entry->row, row)) {
            differ(v, partition, "a row differs", entry->row, row);
        }
        return ERR_OK;
    }
    if (entry->digest != row_value_hash(row)) {
        const struct rowset_entry copy = *entry;
        return differ_by_offset(v, &copy, "a row differs", row, err);
    }
    return ERR_OK;
}

/* --- lists --- */

static bool is_void(const struct fold *fold, struct str stream, int64_t version) {
    for (size_t i = 0; i < fold->void_count; i++) {
        if (str_eq(fold->voids[i].stream_id, stream) && version >= fold->voids[i].first &&
            version <= fold->voids[i].last) {
            return true;
        }
    }
    return false;
}

/* The newest version of the stream that has an entry, at most `version`; 0: none. */
static int64_t entry_at_most(const struct fold *fold, struct str stream, int64_t version) {
    while (version > 0 && is_void(fold, stream, version)) {
        version--;
    }
    return version;
}

static void end_run(struct verification *v) {
    const struct list_run *run = &v->run;

    if (run->table != NULL && run->next > 0 && run->count < run->table->redis_list_max) {
        char what[256];
        (void)snprintf(what, sizeof(what), "the list of %s lacks version %" PRId64, run->stream,
                       run->next);
        differ(v, run->partition, what, NULL, NULL);
    }
    v->run.table = NULL;
}

static enum err_code compare_element(struct verification *v, int32_t partition,
                                     const struct row *row, struct err *err) {
    const struct fold *fold = &v->expected.folds[partition];
    const struct str stream = row->cells[0].text;
    const int64_t version = row->cells[row->table->version_column].number;
    struct list_run *run = &v->run;

    if (run->table != row->table || !str_eq(stream, str_from(run->stream))) {
        const int64_t *head = streams_find(&fold->heads, stream);
        end_run(v);
        *run = (struct list_run){.table = row->table, .partition = partition};
        (void)!str_copy(run->stream, sizeof(run->stream), stream);
        run->next = head != NULL ? entry_at_most(fold, stream, *head) : 0;
        (void)!streams_add(&v->listed[partition], stream, 1);
    }
    if (version != run->next || run->count >= run->table->redis_list_max) {
        differ(v, partition, "an element that should not stand there", NULL, row);
    } else {
        const enum err_code code = compare(v, partition, row, err);
        if (code != ERR_OK) {
            return code;
        }
    }
    run->count++;
    run->next = entry_at_most(fold, stream, version - 1);
    return ERR_OK;
}

static bool is_list(const struct verification *v, const struct model_table *table) {
    return v->options->scan->store == STORE_REDIS && table->redis_list_max > 0;
}

static enum err_code on_row(void *arg, int32_t partition, const struct sink_checkpoint *at,
                            const struct row *row, struct err *err) {
    struct verification *v = arg;

    if (row == NULL) {
        differ(v, partition, "a row is missing", v->missing, NULL);
        return ERR_OK;
    }
    if (!checkpoint_exists(at)) {
        differ(v, partition, "a row in a partition without a checkpoint", NULL, row);
        return ERR_OK;
    }
    const int64_t cut = v->beyond[partition] ? v->at[partition].next : at->next;
    const enum err_code code = expected_move(&v->expected, partition, cut, err);
    if (code != ERR_OK) {
        return code;
    }
    return is_list(v, row->table) ? compare_element(v, partition, row, err)
                                  : compare(v, partition, row, err);
}

/* --- what the scan did not show --- */

static enum err_code look_for_entry(struct verification *v, const struct rowset_entry *entry,
                                    struct err *err) {
    const struct rowset_entry copy = *entry;

    if (copy.row == NULL) { /* append-only; in lists they were told by their streams */
        return v->options->scan->store == STORE_REDIS
                   ? ERR_OK
                   : differ_by_offset(v, &copy, "a row is missing", NULL, err);
    }
    struct row key;
    row_copy(&key, copy.row);
    v->missing = &key;
    const enum err_code code =
        v->options->scan->ops->find(v->options->scan, copy.partition, &key, on_row, v, err);
    v->missing = NULL;
    row_release(&key);
    return code;
}

static enum err_code look_for_rows(struct verification *v, struct err *err) {
    struct rowset *rows = &v->expected.rows;
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < rows->slot_count; i++) {
        struct rowset_entry *entry = &rows->entries[i];
        if ((entry->key[0] == 0 && entry->key[1] == 0) || entry->seen) {
            continue;
        }
        const size_t slots = rows->slot_count;
        entry->seen = true;
        code = look_for_entry(v, entry, err);
        if (rows->slot_count != slots) {
            i = (size_t)-1; /* the fold moved on and the set has grown: begin again */
        }
    }
    return code;
}

struct search {
    struct verification *v;
    int32_t partition;
    struct arena ids; /* of streams whose list was not seen */
    struct str *list;
    size_t count;
};

static void note_unlisted(void *arg, struct str id, int64_t head) {
    struct search *search = arg;
    const struct verification *v = search->v;

    if (streams_find(&v->listed[search->partition], id) != NULL ||
        entry_at_most(&v->expected.folds[search->partition], id, head) == 0) {
        return;
    }
    if (search->count % 1024 == 0) {
        search->list = mem_resize(search->list, search->count + 1024, sizeof(search->list[0]));
    }
    search->list[search->count++] = arena_str(&search->ids, id);
}

static enum err_code look_for_lists(struct verification *v, const struct model_table *table,
                                    struct err *err) {
    enum err_code code = ERR_OK;

    for (int32_t p = 0; code == ERR_OK && p < v->options->partitions; p++) {
        struct search search = {.v = v, .partition = p};
        arena_init(&search.ids, 65536, (size_t)1 << 32);
        streams_each(&v->expected.folds[p].heads, note_unlisted, &search);
        for (size_t i = 0; code == ERR_OK && i < search.count; i++) {
            struct row key = {.table = table};
            row_text(&key, 0, search.list[i]);
            v->missing = &key;
            code = v->options->scan->ops->find(v->options->scan, p, &key, on_row, v, err);
            v->missing = NULL;
            end_run(v);
        }
        mem_free(search.list);
        arena_release(&search.ids);
        streams_clear(&v->listed[p]);
    }
    return code;
}

/* --- beside the rows --- */

struct exceptions {
    struct verification *v;
    int32_t partition;
};

static void take_parked(void *arg, const struct parked_event *event) {
    const struct exceptions *e = arg;

    e->v->result->parked += streams_find(&e->v->parked[e->partition], event->stream_id) == NULL;
    (void)!streams_add(&e->v->parked[e->partition], event->stream_id, event->offset);
    if (str_starts_with(event->reason, STR("refused"))) {
        (void)!streams_add(&e->v->expected.refused[e->partition], event->stream_id, event->offset);
    }
}

static void take_void(void *arg, const struct void_range *range) {
    const struct exceptions *e = arg;

    fold_add_void(&e->v->expected.folds[e->partition], range);
}

static enum err_code check_checkpoint(struct verification *v, int32_t p, struct err *err) {
    const struct sink_checkpoint *at = &v->at[p];
    char what[128];
    int64_t first = 0;
    int64_t end = 0;
    const enum err_code code =
        v->options->reader->ops->bounds(v->options->reader, p, &first, &end, err);

    if (code != ERR_OK) {
        return code;
    }
    v->events_total += end;
    if (!checkpoint_exists(at)) {
        if (end > 0) {
            differ(v, p, "there is no checkpoint", NULL, NULL);
        }
        return ERR_OK;
    }
    if (at->version != v->options->projection->version) {
        return err_set(err, ERR_CONFLICT,
                       "the model is of version %" PRId64 ", this program's is %d", at->version,
                       v->options->projection->version);
    }
    if (at->next > end) {
        (void)snprintf(what, sizeof(what),
                       "the checkpoint is at %" PRId64 ", the log ends at %" PRId64, at->next, end);
        differ(v, p, what, NULL, NULL);
        v->at[p].next = end;
        v->beyond[p] = true;
    }
    return ERR_OK;
}

static enum err_code prepare_partition(struct verification *v, int32_t p, struct err *err) {
    struct model_scan *scan = v->options->scan;
    struct exceptions e = {v, p};
    enum err_code code = check_checkpoint(v, p, err);

    if (code == ERR_OK) {
        code = scan->ops->parked(scan, p, take_parked, &e, err);
    }
    return code == ERR_OK ? scan->ops->voids(scan, p, take_void, &e, err) : code;
}

static void compare_parked(void *arg, struct str id, int64_t offset) {
    const struct exceptions *e = arg;
    const int64_t *stored = streams_find(&e->v->parked[e->partition], id);
    char what[256];

    if (offset < e->v->at[e->partition].next && (stored == NULL || *stored != offset)) {
        (void)snprintf(what, sizeof(what),
                       "stream %.*s should be parked from offset %" PRId64 " on", STR_ARG(id),
                       offset);
        differ(e->v, e->partition, what, NULL, NULL);
    }
}

static void compare_unparked(void *arg, struct str id, int64_t offset) {
    const struct exceptions *e = arg;
    char what[256];

    if (streams_find(&e->v->expected.folds[e->partition].parked, id) == NULL) {
        (void)snprintf(what, sizeof(what),
                       "stream %.*s is parked from offset %" PRId64 " on for no reason",
                       STR_ARG(id), offset);
        differ(e->v, e->partition, what, NULL, NULL);
    }
}

/* --- all of it --- */

static enum err_code compare_tables(struct verification *v, struct err *err) {
    const struct projection *projection = v->options->projection;
    struct model_scan *scan = v->options->scan;
    enum err_code code = ERR_OK;

    for (size_t i = 0; code == ERR_OK && i < projection->table_count; i++) {
        const struct model_table *table = projection->tables[i];
        if (!(table->stores & scan->store)) {
            continue;
        }
        code = scan->ops->rows(scan, table, 0, on_row, v, err);
        end_run(v);
        if (code == ERR_OK && is_list(v, table)) {
            code = look_for_lists(v, table, err);
        }
    }
    return code == ERR_OK ? look_for_rows(v, err) : code;
}

static enum err_code run(struct verification *v, struct err *err) {
    struct model_scan *scan = v->options->scan;
    const int32_t partitions = v->options->partitions;
    int64_t cuts[TOPIC_PARTITIONS_MAX] = {0};
    enum err_code code = scan->ops->open(scan, v->at, (size_t)partitions, err);

    for (int32_t p = 0; code == ERR_OK && p < partitions; p++) {
        code = prepare_partition(v, p, err);
    }
    for (int32_t p = 0; p < partitions; p++) {
        cuts[p] = checkpoint_exists(&v->at[p]) ? v->at[p].next : 0;
    }
    if (code == ERR_OK) {
        code = expected_move_all(&v->expected, cuts, err);
    }
    if (code == ERR_OK) {
        code = compare_tables(v, err);
    }
    for (int32_t p = 0; code == ERR_OK && p < partitions; p++) {
        struct exceptions e = {v, p};
        streams_each(&v->expected.folds[p].parked, compare_parked, &e);
        streams_each(&v->parked[p], compare_unparked, &e);
    }
    scan->ops->close(scan);
    return code;
}

enum err_code verify_store(const struct verify_options *options, struct verify_result *result,
                           struct err *err) {
    struct verification *v = mem_zalloc(sizeof(*v));
    const size_t n = (size_t)options->partitions;

    *result = (struct verify_result){0};
    v->options = options;
    v->result = result;
    v->started_us = clock_monotonic_us();
    v->shown_at_us = v->started_us;
    expected_init(&v->expected, options->projection, options->scan->store, options->partitions,
                  options->reader);
    v->expected.progress = show_progress;
    v->expected.progress_arg = v;
    v->parked = mem_array(n, sizeof(v->parked[0]));
    v->listed = mem_array(n, sizeof(v->listed[0]));
    for (size_t p = 0; p < n; p++) {
        streams_init(&v->parked[p], STREAMS_MAX);
        streams_init(&v->listed[p], STREAMS_MAX);
    }
    const enum err_code code = run(v, err);
    result->events = v->expected.events;
    for (size_t p = 0; p < n; p++) {
        streams_release(&v->parked[p]);
        streams_release(&v->listed[p]);
    }
    expected_release(&v->expected);
    mem_free(v->parked);
    mem_free(v->listed);
    mem_free(v);
    return code;
}
