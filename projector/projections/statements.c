/* statements: one line per event of an account with the balance after it: all of them in
 * PostgreSQL, for history and the past; the newest ones in Redis. */
#include "common/domain/account.h"
#include "common/ports/projection.h"

extern const struct projection statements_projection;

enum { ID, VERSION, KIND, AMOUNT, BALANCE, CURRENCY, EVENT_ID, RECORDED_AT };

static const struct model_column columns[] = {
    [ID] = {"account_id", COLUMN_TEXT, MERGE_SET},
    [VERSION] = {"version", COLUMN_I64, MERGE_SET},
    [KIND] = {"kind", COLUMN_TEXT, MERGE_SET},
    [AMOUNT] = {"amount_minor", COLUMN_I64, MERGE_SET},
    [BALANCE] = {"balance_minor", COLUMN_I64, MERGE_SET},
    [CURRENCY] = {"currency", COLUMN_TEXT, MERGE_SET},
    [EVENT_ID] = {"event_id", COLUMN_UUID, MERGE_SET},
    [RECORDED_AT] = {"recorded_at", COLUMN_TIME, MERGE_SET},
};

static const struct model_table statements = {
    .name = "statements",
    .columns = columns,
    .column_count = ARRAY_LEN(columns),
    .key_count = 2,
    .version_column = VERSION,
    .stores = STORE_PG | STORE_REDIS,
    .redis_prefix = "statement",
    .redis_list_max = 100,
    .append_only = true,
};
static const struct model_table *const tables[] = {&statements};

static void project(const struct projected_event *e, struct emitter *emitter) {
    struct str kind = STR("opened");
    struct str currency = {0};
    int64_t amount_minor = 0;
    int64_t balance_minor = 0;
    const void *data = e->event->data.bytes;

    switch ((enum account_event)(e->event->type - account_event_types)) {
    case ACCOUNT_CREATED:
        currency = str_from(((const struct account_created *)data)->currency);
        break;
    case MONEY_DEPOSITED:
    case MONEY_WITHDRAWN: {
        const struct money_moved *moved = data;
        kind = e->event->type == &account_event_types[MONEY_DEPOSITED] ? STR("deposit")
                                                                       : STR("withdrawal");
        currency = str_from(moved->currency);
        amount_minor = moved->amount_minor;
        balance_minor = moved->balance_minor;
        break;
    }
    case ACCOUNT_CLOSED_EVENT:
        kind = STR("closed");
        currency = str_from(((const struct account_closed *)data)->currency);
        break;
    case ACCOUNT_EVENTS:
        return;
    }
    struct row *row = emit_row(emitter, &statements);
    row_text(row, ID, e->recorded->stream_id);
    row_i64(row, VERSION, e->recorded->version);
    row_text(row, KIND, kind);
    row_i64(row, AMOUNT, amount_minor);
    row_i64(row, BALANCE, balance_minor);
    row_text(row, CURRENCY, currency);
    row_uuid(row, EVENT_ID, &e->recorded->event_id);
    row_i64(row, RECORDED_AT, e->recorded->recorded_at_us);
}

const struct projection statements_projection = {
    .name = "statements",
    .version = 1,
    .aggregate = &account_aggregate,
    .tables = tables,
    .table_count = ARRAY_LEN(tables),
    .heads = &statements,
    .project = project,
};
