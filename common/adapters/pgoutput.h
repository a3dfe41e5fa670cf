/*
 * Messages of PostgreSQL's logical replication plug-in pgoutput, protocol version 1, decoded from
 * bytes: PostgreSQL manual, "Logical Replication Message Formats". Pure; every read is checked
 * against the message's end; what is malformed is ERR_CORRUPT.
 */
#ifndef DAYBOOK_ADAPTERS_PGOUTPUT_H
#define DAYBOOK_ADAPTERS_PGOUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/str.h"

enum { PGOUTPUT_COLUMNS_MAX = 64 };

enum pgoutput_kind {
    PGOUTPUT_BEGIN,
    PGOUTPUT_COMMIT,
    PGOUTPUT_RELATION,
    PGOUTPUT_INSERT,
    PGOUTPUT_OTHER, /* types, origins, messages, truncates: of no interest here */
};

struct pgoutput_value {
    bool is_null;
    bool is_unchanged; /* a TOASTed value that was not sent */
    struct str text;
};

/* Slices point into the message. */
struct pgoutput_message {
    enum pgoutput_kind kind;
    uint64_t commit_lsn;                                /* BEGIN, COMMIT */
    uint64_t end_lsn;                                   /* COMMIT */
    int64_t committed_at_us;                            /* BEGIN, COMMIT: since 1970 */
    uint32_t relation_id;                               /* RELATION, INSERT */
    struct str schema, name;                            /* RELATION */
    size_t column_count;                                /* RELATION, INSERT */
    struct str columns[PGOUTPUT_COLUMNS_MAX];           /* RELATION: names */
    struct pgoutput_value values[PGOUTPUT_COLUMNS_MAX]; /* INSERT */
};

MUST_CHECK enum err_code pgoutput_decode(struct str bytes, struct pgoutput_message *out,
                                         struct err *err);

/* "2026-01-31 12:00:00.5+00", as timestamptz is printed with DateStyle ISO. */
MUST_CHECK bool pgoutput_parse_time(struct str text, int64_t *wall_us);

#endif
