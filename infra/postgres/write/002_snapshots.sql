-- The state of a stream as of one of its events, so that a long stream need not be folded from its beginning. Never
-- needed for correctness: a snapshot whose layout, event or checksum is not what it should be is ignored and replaced,
-- and all of them can be deleted at any time.
CREATE TABLE daybook.snapshots (
    stream_id      text COLLATE "C" NOT NULL,
    aggregate_type text COLLATE "C" NOT NULL,
    version        bigint      NOT NULL,
    event_id       uuid        NOT NULL, -- of that version's event: tells another log's snapshot
    recorded_at    timestamptz NOT NULL, -- of that event
    layout         bigint      NOT NULL, -- fingerprint of the state's fields
    checksum       bigint      NOT NULL,
    state          text        NOT NULL, -- JSON
    CONSTRAINT snapshots_stream PRIMARY KEY (stream_id, aggregate_type)
) WITH (fillfactor = 50); -- replaced in place, again and again

-- Keys compare as bytes: that is what they are, and the indexes need no locale then.
ALTER TABLE daybook.events ALTER COLUMN stream_id TYPE text COLLATE "C",
                           ALTER COLUMN aggregate_type TYPE text COLLATE "C";
ALTER TABLE daybook.command_outcomes ALTER COLUMN stream_id TYPE text COLLATE "C",
                                     ALTER COLUMN aggregate_type TYPE text COLLATE "C",
                                     ALTER COLUMN idempotency_key TYPE text COLLATE "C";

GRANT SELECT, INSERT, UPDATE ON daybook.snapshots TO daybook_command;
