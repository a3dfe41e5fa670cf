-- How far the relay has ever told the server to forget the log. A slot that stands further was advanced or made by
-- somebody else: what lies before it may not be in Kafka. Written before the server is told.

ALTER TABLE daybook.relay_state ADD COLUMN confirmed pg_lsn NOT NULL DEFAULT '0/0';

-- A slot that an earlier version of the relay has confirmed is trusted once.
UPDATE daybook.relay_state r SET confirmed = s.confirmed_flush_lsn
FROM pg_replication_slots s WHERE s.slot_name = r.slot AND s.confirmed_flush_lsn IS NOT NULL;
