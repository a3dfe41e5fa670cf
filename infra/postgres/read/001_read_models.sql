-- Read models: posted from the log by the projectors, never the truth. Each can be emptied and made again.
--
-- A projection's rows and its checkpoint change in one transaction. Each row carries the version of the last event
-- that it reflects.

CREATE SCHEMA daybook;

-- Where each projection stands in each partition. next_offset is the first Kafka offset not yet applied.
CREATE TABLE daybook.checkpoints (
    projection   text        NOT NULL,
    topic_partition integer  NOT NULL CHECK (topic_partition >= 0),
    next_offset  bigint      NOT NULL CHECK (next_offset >= 0),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, topic_partition)
) WITH (fillfactor = 50);

-- The last version of each stream that each projection has applied: how duplicates and gaps are told apart.
CREATE TABLE daybook.stream_heads (
    projection     text   NOT NULL,
    stream_id      text   NOT NULL,
    aggregate_type text   NOT NULL,
    version        bigint NOT NULL,
    PRIMARY KEY (projection, stream_id, aggregate_type)
) WITH (fillfactor = 80);

CREATE TABLE daybook.accounts (
    account_id    text        PRIMARY KEY,
    version       bigint      NOT NULL,
    status        text        NOT NULL,
    currency      text        NOT NULL,
    owner         text        NOT NULL,
    balance_minor bigint      NOT NULL,
    opened_at     timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL
) WITH (fillfactor = 80);

-- One line per event of an account, with the balance after it.
CREATE TABLE daybook.statements (
    account_id    text        NOT NULL,
    version       bigint      NOT NULL,
    kind          text        NOT NULL,
    amount_minor  bigint      NOT NULL,
    balance_minor bigint      NOT NULL,
    currency      text        NOT NULL,
    event_id      uuid        NOT NULL,
    recorded_at   timestamptz NOT NULL,
    PRIMARY KEY (account_id, version)
);

-- Per day (UTC) and partition; readers sum over the partitions.
CREATE TABLE daybook.activity (
    day             date   NOT NULL,
    topic_partition integer NOT NULL,
    currency        text   NOT NULL,
    opened          bigint NOT NULL DEFAULT 0,
    closed          bigint NOT NULL DEFAULT 0,
    deposits        bigint NOT NULL DEFAULT 0,
    withdrawals     bigint NOT NULL DEFAULT 0,
    deposited_minor numeric(38, 0) NOT NULL DEFAULT 0,
    withdrawn_minor numeric(38, 0) NOT NULL DEFAULT 0,
    PRIMARY KEY (day, topic_partition, currency)
) WITH (fillfactor = 50);

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA daybook TO daybook_projector, daybook_query;
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA daybook TO daybook_projector;
GRANT SELECT ON daybook.checkpoints, daybook.accounts, daybook.statements, daybook.activity TO daybook_query;
