-- Models that can be rebuilt beside the live ones, parked streams, checkpoints that tell more.
--
-- stage 'live' is what readers see; 'build' is the same of a model that is being rebuilt in the schema daybook_build.
-- The functions at the end are all that a projector may do to tables as such: it owns none.

ALTER TABLE daybook.checkpoints
    ADD COLUMN stage   text   NOT NULL DEFAULT 'live' CHECK (stage IN ('live', 'build')),
    -- Of the projection's code that wrote the rows.
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    -- Raised by every change that doesn't come from the log, so that the replicas look again.
    ADD COLUMN epoch   bigint NOT NULL DEFAULT 0,
    DROP CONSTRAINT checkpoints_pkey,
    ADD PRIMARY KEY (projection, stage, topic_partition);

-- How far the activity of each account is counted. The other projections' own rows tell that.
CREATE TABLE daybook.activity_streams (
    account_id text   PRIMARY KEY,
    version    bigint NOT NULL
) WITH (fillfactor = 80);
INSERT INTO daybook.activity_streams (account_id, version)
    SELECT stream_id, version FROM daybook.stream_heads WHERE projection = 'activity' AND aggregate_type = 'account';
DROP TABLE daybook.stream_heads;

-- Events that could not be applied (reason), and those behind them in their streams (no reason), until an operator
-- has them applied or declares them void.
CREATE TABLE daybook.parked_events (
    projection      text        NOT NULL,
    stage           text        NOT NULL,
    topic_partition integer     NOT NULL,
    stream_id       text        NOT NULL,
    topic_offset    bigint      NOT NULL,
    version         bigint      NOT NULL,
    event_type      text        NOT NULL,
    event_id        uuid        NOT NULL,
    payload         bytea       NOT NULL,
    recorded_at     timestamptz NOT NULL,
    reason          text,
    parked_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, stage, topic_partition, stream_id, topic_offset)
);

-- Versions that count as applied although they never were.
CREATE TABLE daybook.void_versions (
    projection      text        NOT NULL,
    topic_partition integer     NOT NULL,
    stream_id       text        NOT NULL,
    first_version   bigint      NOT NULL,
    last_version    bigint      NOT NULL CHECK (last_version >= first_version),
    declared_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, stream_id, first_version)
);

CREATE SCHEMA daybook_build;

-- Fresh tables beside the live ones, without what a former attempt left. Those listed in `bulk` get their keys and
-- indexes when they are full (build_seal), the others at once.
CREATE FUNCTION daybook.build_begin(p_projection text, tables text[], bulk text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t text;
BEGIN
    DELETE FROM daybook.checkpoints WHERE projection = p_projection AND stage = 'build';
    DELETE FROM daybook.parked_events WHERE projection = p_projection AND stage = 'build';
    FOREACH t IN ARRAY tables LOOP
        EXECUTE format('DROP TABLE IF EXISTS daybook_build.%I', t);
        EXECUTE format('CREATE TABLE daybook_build.%I (LIKE daybook.%I INCLUDING ALL EXCLUDING INDEXES)', t, t);
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

-- The live table's primary key and indexes for the new one.
CREATE FUNCTION daybook.build_indexes(t text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    i record;
BEGIN
    FOR i IN SELECT x.indexrelid, x.indisprimary, pg_get_indexdef(x.indexrelid) AS def, c.relname,
                    (SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k
                     WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u') LIMIT 1) AS constraint_def
             FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
             WHERE x.indrelid = format('daybook.%I', t)::regclass
    LOOP
        IF i.constraint_def IS NOT NULL THEN
            EXECUTE format('ALTER TABLE daybook_build.%I ADD CONSTRAINT %I %s', t, i.relname, i.constraint_def);
        ELSE
            EXECUTE replace(i.def, ' ON daybook.', ' ON daybook_build.');
        END IF;
    END LOOP;
END
$$;

CREATE FUNCTION daybook.build_seal(tables text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY tables LOOP
        IF NOT EXISTS (SELECT FROM pg_index WHERE indrelid = format('daybook_build.%I', t)::regclass) THEN
            PERFORM daybook.build_indexes(t);
        END IF;
        EXECUTE format('ANALYZE daybook_build.%I', t);
    END LOOP;
END
$$;

-- The new model in the place of the old one, to be called with the live checkpoints locked. Readers wait for the
-- moment; what they prepared is planned anew by the server.
CREATE FUNCTION daybook.build_switch(p_projection text, tables text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t text;
    g record;
    raised bigint := coalesce((SELECT max(epoch) FROM daybook.checkpoints WHERE projection = p_projection), 0) + 1;
BEGIN
    FOREACH t IN ARRAY tables LOOP
        FOR g IN SELECT a.grantee::regrole AS role, a.privilege_type AS privilege
                 FROM pg_class c, aclexplode(c.relacl) a
                 WHERE c.oid = format('daybook.%I', t)::regclass AND a.grantee <> 0 AND a.grantee <> c.relowner
        LOOP
            EXECUTE format('GRANT %s ON daybook_build.%I TO %s', g.privilege, t, g.role);
        END LOOP;
        EXECUTE format('ALTER TABLE daybook_build.%I RESET (autovacuum_enabled)', t);
        EXECUTE format('DROP TABLE daybook.%I', t);
        EXECUTE format('ALTER TABLE daybook_build.%I SET SCHEMA daybook', t);
    END LOOP;
    DELETE FROM daybook.checkpoints WHERE projection = p_projection AND stage = 'live';
    UPDATE daybook.checkpoints SET stage = 'live', epoch = raised WHERE projection = p_projection AND stage = 'build';
    DELETE FROM daybook.parked_events WHERE projection = p_projection AND stage = 'live';
    UPDATE daybook.parked_events SET stage = 'live' WHERE projection = p_projection AND stage = 'build';
END
$$;

-- A rebuild that was given up.
CREATE FUNCTION daybook.build_drop(p_projection text, tables text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY tables LOOP
        EXECUTE format('DROP TABLE IF EXISTS daybook_build.%I', t);
    END LOOP;
    DELETE FROM daybook.checkpoints WHERE projection = p_projection AND stage = 'build';
    DELETE FROM daybook.parked_events WHERE projection = p_projection AND stage = 'build';
END
$$;

REVOKE ALL ON FUNCTION daybook.build_begin, daybook.build_indexes, daybook.build_seal, daybook.build_switch,
    daybook.build_drop FROM PUBLIC;
GRANT EXECUTE ON FUNCTION daybook.build_begin, daybook.build_seal, daybook.build_switch, daybook.build_drop
    TO daybook_projector;
GRANT USAGE ON SCHEMA daybook_build TO daybook_projector;
GRANT SELECT, INSERT, UPDATE, DELETE ON daybook.activity_streams, daybook.parked_events, daybook.void_versions
    TO daybook_projector;
