-- The log. Everything else in the system can be lost and made again from this table.
--
-- 1. Append-only: no service role may UPDATE, DELETE or TRUNCATE, and a trigger refuses it for everyone else, also
--    under session_replication_role = replica (ENABLE ALWAYS).
-- 2. Per stream, versions are unique; the appender writes last + 1, so they have no gap.
-- 3. position comes from a sequence: it may have gaps, and a smaller one may become visible after a larger one.
--    Readers that page by it must look only below the oldest running transaction (transaction_id). The relay never
--    reads by position: it follows the WAL.

CREATE SCHEMA daybook;

CREATE TABLE daybook.events (
    position       bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    transaction_id xid8        NOT NULL DEFAULT pg_current_xact_id(),
    event_id       uuid        NOT NULL,
    aggregate_type text        NOT NULL,
    stream_id      text        NOT NULL,
    version        bigint      NOT NULL CHECK (version > 0),
    event_type     text        NOT NULL,
    schema_version integer     NOT NULL CHECK (schema_version > 0),
    payload        json        NOT NULL,
    correlation_id text,
    causation_id   text,
    actor          text,
    traceparent    text,
    command        text,
    recorded_at    timestamptz NOT NULL,
    CONSTRAINT events_stream_version PRIMARY KEY (stream_id, aggregate_type, version),
    CONSTRAINT events_event_id UNIQUE (event_id),
    CONSTRAINT events_position UNIQUE (position)
);

-- A table that only grows is vacuumed by inserts alone; analyse it often enough that range scans stay index scans.
ALTER TABLE daybook.events SET (autovacuum_analyze_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1);

CREATE FUNCTION daybook.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'daybook.% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON daybook.events
    FOR EACH STATEMENT EXECUTE FUNCTION daybook.refuse_change();
ALTER TABLE daybook.events ENABLE ALWAYS TRIGGER events_append_only;

-- What was answered to a command that carried an Idempotency-Key, accepted or rejected; written in the transaction of
-- its events, kept for ever. The key's scope is the stream.
CREATE TABLE daybook.command_outcomes (
    stream_id       text        NOT NULL,
    aggregate_type  text        NOT NULL,
    idempotency_key text        NOT NULL,
    request_hash    bigint      NOT NULL,
    status          smallint    NOT NULL,
    version         bigint      NOT NULL,
    body            text        NOT NULL,
    recorded_at     timestamptz NOT NULL,
    CONSTRAINT command_outcomes_key PRIMARY KEY (stream_id, aggregate_type, idempotency_key)
);
CREATE TRIGGER command_outcomes_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON daybook.command_outcomes
    FOR EACH STATEMENT EXECUTE FUNCTION daybook.refuse_change();
ALTER TABLE daybook.command_outcomes ENABLE ALWAYS TRIGGER command_outcomes_append_only;

-- What the relay subscribes to. Only inserts exist.
CREATE PUBLICATION daybook_events FOR TABLE daybook.events WITH (publish = 'insert');

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA daybook TO daybook_command, daybook_relay, daybook_query;
GRANT SELECT, INSERT ON daybook.events, daybook.command_outcomes TO daybook_command;
GRANT SELECT ON daybook.events TO daybook_relay, daybook_query;
