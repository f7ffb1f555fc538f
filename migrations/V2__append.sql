-- The way into the outbox. Everything here belongs to rowcast_writer, whose only rights are to add rows.

-- Why a text can not be an event's type; NULL where it can.
CREATE FUNCTION rowcast.type_fault(type text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN type IS NULL OR octet_length(type) NOT BETWEEN 1 AND 150 THEN 'it must have 1 to 150 bytes'
        WHEN type IN ('connect', 'disconnect', 'connected', 'connect_error') THEN 'Socket.IO keeps it for itself'
        WHEN starts_with(type, 'rowcast.') THEN 'names that begin with "rowcast." are Rowcast''s own'
        WHEN type ~ '[[:cntrl:]]' THEN 'it must not contain control characters'
    END
$$;

-- Wakes the leader when this transaction commits, if it sleeps: rowcast.doorbell holds the time (ms since 1970) until
-- which it wants that, a few seconds from now. A committing NOTIFY holds a lock of the whole cluster, so nobody rings
-- in vain. Call it after inserting: by the lock on the outbox the leader finds those who looked before it went to sleep.
-- A session or role says SET rowcast.doorbell = off to stay silent. PREPARE TRANSACTION fails after a NOTIFY, so where
-- it is possible the leader reads on a timer instead, unless it is told 'on'.
CREATE FUNCTION rowcast.ring() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- An expression of functions alone costs half a microsecond; SELECT last_value FROM rowcast.doorbell ten times that.
    IF (pg_sequence_last_value('rowcast.doorbell') - (extract(epoch FROM clock_timestamp()) * 1000)::bigint
        BETWEEN 1 AND 10000) IS NOT TRUE THEN
        RETURN;
    END IF;
    CASE coalesce(current_setting('rowcast.doorbell', true), '')
        WHEN 'off' THEN RETURN;
        WHEN 'on' THEN NULL;
        ELSE
            IF current_setting('max_prepared_transactions') <> '0' THEN
                RETURN;
            END IF;
    END CASE;
    PERFORM pg_notify('rowcast', '');
END
$$;

-- The triggers' way in: what is inserted here goes into the outbox with the rights of rowcast_writer, which can only
-- add. A view, because a function would have to be handed the rows of a statement as an array: that is slower,
-- and an array ends at 1 GB. Its condition is planned with the statement that inserts.
CREATE VIEW rowcast.append AS
    SELECT room, type, data, changed, truncated FROM rowcast.outbox
     WHERE octet_length(room) BETWEEN 1 AND 200 AND octet_length(type) BETWEEN 1 AND 150 AND NOT starts_with(type, 'rowcast.')
      WITH CHECK OPTION;

-- Counts a changed row that gives no event, because its merchant can not name a room. Always false: it stands in a
-- WHERE clause, where it costs the others nothing.
CREATE FUNCTION rowcast.unusable_merchant() RETURNS boolean
LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$ SELECT nextval('rowcast.unusable_merchants') IS NULL $$;

-- The application's own event: it is sent if this transaction commits, and only then.
CREATE FUNCTION rowcast.publish(room text, type text, data json) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
BEGIN
    IF room IS NULL OR octet_length(room) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'rowcast: a room''s name has 1 to 200 bytes, this one has %', coalesce(octet_length(room), 0)
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF rowcast.type_fault(type) IS NOT NULL THEN
        RAISE EXCEPTION 'rowcast: "%" can not be an event''s type: %', type, rowcast.type_fault(type)
            USING ERRCODE = 'invalid_parameter_value';
    ELSIF data IS NULL THEN
        RAISE EXCEPTION 'rowcast: an event needs data' USING ERRCODE = 'null_value_not_allowed';
    ELSIF octet_length(data::text) > 262144 THEN
        RAISE EXCEPTION 'rowcast: an event''s data has at most 262144 bytes, this one has %', octet_length(data::text)
            USING ERRCODE = 'program_limit_exceeded';
    END IF;
    INSERT INTO rowcast.outbox (room, type, data) VALUES (room, type, data);
    PERFORM rowcast.ring();
END
$$;

-- Records that a trigger failed; `lost` says whether events were lost by it. Never fails itself.
--
-- A trigger that fails for good would fill the table, so a failure that is like another's of the last second adds no
-- record. It holds that one open instead, by a share lock to the end of its transaction: the leader must not settle a
-- loss before the transaction that suffered it has ended. Only READ COMMITTED sees what the others have recorded, so
-- elsewhere each transaction adds one.
CREATE FUNCTION rowcast.trigger_failed(relation oid, table_name text, operation text, state text, message text, lost boolean)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
#variable_conflict use_variable
DECLARE
    kind  CONSTANT text        := format('<%s %s %s>', relation, operation, lost);
    told  CONSTANT text        := coalesce(current_setting('rowcast.failed', true), '');
    since CONSTANT timestamptz := clock_timestamp() - interval '1 second';
BEGIN
    PERFORM nextval('rowcast.trigger_failures');
    IF position(kind IN told) > 0 THEN
        RETURN;
    END IF;
    IF current_setting('transaction_isolation') = 'read committed' THEN
        PERFORM FROM rowcast.trigger_error AS e
          WHERE e.occurred_at > since AND e.relation = relation AND e.operation = operation AND e.lost = lost AND NOT e.settled
          ORDER BY e.occurred_at DESC LIMIT 1 FOR SHARE SKIP LOCKED;
    END IF;
    IF current_setting('transaction_isolation') <> 'read committed' OR NOT FOUND THEN
        INSERT INTO rowcast.trigger_error (relation, table_name, operation, sqlstate, message, lost)
        VALUES (relation, table_name, operation, state, left(message, 1000), lost);
        PERFORM rowcast.ring();
    END IF;
    PERFORM set_config('rowcast.failed', told || kind, true);
EXCEPTION WHEN OTHERS THEN
    IF lost THEN
        PERFORM nextval('rowcast.unrecorded_failures');
    END IF;
    RAISE WARNING 'rowcast: a failed trigger of % could not be recorded: %', table_name, SQLERRM;
END
$$;

-- Asks that the generation be raised once this transaction has committed: everyone then fetches anew.
CREATE FUNCTION rowcast.request_raise(cause text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
BEGIN
    INSERT INTO rowcast.raise_request (cause) VALUES (left(cause, 200));
    PERFORM rowcast.ring();
END
$$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA rowcast FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rowcast.ring(), rowcast.type_fault(text) TO rowcast_writer;
GRANT EXECUTE ON FUNCTION rowcast.type_fault(text) TO rowcast_watcher;
GRANT EXECUTE ON FUNCTION rowcast.publish(text, text, json) TO rowcast_publisher;
-- A watcher passes these on to the owners of the tables that it watches.
GRANT INSERT ON rowcast.append TO rowcast_watcher WITH GRANT OPTION;
GRANT SELECT ON SEQUENCE rowcast.doorbell TO rowcast_watcher WITH GRANT OPTION;
GRANT EXECUTE ON FUNCTION rowcast.ring(), rowcast.unusable_merchant(), rowcast.request_raise(text),
    rowcast.trigger_failed(oid, text, text, text, text, boolean)
    TO rowcast_watcher WITH GRANT OPTION;

-- Handing something to rowcast_writer needs membership in it and its right to create here; a superuser needs
-- neither, and must not touch memberships that another database may be changing at the same time.
DO $$
DECLARE
    superuser boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
    f text;
BEGIN
    IF NOT superuser THEN
        IF NOT pg_has_role(current_user, 'rowcast_writer', 'MEMBER') OR current_setting('server_version_num')::int >= 160000 THEN
            EXECUTE format('GRANT rowcast_writer TO %I', current_user);
        END IF;
        GRANT CREATE ON SCHEMA rowcast TO rowcast_writer;
    END IF;
    ALTER VIEW rowcast.append OWNER TO rowcast_writer;
    FOREACH f IN ARRAY ARRAY[
        'ring()', 'publish(text, text, json)', 'request_raise(text)', 'unusable_merchant()',
        'trigger_failed(oid, text, text, text, text, boolean)'] LOOP
        EXECUTE format('ALTER FUNCTION rowcast.%s OWNER TO rowcast_writer', f);
    END LOOP;
    IF NOT superuser THEN
        REVOKE CREATE ON SCHEMA rowcast FROM rowcast_writer;
    END IF;
END
$$;
