-- What the relay remembers of its topic, one row per replication slot, written by the slot's holder alone.
--
-- 1. Every event whose transaction_id is below published_below was in Kafka when the row was written.
-- 2. offsets[p + 1] is the offset of a record that was in partition p then; the slot is never confirmed beyond
--    what the row covers. A topic that ends before it has lost records.
-- 3. incarnation counts how often the place in the log was lost; records carry it.

CREATE TABLE daybook.relay_state (
    slot            text PRIMARY KEY,
    system          text        NOT NULL, -- the cluster's identifier: transaction ids mean nothing in another one
    incarnation     bigint      NOT NULL DEFAULT 0,
    published_below xid8        NOT NULL DEFAULT '0',
    offsets         bigint[]    NOT NULL DEFAULT '{}',
    holder          text        NOT NULL, -- machine and process
    released        boolean     NOT NULL DEFAULT false, -- nothing of this holder is on its way any more
    updated_at      timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

GRANT SELECT, INSERT, UPDATE ON daybook.relay_state TO daybook_relay;
