-- What has changed about watched tables since they were watched, and the mending of what can be mended.

-- One row a finding. Kinds:
--   partition         a partition or child without the triggers: what is written to it by its own name is not sent
--   foreign           a foreign partition was attached: statements that reach it through the table fail
--   trigger_missing   somebody dropped a trigger
--   trigger_disabled  somebody disabled a trigger
--   column_missing    a watched column was dropped or renamed: the triggers fail
--   column_new        a column is there that is not sent
--   key               the primary key is another one
--   payload           the payload function is gone or has another owner: plain columns are sent
--   owner             the table has another owner than its triggers
--   rights            the owner may not append any more: the triggers fail
--   outdated          the triggers are not what they would be made now (a column's type changed, or Rowcast is newer)
--   detached          a table that is no part of a watched one any more still has its triggers, which do nothing
--   dropped           the table is gone
CREATE FUNCTION rowcast.drift() RETURNS TABLE (relation text, kind text, detail text)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE watched AS MATERIALIZED (
        SELECT w.relation AS root, w AS watch, c.relowner, w.*
          FROM rowcast.watches AS w JOIN pg_class AS c ON c.oid = w.relation
    ), family (root, member) AS (
        SELECT w.root::oid, w.root::oid FROM watched AS w
        UNION
        SELECT f.root, i.inhrelid FROM family AS f JOIN pg_inherits AS i ON i.inhparent = f.member
    ), ours AS MATERIALIZED (
        SELECT t.tgrelid, t.tgname::text, t.tgenabled, p.proowner, p.prosrc
          FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
         WHERE p.pronamespace = 'rowcast_triggers'::regnamespace AND NOT t.tgisinternal
    ), wanted AS MATERIALIZED (
        SELECT w.root, f.member::regclass AS member, w.relowner, c.relkind, o.operation, w.watch,
               t.tgrelid IS NOT NULL AS hangs, t.tgenabled, t.proowner, t.prosrc
          FROM watched AS w
          JOIN family AS f ON f.root = w.root
          JOIN pg_class AS c ON c.oid = f.member
         CROSS JOIN unnest(w.operations || 'truncate'::text) AS o (operation)
          LEFT JOIN ours AS t ON t.tgrelid = f.member AND t.tgname = 'rowcast_' || o.operation
    ), columns AS MATERIALIZED (
        SELECT w.root, a.attname::text AS name FROM watched AS w
          JOIN pg_attribute AS a ON a.attrelid = w.root AND a.attnum > 0 AND NOT a.attisdropped
    ), missing AS MATERIALIZED (
        SELECT w.root, name FROM watched AS w CROSS JOIN unnest(w.columns) AS n (name)
         WHERE NOT EXISTS (SELECT FROM columns AS c WHERE c.root = w.root AND c.name = n.name)
    ), found (relation, kind, detail) AS (
        SELECT member::text, CASE WHEN member = root THEN 'trigger_missing' ELSE 'partition' END,
               format('no trigger for %s', string_agg(operation, ', ' ORDER BY operation))
          FROM wanted WHERE NOT hangs AND relkind <> 'f' GROUP BY root, member
        UNION ALL
        SELECT DISTINCT member::text, 'foreign',
               format('a foreign table below %s: PostgreSQL refuses statements that reach it through there, and what is written '
                      'to it by its own name is not sent', root)
          FROM wanted WHERE relkind = 'f'
        UNION ALL
        SELECT member::text, 'trigger_disabled',
               format('the trigger for %s is disabled', string_agg(operation, ', ' ORDER BY operation))
          FROM wanted WHERE tgenabled IN ('D', 'R') GROUP BY member
        UNION ALL
        SELECT root::text, 'column_missing',
               format('there is no column %s any more', string_agg(format('%I', name), ', ' ORDER BY name))
          FROM missing GROUP BY root
        UNION ALL
        SELECT w.root::text, 'column_new', format('not sent: %s', string_agg(format('%I', c.name), ', ' ORDER BY c.name))
          FROM watched AS w JOIN columns AS c ON c.root = w.root
         WHERE w.all_columns AND c.name <> ALL (w.columns) GROUP BY w.root
        UNION ALL
        SELECT w.root::text, 'key',
               format('watched by %s, and the primary key is now %s', array_to_string(w.key_columns, ', '),
                      coalesce(array_to_string(k.names, ', '), 'gone'))
          FROM watched AS w
         CROSS JOIN LATERAL (
            SELECT (SELECT array_agg(a.attname::text ORDER BY k.n)
                      FROM pg_index AS i
                     CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, n)
                      JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                     WHERE i.indrelid = w.root AND i.indisprimary AND k.n <= i.indnkeyatts) AS names) AS k
         WHERE k.names IS DISTINCT FROM w.key_columns
           AND NOT EXISTS (SELECT FROM missing AS m WHERE m.root = w.root AND m.name = ANY (w.key_columns))
        UNION ALL
        SELECT w.root::text, 'payload',
               CASE WHEN p.oid IS NULL THEN format('the payload function %s is gone', w.payload)
                    ELSE format('the payload function %s belongs to %s', w.payload, p.proowner::regrole) END
          FROM watched AS w LEFT JOIN pg_proc AS p ON p.oid = w.payload
         WHERE w.payload IS NOT NULL AND p.proowner IS DISTINCT FROM w.relowner
        UNION ALL
        SELECT DISTINCT root::text, 'owner',
               format('it belongs to %s, its triggers'' functions to %s', relowner::regrole, proowner::regrole)
          FROM wanted WHERE member = root AND proowner <> relowner
        UNION ALL
        SELECT root::text, 'rights', format('%s may not append to the outbox', proowner::regrole)
          FROM wanted
         WHERE member = root AND operation = 'truncate' AND hangs
           AND NOT (has_schema_privilege(proowner, 'rowcast', 'USAGE') AND has_table_privilege(proowner, 'rowcast.append', 'INSERT')
                    AND has_sequence_privilege(proowner, 'rowcast.doorbell', 'SELECT'))
        UNION ALL
        SELECT w.root::text, 'outdated',
               format('the trigger for %s is of another making', string_agg(w.operation, ', ' ORDER BY w.operation))
          FROM wanted AS w
         WHERE w.member = w.root AND w.hangs
           AND NOT EXISTS (SELECT FROM missing AS m WHERE m.root = w.root)
           AND ((w.watch).payload IS NULL OR EXISTS (SELECT FROM pg_proc AS p WHERE p.oid = (w.watch).payload))
           AND w.prosrc <> rowcast.trigger_body(w.watch, w.operation)
         GROUP BY w.root
        UNION ALL
        SELECT DISTINCT t.tgrelid::regclass::text, 'detached', 'no part of a watched table any more; its triggers do nothing'
          FROM ours AS t WHERE t.tgrelid NOT IN (SELECT member FROM family)
        UNION ALL
        SELECT w.relation::oid::text, 'dropped', format('the table of %L is gone', w.type)
          FROM rowcast.watches AS w WHERE NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = w.relation)
    )
    SELECT f.relation, f.kind, f.detail FROM found AS f ORDER BY f.relation, f.kind
$$;

-- Gives new partitions and children their triggers, and takes them from detached ones, as far as the caller has the
-- rights of the tables' owners. Returns how many tables it mended; one that is locked waits for the next call.
--
-- What was written to a partition by its own name before it had the triggers was not sent; so where it has rows, or a
-- detached one took rows away, the generation is raised. The lock for the trigger lets no writer in between.
CREATE FUNCTION rowcast.repair() RETURNS integer
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
DECLARE
    target  record;
    one     record;
    visible boolean;
    mended  int := 0;
BEGIN
    FOR target IN
        SELECT d.kind, c.oid::regclass AS member, c.relkind,
               (SELECT w.relation FROM rowcast.watches AS w WHERE c.oid IN (SELECT rowcast.family(w.relation)) LIMIT 1) AS root
          FROM rowcast.drift() AS d JOIN pg_class AS c ON c.oid = to_regclass(d.relation)
         WHERE d.kind IN ('partition', 'detached') AND pg_has_role(c.relowner, 'USAGE')
    LOOP
        BEGIN
            EXECUTE format('LOCK TABLE ONLY %s IN SHARE ROW EXCLUSIVE MODE', target.member);
            visible := target.relkind = 'p';
            IF target.relkind = 'r' THEN
                IF row_security_active(target.member) THEN
                    visible := true;
                ELSE
                    EXECUTE format('SELECT EXISTS (SELECT FROM ONLY %s)', target.member) INTO visible;
                END IF;
            END IF;
            IF target.kind = 'detached' THEN
                FOR one IN
                    SELECT t.tgname FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
                     WHERE t.tgrelid = target.member AND p.pronamespace = 'rowcast_triggers'::regnamespace
                LOOP
                    EXECUTE format('DROP TRIGGER %I ON %s', one.tgname, target.member);
                END LOOP;
            ELSE
                FOR one IN
                    SELECT substr(t.tgname, 9) AS operation, p.proname
                      FROM pg_trigger AS t JOIN pg_proc AS p ON p.oid = t.tgfoid
                     WHERE t.tgrelid = target.root AND t.tgname LIKE 'rowcast\_%' AND p.pronamespace = 'rowcast_triggers'::regnamespace
                LOOP
                    PERFORM rowcast.hang_trigger(target.member, one.operation, one.proname);
                END LOOP;
            END IF;
            IF visible THEN
                PERFORM rowcast.request_raise(format('%s was %s', target.member,
                    CASE target.kind WHEN 'detached' THEN 'detached' ELSE 'attached' END));
            END IF;
            mended := mended + 1;
        EXCEPTION WHEN lock_not_available OR insufficient_privilege OR undefined_table THEN
            RAISE NOTICE 'rowcast: % was not mended: %', target.member, SQLERRM;
        END;
    END LOOP;
    RETURN mended;
END
$$;

REVOKE EXECUTE ON FUNCTION rowcast.drift(), rowcast.repair() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION rowcast.drift(), rowcast.repair() TO rowcast_watcher, rowcast_listener;
-- What these call. The listener looks; to mend, it needs the rights of the tables' owners besides.
GRANT EXECUTE ON FUNCTION
    rowcast.family(regclass), rowcast.difference_of(regclass, text, text, text), rowcast.same_key(regclass, text, text, text),
    rowcast.transition_column(regclass, text), rowcast.under_own_names(text[], text), rowcast.key_columns_of(rowcast.watches, text),
    rowcast.trigger_source(rowcast.watches, text, regproc, text), rowcast.trigger_statement(rowcast.watches, text, regproc, text),
    rowcast.trigger_place(rowcast.watches), rowcast.trigger_work(rowcast.watches, text, regproc), rowcast.trigger_body(rowcast.watches, text),
    rowcast.hang_trigger(regclass, text, text)
    TO rowcast_listener;
