-- A smaller sample will do for a table that was just made: its rows are found by their keys, and ANALYZE is part of
-- what a rebuild waits for. Autovacuum takes the usual one when the table has changed.
ALTER FUNCTION daybook.build_seal(text[]) SET default_statistics_target = 25;
