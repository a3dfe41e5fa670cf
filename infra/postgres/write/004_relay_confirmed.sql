-- How far the relay has ever told the server to forget the log. A slot that stands further was advanced or made by
-- somebody else: what lies before it may not be in Kafka. Written before the server is told.
--
-- NULL: an earlier version of the relay wrote the row, and may still be moving the slot; it is trusted until the
-- first relay that knows the column takes over.

ALTER TABLE daybook.relay_state ADD COLUMN confirmed pg_lsn;
