/* moves: how often each account's balance has moved, times the projection's version, so that a test
 * can tell which version wrote a row. MOVES_VERSION raises it, as a new program would. */
#include <stdlib.h>

#include "common/domain/account.h"
#include "common/ports/projection.h"

enum { ID, VERSION, MOVES };

static const struct model_column columns[] = {
    [ID] = {"account_id", COLUMN_TEXT, MERGE_SET},
    [VERSION] = {"version", COLUMN_I64, MERGE_SET},
    [MOVES] = {"moves", COLUMN_I64, MERGE_ADD},
};

static const struct model_table moves = {
    .name = "moves",
    .columns = columns,
    .column_count = ARRAY_LEN(columns),
    .key_count = 1,
    .version_column = VERSION,
    .stores = STORE_PG,
};
static const struct model_table *const tables[] = {&moves};

extern struct projection moves_projection;

static void project(const struct projected_event *e, struct emitter *emitter) {
    const long type = e->event->type - account_event_types;
    struct row *row = emit_row(emitter, &moves);

    row_text(row, ID, e->recorded->stream_id);
    row_i64(row, VERSION, e->recorded->version);
    row_i64(row, MOVES,
            type == MONEY_DEPOSITED || type == MONEY_WITHDRAWN ? moves_projection.version : 0);
}

struct projection moves_projection = {
    .name = "moves",
    .version = 1,
    .aggregate = &account_aggregate,
    .tables = tables,
    .table_count = ARRAY_LEN(tables),
    .heads = &moves,
    .project = project,
};

__attribute__((constructor)) static void take_version(void) {
    const char *version = getenv("MOVES_VERSION");

    if (version != NULL) {
        moves_projection.version = (int)strtol(version, NULL, 10);
    }
}
