/*
 * A projection: one file that says which tables it keeps and what each event does to them; one line
 * in projector/registry.c; one migration. It writes no SQL and no Lua: sinks turn its row writes
 * into one set-wise statement per table, or one script call, per batch.
 *
 * `project` is pure: its only input is the event, its only output the rows it emits. So the same
 * event always means the same rows, whichever replica applies it and how often it is tried; and
 * live application, rebuild and verification all run the same code.
 */
#ifndef DAYBOOK_PORTS_PROJECTION_H
#define DAYBOOK_PORTS_PROJECTION_H

#include <stdbool.h>

#include "common/domain/aggregate.h"
#include "common/ports/recorded_event.h"

enum { MODEL_COLUMNS_MAX = 12, MODEL_TABLES_MAX = 4, MODEL_NAME_BYTES = 48 };

enum column_kind {
    COLUMN_TEXT,
    COLUMN_I64,
    COLUMN_TIME, /* int64 microseconds since 1970 */
    COLUMN_DATE, /* int64 days since 1970 */
    COLUMN_UUID,
};

enum column_merge {
    MERGE_SET, /* the newest value stays */
    MERGE_ADD, /* values are summed; COLUMN_I64 only */
};

struct model_column {
    const char *name;
    enum column_kind kind;
    enum column_merge merge;
};

enum model_store { STORE_PG = 1, STORE_REDIS = 2 };

struct model_table {
    const char *name; /* daybook.<name> in PostgreSQL */
    const struct model_column *columns;
    size_t column_count;
    size_t key_count;         /* the first columns are the key */
    int version_column;       /* guards each row: an older version never overwrites; -1: none */
    unsigned stores;          /* enum model_store bits */
    const char *redis_prefix; /* key {p<partition>}:<prefix>:<stream id> */
    int redis_list_max;       /* 0: a key per row. n: a list per stream of its newest n rows */
    bool append_only;         /* a row is written once and never changed: no key comes twice */
    int partition_column;     /* the column that tells a row's partition. 0: rows belong to the
                                 stream whose id is in column 0 */
};

struct cell {
    bool set; /* a column that is not set keeps its value */
    union {   /* by the column's kind */
        int64_t number;
        struct str text; /* TEXT; lives as long as the batch */
        struct uuid uuid;
    };
};

struct row {
    const struct model_table *table;
    struct cell cells[MODEL_COLUMNS_MAX];
};

/* Adds a row; returns it with nothing set. Never NULL. */
struct emitter;
struct row *emit_row(struct emitter *emitter, const struct model_table *table);

static inline void row_text(struct row *row, int column, struct str value) {
    row->cells[column] = (struct cell){.set = true, .text = value};
}
static inline void row_i64(struct row *row, int column, int64_t value) {
    row->cells[column] = (struct cell){.set = true, .number = value};
}
static inline void row_uuid(struct row *row, int column, const struct uuid *value) {
    row->cells[column] = (struct cell){.set = true, .uuid = *value};
}

/* One event with its place: what a projection sees. */
struct projected_event {
    const struct recorded_event *recorded;
    const struct event *event; /* decoded; like the recorded one it lives as long as the batch */
    int32_t partition;
};

struct projection {
    const char *name;                  /* letters, digits, _; stored, never changes */
    int version;                       /* raised when what it writes changes: a rebuild follows */
    const struct aggregate *aggregate; /* whose events it handles; all others pass by */
    const struct model_table *const *tables;
    size_t table_count;
    /* The table of its own that tells how far each stream has been applied: column 0 is the stream
     * id, version_column its version, kept by every store that this projection uses, and every
     * event emits a row into it. */
    const struct model_table *heads;
    void (*project)(const struct projected_event *event, struct emitter *emitter);
    /* enum model_store bits: where somebody may be waiting for his own write, so that each event
     * goes there at once. Elsewhere events may gather. */
    unsigned awaited;
};

/* enum model_store bits of all its tables. */
static inline unsigned projection_stores(const struct projection *projection) {
    unsigned stores = 0;

    for (size_t i = 0; i < projection->table_count; i++) {
        stores |= projection->tables[i]->stores;
    }
    return stores;
}

#endif
