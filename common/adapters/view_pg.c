#include "common/adapters/view_pg.h"

#include "common/adapters/view_pg_sql.h"
#include "common/base/mem.h"

struct read_job {
    struct pg_job base;
    struct row_query query;
    char id[STREAM_ID_BYTES_MAX + 1]; /* what query.id points to */
    row_view_fn *done;
    void *arg;
    struct row_result result;
};

static struct read_job *self_of(struct pg_job *job) {
    return (struct read_job *)(void *)job;
}

static enum err_code run_read(struct pg_job *base, struct pg_conn *connection, struct err *err) {
    struct read_job *job = self_of(base);

    return view_pg_sql_run(connection, &job->query, &job->result, err);
}

static void hand_over(struct pg_job *base) {
    struct read_job *job = self_of(base);

    job->result.code = base->code;
    job->done(job->arg, &job->result);
}

static void free_read(struct pg_job *base) {
    struct read_job *job = self_of(base);

    row_result_release(&job->result);
    mem_free(job);
}

static enum err_code start_read(void *self, const struct row_query *query, row_view_fn *done,
                                void *arg) {
    struct read_job *job = mem_zalloc(sizeof(*job));
    enum err_code code = ERR_INVALID;

    *job = (struct read_job){.query = *query, .done = done, .arg = arg};
    job->base = (struct pg_job){.run = run_read, .done = hand_over, .free = free_read};
    if (str_copy(job->id, sizeof(job->id), query->id)) {
        job->query.id = str_of(job->id, query->id.len);
        code = pg_pool_queue(self, &job->base);
    }
    if (code != ERR_OK) {
        mem_free(job);
    }
    return code;
}

enum err_code view_pg_start(struct pg_pool_options options, struct pg_pool **out, struct err *err) {
    options.setup_sql = view_pg_sql_setup;
    options.statements = view_pg_sql_statements;
    options.statement_count = view_pg_sql_statement_count;
    options.metrics_labels = "database=\"read\"";
    return pg_pool_start(&options, out, err);
}

struct row_view view_pg_rows(struct pg_pool_client *client) {
    return (struct row_view){.self = client, .read = start_read};
}
