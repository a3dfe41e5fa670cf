/* A builder in PostgreSQL: fresh tables in the schema daybook_build, loaded by COPY, renamed in one
 * transaction (infra/postgres/read/002_models.sql). */
#ifndef DAYBOOK_ADAPTERS_BUILDER_PG_H
#define DAYBOOK_ADAPTERS_BUILDER_PG_H

#include "common/base/log.h"
#include "common/ports/model_builder.h"

struct builder_pg_options {
    const char *url; /* borrowed */
    const struct projection *projection;
    int64_t connect_timeout_ms;
    int64_t statement_timeout_ms;
    struct log *log;
};

struct model_builder *builder_pg_new(const struct builder_pg_options *options);

#endif
