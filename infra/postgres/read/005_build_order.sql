-- Keys are ordered by their bytes in tables that are built anew: the database's own order, C.UTF-8, is the same one, but
-- asked of the C library for every comparison, which makes the index over a rebuilt table a fifth dearer. A table that
-- has rows keeps its columns until its next rebuild; one that is empty gets them now.
CREATE FUNCTION daybook.order_keys_by_bytes(place text, t text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    c record;
BEGIN
    FOR c IN SELECT DISTINCT a.attname FROM pg_index x JOIN pg_attribute a
                 ON a.attrelid = x.indrelid AND a.attnum = ANY (x.indkey::smallint[])
             WHERE x.indrelid = format('daybook.%I', t)::regclass
               AND a.atttypid = 'text'::regtype AND a.attcollation = 'default'::regcollation
    LOOP
        EXECUTE format('ALTER TABLE %I.%I ALTER %I TYPE text COLLATE "C"', place, t, c.attname);
    END LOOP;
END
$$;

-- As in 002, with the columns' order.
CREATE OR REPLACE FUNCTION daybook.build_begin(p_projection text, tables text[], bulk text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t text;
BEGIN
    DELETE FROM daybook.checkpoints WHERE projection = p_projection AND stage = 'build';
    DELETE FROM daybook.parked_events WHERE projection = p_projection AND stage = 'build';
    FOREACH t IN ARRAY tables LOOP
        EXECUTE format('DROP TABLE IF EXISTS daybook_build.%I', t);
        EXECUTE format('CREATE TABLE daybook_build.%I (LIKE daybook.%I INCLUDING ALL EXCLUDING INDEXES)', t, t);
        PERFORM daybook.order_keys_by_bytes('daybook_build', t);
        EXECUTE (SELECT format('ALTER TABLE daybook_build.%I SET (autovacuum_enabled = false%s)', t,
                               coalesce(', ' || array_to_string(reloptions, ', '), ''))
                 FROM pg_class WHERE oid = format('daybook.%I', t)::regclass);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON daybook_build.%I TO daybook_projector', t);
        IF t <> ALL (bulk) THEN
            PERFORM daybook.build_indexes(t);
        END IF;
    END LOOP;
END
$$;

DO $$
DECLARE
    t text;
    filled boolean;
BEGIN
    FOREACH t IN ARRAY ARRAY['accounts', 'statements', 'activity', 'activity_streams'] LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM daybook.%I)', t) INTO filled;
        IF NOT filled THEN
            PERFORM daybook.order_keys_by_bytes('daybook', t);
        END IF;
    END LOOP;
END
$$;

-- A rebuild waits for what is found out here, and autovacuum finds out more soon after: see 004.
ALTER FUNCTION daybook.build_seal(text[]) SET default_statistics_target = 10;

REVOKE ALL ON FUNCTION daybook.order_keys_by_bytes FROM PUBLIC;
