/* activity: per day (UTC), currency and partition: how many accounts were opened and closed, how
 * much went in and out. Partitions have rows of their own, so that replicas never write the same
 * row; readers sum over them. */
#include "common/domain/account.h"
#include "common/ports/projection.h"

extern const struct projection activity_projection;

enum { DAY, PARTITION, CURRENCY, OPENED, CLOSED, DEPOSITS, WITHDRAWALS, DEPOSITED, WITHDRAWN };

static const struct model_column columns[] = {
    [DAY] = {"day", COLUMN_DATE, MERGE_SET},
    [PARTITION] = {"topic_partition", COLUMN_I64, MERGE_SET},
    [CURRENCY] = {"currency", COLUMN_TEXT, MERGE_SET},
    [OPENED] = {"opened", COLUMN_I64, MERGE_ADD},
    [CLOSED] = {"closed", COLUMN_I64, MERGE_ADD},
    [DEPOSITS] = {"deposits", COLUMN_I64, MERGE_ADD},
    [WITHDRAWALS] = {"withdrawals", COLUMN_I64, MERGE_ADD},
    [DEPOSITED] = {"deposited_minor", COLUMN_I64, MERGE_ADD},
    [WITHDRAWN] = {"withdrawn_minor", COLUMN_I64, MERGE_ADD},
};

static const struct model_table activity = {
    .name = "activity",
    .columns = columns,
    .column_count = ARRAY_LEN(columns),
    .key_count = 3,
    .version_column = -1,
    .stores = STORE_PG,
    .partition_column = PARTITION,
};

/* Sums don't tell which events they hold. */
enum { STREAM_ID, STREAM_VERSION };

static const struct model_column stream_columns[] = {
    [STREAM_ID] = {"account_id", COLUMN_TEXT, MERGE_SET},
    [STREAM_VERSION] = {"version", COLUMN_I64, MERGE_SET},
};

static const struct model_table streams = {
    .name = "activity_streams",
    .columns = stream_columns,
    .column_count = ARRAY_LEN(stream_columns),
    .key_count = 1,
    .version_column = STREAM_VERSION,
    .stores = STORE_PG,
};
static const struct model_table *const tables[] = {&activity, &streams};

static void project(const struct projected_event *e, struct emitter *emitter) {
    const int64_t day_us = INT64_C(86400000000);
    const void *data = e->event->data.bytes;

    struct row *stream = emit_row(emitter, &streams);

    row_text(stream, STREAM_ID, e->recorded->stream_id);
    row_i64(stream, STREAM_VERSION, e->recorded->version);
    struct row *row = emit_row(emitter, &activity);
    row_i64(row, DAY, e->recorded->recorded_at_us / day_us);
    row_i64(row, PARTITION, e->partition);
    for (int column = OPENED; column <= WITHDRAWN; column++) {
        row_i64(row, column, 0);
    }
    switch ((enum account_event)(e->event->type - account_event_types)) {
    case ACCOUNT_CREATED:
        row_text(row, CURRENCY, str_from(((const struct account_created *)data)->currency));
        row_i64(row, OPENED, 1);
        break;
    case MONEY_DEPOSITED:
        row_text(row, CURRENCY, str_from(((const struct money_moved *)data)->currency));
        row_i64(row, DEPOSITS, 1);
        row_i64(row, DEPOSITED, ((const struct money_moved *)data)->amount_minor);
        break;
    case MONEY_WITHDRAWN:
        row_text(row, CURRENCY, str_from(((const struct money_moved *)data)->currency));
        row_i64(row, WITHDRAWALS, 1);
        row_i64(row, WITHDRAWN, ((const struct money_moved *)data)->amount_minor);
        break;
    case ACCOUNT_CLOSED_EVENT:
        row_text(row, CURRENCY, str_from(((const struct account_closed *)data)->currency));
        row_i64(row, CLOSED, 1);
        break;
    case ACCOUNT_EVENTS:
        break;
    }
}

const struct projection activity_projection = {
    .name = "activity",
    .version = 1,
    .aggregate = &account_aggregate,
    .tables = tables,
    .table_count = ARRAY_LEN(tables),
    .heads = &streams,
    .project = project,
};
