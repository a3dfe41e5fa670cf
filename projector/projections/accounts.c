/* accounts: each account as it is now. For balances, status and lists. */
#include "common/domain/account.h"
#include "common/ports/projection.h"

extern const struct projection accounts_projection;

enum { ID, VERSION, STATUS, CURRENCY, OWNER, BALANCE, OPENED_AT, UPDATED_AT };

static const struct model_column columns[] = {
    [ID] = {"account_id", COLUMN_TEXT, MERGE_SET},
    [VERSION] = {"version", COLUMN_I64, MERGE_SET},
    [STATUS] = {"status", COLUMN_TEXT, MERGE_SET},
    [CURRENCY] = {"currency", COLUMN_TEXT, MERGE_SET},
    [OWNER] = {"owner", COLUMN_TEXT, MERGE_SET},
    [BALANCE] = {"balance_minor", COLUMN_I64, MERGE_SET},
    [OPENED_AT] = {"opened_at", COLUMN_TIME, MERGE_SET},
    [UPDATED_AT] = {"updated_at", COLUMN_TIME, MERGE_SET},
};

static const struct model_table accounts = {
    .name = "accounts",
    .columns = columns,
    .column_count = ARRAY_LEN(columns),
    .key_count = 1,
    .version_column = VERSION,
    .stores = STORE_PG | STORE_REDIS,
    .redis_prefix = "account",
};
static const struct model_table *const tables[] = {&accounts};

static void project(const struct projected_event *e, struct emitter *emitter) {
    struct row *row = emit_row(emitter, &accounts);
    const void *data = e->event->data.bytes;

    row_text(row, ID, e->recorded->stream_id);
    row_i64(row, VERSION, e->recorded->version);
    row_i64(row, UPDATED_AT, e->recorded->recorded_at_us);
    switch ((enum account_event)(e->event->type - account_event_types)) {
    case ACCOUNT_CREATED: {
        const struct account_created *created = data;
        row_text(row, STATUS, STR("open"));
        row_text(row, CURRENCY, str_from(created->currency));
        row_text(row, OWNER, str_from(created->owner));
        row_i64(row, BALANCE, 0);
        row_i64(row, OPENED_AT, e->recorded->recorded_at_us);
        break;
    }
    case MONEY_DEPOSITED:
    case MONEY_WITHDRAWN:
        row_i64(row, BALANCE, ((const struct money_moved *)data)->balance_minor);
        break;
    case ACCOUNT_CLOSED_EVENT:
        row_text(row, STATUS, STR("closed"));
        break;
    case ACCOUNT_EVENTS:
        break;
    }
}

const struct projection accounts_projection = {
    .name = "accounts",
    .version = 2,
    .aggregate = &account_aggregate,
    .tables = tables,
    .table_count = ARRAY_LEN(tables),
    .heads = &accounts,
    .project = project,
    .awaited = STORE_REDIS,
};
