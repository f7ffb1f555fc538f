-- What is set here at run time and acted on by the edges, which hold no database credentials: the leader mirrors it into
-- Redis, sheet by sheet.

-- A sheet's version rises with every change of what is on it, in the same transaction.
CREATE TABLE rowcast.mirror (
    sheet   text   PRIMARY KEY,
    version bigint NOT NULL DEFAULT 1 CHECK (version > 0)
);
INSERT INTO rowcast.mirror (sheet) VALUES ('switches');

-- Switches, all on to begin with.
CREATE TABLE rowcast.switches (
    name       text        PRIMARY KEY,
    is_on      boolean     NOT NULL DEFAULT true,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO rowcast.switches (name) VALUES ('websocket');

-- Something on a sheet (the trigger's argument) has changed: tells the leader, when this transaction commits.
CREATE FUNCTION rowcast.sheet_changed() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE rowcast.mirror SET version = version + 1 WHERE sheet = TG_ARGV[0];
    PERFORM pg_notify('rowcast_control', TG_ARGV[0]);
    RETURN NULL;
END
$$;

CREATE TRIGGER changed AFTER UPDATE ON rowcast.switches FOR EACH ROW
    WHEN (old.is_on IS DISTINCT FROM new.is_on) EXECUTE FUNCTION rowcast.sheet_changed('switches');

-- Turns a switch. Says whether that changed anything: to say the same again is harmless.
CREATE FUNCTION rowcast.set_switch(name text, is_on boolean) RETURNS boolean
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
AS $$
#variable_conflict use_variable
BEGIN
    IF is_on IS NULL THEN
        RAISE EXCEPTION 'rowcast: a switch is on or off' USING ERRCODE = 'null_value_not_allowed';
    ELSIF NOT EXISTS (SELECT FROM rowcast.switches AS s WHERE s.name = name) THEN
        RAISE EXCEPTION 'rowcast: there is no switch %; there are: %', coalesce(quote_ident(name), 'NULL'),
                (SELECT string_agg(s.name, ', ' ORDER BY s.name) FROM rowcast.switches AS s)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE rowcast.switches AS s SET is_on = set_switch.is_on, changed_at = clock_timestamp()
     WHERE s.name = name AND s.is_on <> set_switch.is_on;
    RETURN FOUND;
END
$$;

REVOKE EXECUTE ON FUNCTION rowcast.sheet_changed(), rowcast.set_switch(text, boolean) FROM PUBLIC;
GRANT USAGE ON SCHEMA rowcast TO rowcast_operator;
GRANT EXECUTE ON FUNCTION rowcast.set_switch(text, boolean) TO rowcast_operator;
GRANT SELECT, UPDATE (is_on, changed_at) ON rowcast.switches TO rowcast_operator;
GRANT SELECT, UPDATE (version) ON rowcast.mirror TO rowcast_operator;
GRANT SELECT ON rowcast.switches, rowcast.mirror TO rowcast_listener;
